"""The documented command for an image of one's own, `pytest suites/ --harness-contract DIR`, over all of the suites."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.activation import activations
from harness.capabilities.table import Capabilities
from harness.contract import load
from harness.images.store import Image
from tests.helpers.runs import REPOSITORY, run_pytest

STRANGERS = REPOSITORY / "tests" / "stranger"

#: Tests of the suites that need no image.
OF_NO_IMAGE = frozenset(
    {
        "test_the_addresses_are_the_tutorials",
        "test_the_socket_is_the_tutorials",
        "test_the_first_client_starts_the_service",
        "test_the_service_stops_when_idle_and_starts_again",
    }
)

#: Tests of every image, once by each activation and over each transport.
OF_EVERY_CASE = ("test_reply", "test_reply_again", "test_timeline")


def of_every_case(name: str) -> set[str]:
    """Return the tests of an image with one socket over tcp4, by all activations that the machine is capable of."""
    capable = [way for way, activation in activations().items() if all(map(Capabilities().has, activation.needs))]
    return {f"{test}[{name}-{way}-tcp4]" for test in OF_EVERY_CASE for way in capable}


@pytest.mark.parametrize("kind", sorted(path.parent.name for path in STRANGERS.glob("*/contract.toml")))
def test_an_image_that_no_suite_knows(kind: str, built: Callable[[Path], Image], tmp_path: Path) -> None:
    """All that runs is about that image or about none, and is green."""
    contract = load(STRANGERS / kind)
    built(STRANGERS / kind)
    run = run_pytest(tmp_path, "suites/", f"--harness-contract={STRANGERS / kind}")
    assert run.status == 0, run.output
    assert set(run.outcomes) == of_every_case(contract.name) | OF_NO_IMAGE
    assert set(run.outcomes.values()) == {"passed"}, run.texts
    assert "harness: deselected tests that need the contracts cups, dbus-daemon, echo, " in run.output


def test_an_image_whose_program_aborts(built: Callable[[Path], Image], tmp_path: Path) -> None:
    """Each client is answered, and by another container than the one before: red by that, whatever activates it."""
    folder = REPOSITORY / "tests" / "broken" / "aborts"
    built(folder)
    run = run_pytest(tmp_path, "suites/", f"--harness-contract={folder}")
    assert run.status == pytest.ExitCode.TESTS_FAILED, run.output
    first = {name for name in of_every_case("aborts") if name.startswith("test_reply[")}
    assert {name for name in first if run.outcomes[name] == "failed"} == first
    for name in first:
        assert re.search(r"the program ended with status 13\d after its first reply\.$", run.texts[name], re.MULTILINE)
    assert all("[aborts-" in name for name in run.texts)
