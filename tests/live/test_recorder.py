"""results.json as runs write it: every outcome, who is to blame, and the exit status that follows from it."""

from __future__ import annotations

import pytest

from harness.core.errors import INFRASTRUCTURE
from harness.images.store import Image
from harness.results import record
from harness.results.record import Outcome, Results
from tests.helpers.runs import ECHO, run_inner

OUTCOMES = """
import pytest
from harness.core.errors import ProbeFailed, SessionError

@pytest.fixture
def broken_before(): raise SessionError("No session could be made.")

@pytest.fixture
def broken_after():
    yield
    raise SessionError("The session could not be ended.")

@pytest.mark.harness_verifies("The container answers.")
def test_passes(): pass
def test_fails(): raise ProbeFailed("The reply never came.")
def test_is_wrong(): assert 1 == 2
def test_skips(): pytest.skip("not today")
def test_cannot_begin(broken_before): pass
def test_cannot_end(broken_after): pass
@pytest.mark.xfail(strict=True, reason="a known bug")
def test_known(): assert False
@pytest.mark.harness_requires("socat")
def test_needs_socat(): pass
"""

MACHINE = """
from harness.core.errors import SessionError
def test_it(): raise SessionError("No session could be made.")
def test_fine(): pass
"""

IMAGE = """
from harness.core.errors import ProbeFailed
def test_it(): raise ProbeFailed("The reply never came.")
"""


def results(inner: pytest.Pytester) -> Results:
    """Return what the inner run has written."""
    return record.read(inner.path / "harness-artifacts" / record.FILE_NAME)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_outcomes(inner: pytest.Pytester, workers: str) -> None:
    """One record per test, whatever its phases said, from xdist's workers as well."""
    inner.makepyfile(OUTCOMES)
    ended = run_inner(inner, "-n", workers)
    assert ended.status == 1, "two failures are not the machine's"
    found = {test.id.partition("::")[2]: test for test in results(inner).tests}
    assert {name: str(test.outcome) for name, test in found.items()} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_is_wrong": "failed",
        "test_skips": "skipped",
        "test_cannot_begin": "error",
        "test_cannot_end": "error",
        "test_known": "skipped",
        "test_needs_socat": "passed",
    }
    blamed = {name: test.blame for name, test in found.items() if test.blame}
    assert blamed == {"test_fails": "image", "test_cannot_begin": "machine", "test_cannot_end": "machine"}
    assert "The reply never came." in found["test_fails"].message
    assert "assert 1 == 2" in found["test_is_wrong"].message
    assert found["test_skips"].message == "Skipped: not today"
    assert "The session could not be ended." in found["test_cannot_end"].message
    assert found["test_passes"].claim == "The container answers."
    assert found["test_passes"].message == ""


#: The image fails, and then the session can't be ended either.
IMAGE_FIRST = """
import pytest
from harness.core.errors import ProbeFailed, SessionError

@pytest.fixture
def broken_after():
    yield
    raise SessionError("The session could not be ended.")

def test_it(broken_after): raise ProbeFailed("The reply never came.")
"""


@pytest.mark.parametrize(
    ("source", "status"),
    [
        (MACHINE, INFRASTRUCTURE),
        (IMAGE, 1),
        (MACHINE + IMAGE.replace("test_it", "test_other"), 1),
        (IMAGE_FIRST, 1),
    ],
    ids=["the machine", "the image", "both", "the image, and then the machine"],
)
def test_the_exit_status_tells_whose_fault_it_is(inner: pytest.Pytester, source: str, status: int) -> None:
    """Only where nothing speaks against an image, the status is that of an infrastructure error."""
    inner.makepyfile(source)
    assert run_inner(inner, "-n0").status == status


def test_the_first_failure_of_a_test_counts(inner: pytest.Pytester) -> None:
    """What went wrong while cleaning up does not hide why the test failed."""
    inner.makepyfile(IMAGE_FIRST)
    run_inner(inner, "-n0")
    (test,) = results(inner).tests
    assert (test.outcome, test.blame) == (Outcome.FAILED, "image")
    assert "The reply never came." in test.message


def test_a_case_and_its_bundle(inner: pytest.Pytester, echo_image: Image) -> None:
    """The record names the case, and the folder of the bundle as seen from the file."""
    inner.makepyfile("def test_it(harness_service, harness_case): assert not harness_service")
    given = (f"--harness-contract={ECHO}", "--harness-transports=udp6", "--harness-activation=generate")
    run_inner(inner, *given, "-n0")
    (test,) = results(inner).tests
    assert test.case == record.Case(contract="echo", activation="generate", transport="udp6")
    assert (inner.path / "harness-artifacts" / test.bundle / "units.txt").is_file()
    environment = results(inner).environment
    assert {"python", "systemd", "podman"} <= set(environment.versions)
    assert environment.strict is False


def test_where_the_file_goes(inner: pytest.Pytester) -> None:
    """--harness-results names another file, and the run says which."""
    inner.makepyfile("def test_it(): pass")
    ended = run_inner(inner, "--harness-results=elsewhere/r.json")
    assert [test.outcome for test in record.read(inner.path / "elsewhere/r.json").tests] == [Outcome.PASSED]
    assert f"harness: results in {inner.path}/elsewhere/r.json" in ended.output


def test_a_file_that_cannot_be_written(inner: pytest.Pytester) -> None:
    """The run is not green, and says why."""
    inner.makepyfile("def test_it(): pass")
    ended = run_inner(inner, "--harness-results=/proc/r.json")
    assert ended.status != 0
    assert "The results '/proc/r.json' can't be written" in ended.output


def test_a_folder_that_cannot_be_written_to(inner: pytest.Pytester) -> None:
    """A run that asked for no file is what its tests are, and says why there is none."""
    inner.makepyfile("def test_it(): pass")
    ended = run_inner(inner, "--harness-artifacts-dir=/proc/nowhere")
    assert ended.status == 0
    assert "harness: The results '/proc/nowhere/results.json' can't be written" in ended.output


def test_nothing_is_written_where_nothing_ran(inner: pytest.Pytester) -> None:
    """Listing tests leaves the results of the last run alone."""
    inner.makepyfile("def test_it(): pass")
    run_inner(inner, "--collect-only")
    assert not (inner.path / "harness-artifacts").exists()
