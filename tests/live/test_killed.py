"""Nothing outlives a run, however it ends: SIGKILL of pytest or of a worker, Ctrl-C, two runs at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.images.store import Image
from harness.runtime import leaks
from tests.helpers.processes import DEFAULT_SIGNALS
from tests.helpers.runs import REPOSITORY, environment, run_pytest
from tests.helpers.sessions import isolated
from tests.machines.kills import left_after

#: How long a killed run may take to be gone, in seconds.
GONE_S = 20.0

#: How long a run may take to have a container, in seconds; its session and its image come first.
RUNNING_S = 60.0


@pytest.fixture(autouse=True)
def echo_image(built: Callable[[str], Image]) -> Image:
    """The image that every run here needs, so that none of them builds it."""
    return built("containers/echo")


def children(pid: int) -> list[int]:
    """Return the process `pid` and all its descendants."""
    found = [pid]
    for folder in Path("/proc", str(pid), "task").glob("*"):
        with suppress(OSError):
            for child in (folder / "children").read_text(encoding="ascii").split():
                found.extend(children(int(child)))
    return found


def sessions_of(pid: int) -> set[str]:
    """Return the names of the sessions whose supervisors descend from `pid`."""
    family = set(children(pid))
    return {
        remnant.session for remnant in leaks.find() if remnant.session and int(remnant.session.split("-")[1]) in family
    }


def containers_of(names: set[str]) -> set[str]:
    """Return those of the sessions in which a container runs right now."""
    return {item.session for item in leaks.find() if item.session in names and "/echo.py" in item.what}


@contextmanager
def running(folder: Path, *arguments: str, sessions: int) -> Iterator[tuple[subprocess.Popen[bytes], set[str]]]:
    """Start the replies' suite and wait until containers run in that many sessions of it; yield it and their names."""
    command = [
        *DEFAULT_SIGNALS,
        *(sys.executable, "-m", "pytest", "suites/test_replies.py", "-k", "echo and unit", "-p", "no:cacheprovider"),
        *(f"--harness-artifacts-dir={folder}", *arguments),
    ]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            names = wait_until(
                lambda: sessions_of(process.pid) if process.poll() is None else pytest.fail("the run ended too early"),
                lambda names: len(names) >= sessions and bool(containers_of(names)),
                Deadline.after(RUNNING_S),
                f"containers in {sessions} sessions",
            )
            yield process, names
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def assert_gone(names: set[str], mounts: str) -> None:
    """Wait until nothing of the sessions is left, and see that the machine's mounts are as they were."""
    assert names
    wait_until(
        lambda: [remnant for remnant in leaks.find() if remnant.session in names],
        lambda left: not left,
        Deadline.after(GONE_S),
        "the sessions of a killed run to be gone",
    )
    assert machine_mounts() == mounts


def machine_mounts() -> str:
    """Return what is mounted on the machine, outside every session."""
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_sigkill_of_pytest_leaves_nothing(tmp_path: Path) -> None:
    """The kernel closes the run's end of the channel, and the supervisor ends the session."""
    mounts = machine_mounts()
    with running(tmp_path, "-n0", sessions=1) as (process, names):
        process.kill()
        process.wait()
        assert_gone(names, mounts)


def test_sigkill_of_pytest_and_its_workers_leaves_nothing(tmp_path: Path) -> None:
    """The same for the sessions of two workers that are killed with the controller."""
    mounts = machine_mounts()
    with running(tmp_path, "-n2", sessions=2) as (process, names):
        supervisors = {int(name.split("-")[1]) for name in names}
        for pid in children(process.pid):
            if pid not in supervisors and not supervisors.intersection(ancestors(pid)):
                with suppress(ProcessLookupError):  # a client that has ended meanwhile
                    os.kill(pid, signal.SIGKILL)
        process.wait()
        assert_gone(names, mounts)


@isolated
@pytest.mark.parametrize("moment_s", [0.7, 1.9, 3.1, 4.5, 6.5, 9.0])
def test_sigkill_of_all_at_once_leaves_nothing(moment_s: float) -> None:
    """Its supervisors, containers and guest are killed with the run; `python -m tests.machines.kills` tries more."""
    assert left_after(moment_s) == []


def test_a_killed_worker_takes_its_session_along(tmp_path: Path) -> None:
    """xdist replaces a worker that was killed; its session is gone, the others go on."""
    mounts = machine_mounts()
    with running(tmp_path, "-n2", sessions=2) as (process, names):
        victim = sorted(names)[0]
        worker = ancestors(int(victim.split("-")[1]))[0]
        assert worker != process.pid
        os.kill(worker, signal.SIGKILL)
        assert_gone({victim}, mounts)
        assert process.wait(timeout=120) == 1
    assert_gone(names, mounts)


def test_ctrl_c_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    """SIGINT goes to the whole group of processes, as from a terminal; the status is pytest's for an interruption."""
    mounts = machine_mounts()
    with running(tmp_path, "-n0", sessions=1) as (process, names):
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == pytest.ExitCode.INTERRUPTED
        assert_gone(names, mounts)


def test_two_runs_at_the_same_time_are_both_green(tmp_path: Path) -> None:
    """Two runs share the images, and nothing else: both use port 3000."""
    with running(tmp_path / "first", "-n0", sessions=1) as (process, _names):
        (tmp_path / "second").mkdir()
        second = run_pytest(tmp_path / "second", "suites/test_replies.py", "-k", "echo and unit and not vsock")
        assert second.status == 0, second.output
        assert set(second.outcomes.values()) == {"passed"}
        assert process.wait(timeout=120) == 0


def ancestors(pid: int) -> list[int]:
    """Return the parents of a process, the nearest first."""
    found = []
    with suppress(OSError, IndexError):
        while pid > 1:
            pid = int(Path("/proc", str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            found.append(pid)
    return found
