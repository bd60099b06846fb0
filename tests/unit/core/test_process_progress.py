"""Long programs: where they are is told meanwhile, their output is whole, and their end is like that of short ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.core import progress
from harness.core.errors import CommandError
from harness.core.process import run_with_progress
from tests.helpers.processes import gone, shell


def test_progress_says_where_a_long_program_is() -> None:
    """The title, the seconds so far, the last line; the whole output is one stream, in its order."""
    said: list[str] = []
    script = "seq 1000; echo one; echo two >&2; sleep 0.8; echo three"
    done = run_with_progress(shell(script), timeout_s=10, title="build", progress=said.append, every_s=0.3)

    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"\n1000\none\ntwo\nthree\n")
    assert said[0] == "build (0 s): two"
    assert 1 <= len(said) <= 3


def test_a_quick_program_says_nothing() -> None:
    """Progress is for what takes long; no output is lost for that."""
    said: list[str] = []
    done = run_with_progress(shell("seq 100000"), timeout_s=30, title="x", progress=said.append)

    assert done.stdout.split() == [str(number).encode() for number in range(1, 100001)]
    assert said == []


def test_a_long_line_is_cut() -> None:
    """One line on a terminal, whatever a program prints."""
    said: list[str] = []
    run_with_progress(shell("printf '%0500d' 0; sleep 0.5"), timeout_s=10, title="x", progress=said.append, every_s=0.1)

    assert {len(line) for line in said} == {len("x (0 s): ") + 100}


@pytest.mark.parametrize(("ending", "status"), [("exit 4", 4), ("kill -KILL $$", -9)])
def test_a_long_program_that_fails(ending: str, status: int) -> None:
    """The error has the whole output."""
    with pytest.raises(CommandError) as caught:
        run_with_progress(shell(f"echo out; echo err >&2; {ending}"), timeout_s=10, title="x")

    assert (caught.value.status, caught.value.stdout) == (status, b"out\nerr\n")


def test_a_long_program_that_takes_too_long(tmp_path: Path) -> None:
    """It is killed at its limit, also while it prints without a pause."""
    started = time.monotonic()
    with pytest.raises(CommandError) as caught:
        run_with_progress(
            shell(f"echo $$ >{tmp_path}/pid; while :; do echo y; sleep 0.01; done"), timeout_s=0.5, title="x"
        )

    assert 0.5 <= time.monotonic() - started < 5
    assert (caught.value.status, caught.value.timeout_s) == (None, 0.5)
    assert caught.value.stdout.startswith(b"y\ny\n")
    assert gone(tmp_path / "pid")


def test_an_interrupted_person_leaves_no_program(tmp_path: Path) -> None:
    """Ctrl-C while the progress is told ends the program, too."""

    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_with_progress(
            shell(f"echo $$ >{tmp_path}/pid; exec sleep 60"), timeout_s=20, title="x", progress=interrupt, every_s=0.1
        )
    assert gone(tmp_path / "pid")


def test_a_long_program_that_is_not_there() -> None:
    """Status 127, as for a short one."""
    with pytest.raises(CommandError, match="could not be started"):
        run_with_progress(["/nowhere/program"], timeout_s=10, title="x")


def test_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is on standard error, marked as ours; standard output is for results."""
    progress.to_stderr("built")
    progress.silent("nothing")

    assert capsys.readouterr() == ("", "harness: built\n")
