"""The documented command for an image of one's own, `pytest suites/ --harness-contract DIR`, over all of the suites."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from harness.activation import Activation, activations, activations_for
from harness.battery.promises import PROMISES, promises
from harness.capabilities.table import Capabilities
from harness.contract import Contract, load
from harness.core.transports import Transport
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


def capable() -> list[Activation]:
    """Return the activations that the machine is capable of."""
    return [way for way in activations().values() if all(map(Capabilities().has, way.needs))]


def of_every_case(contract: Contract, ways: Iterable[Activation]) -> set[str]:
    """Return the tests of an image with one socket over tcp4, those of the battery among them."""
    name, found = contract.name, set()
    for way in ways:
        found |= {f"{test}[{name}-{way.name}-tcp4]" for test in OF_EVERY_CASE}
        for promise, _selected, _transport in promises(contract, way, tuple(Transport), frozenset()):
            socket = "-tcp4" if PROMISES[promise].each_socket else ""
            found.add(f"test_promise[{name}-{way.name}{socket}-{promise}]")
    return found


@pytest.mark.parametrize("kind", sorted(path.parent.name for path in STRANGERS.glob("*/contract.toml")))
def test_an_image_that_no_suite_knows(kind: str, built: Callable[[Path], Image], tmp_path: Path) -> None:
    """All that runs is about that image or about none, and is green."""
    contract = load(STRANGERS / kind)
    built(STRANGERS / kind)
    # By each activation where the image is the plainest, and by one where what is asked differs.
    chosen = {way.name: way for way in capable() if kind == "bytes" or way.name == "unit"}
    options = [f"--harness-contract={STRANGERS / kind}", f"--harness-activation={','.join(chosen)}"]
    run = run_pytest(tmp_path, "suites/", *options, "-n2")
    assert run.status == 0, run.output
    assert set(run.outcomes) == of_every_case(contract, activations_for(contract, chosen).values()) | OF_NO_IMAGE
    waived = tuple(f"-{promise}]" for promise in contract.promises)
    kept = {outcome for name, outcome in run.outcomes.items() if not (waived and name.endswith(waived))}
    assert kept == {"passed"}, run.texts
    assert "harness: deselected tests that need the contracts cups, dbus-daemon, echo, " in run.output


def test_an_image_whose_program_aborts(built: Callable[[Path], Image], tmp_path: Path) -> None:
    """Each client is answered, and by another container than the one before: red by that, whatever activates it."""
    folder = REPOSITORY / "tests" / "broken" / "aborts"
    built(folder)
    run = run_pytest(tmp_path, "suites/", f"--harness-contract={folder}", "-n2")
    assert run.status == pytest.ExitCode.TESTS_FAILED, run.output
    assert "aborts by unit: broke " in run.output
    first = {name for name in of_every_case(load(folder), capable()) if name.startswith("test_reply[")}
    assert {name for name in first if run.outcomes[name] == "failed"} == first
    for name in first:
        assert re.search(r"the program ended with status 13\d after its first reply\.$", run.texts[name], re.MULTILINE)
    assert all("[aborts-" in name for name in run.texts)
