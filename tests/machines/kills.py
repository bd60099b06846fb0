"""SIGKILL of a run with all of its descendants at one moment, and what is left of it ten seconds later.

    python -m tests.machines.kills [COUNT]

kills that many runs, each at a random moment of its first 12 s, and prints what was left after each.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import WaitTimeout
from harness.runtime import leaks
from tests.helpers.processes import DEFAULT_SIGNALS
from tests.helpers.runs import REPOSITORY, environment

#: The moments that are tried, in seconds after the start; and how long a killed run may take to be gone.
LONGEST_S, GONE_S = 12.0, 10.0

#: A session with containers in each of two workers, and a guest.
COMMAND = (
    *(sys.executable, "-m", "pytest", "suites/test_replies.py", "-n2", "-p", "no:cacheprovider"),
    *("-k", "echo and unit and (tcp4 or vsock)"),
)

#: A process is known by its number and when it was started: numbers come again.
Identity = tuple[int, str]


def _identity(pid: int) -> Identity | None:
    with suppress(OSError, IndexError):
        text = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return None if fields[0] == "Z" else (pid, fields[19])
    return None


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path("/proc", str(pid), "task").glob("*"):
        with suppress(OSError):
            for child in (task / "children").read_text(encoding="ascii").split():
                found.extend(_family(int(child)))
    return found


def left_after(moment_s: float) -> list[str]:
    """Start a run, kill it as a whole at a moment, and return what is left of it after `GONE_S`."""
    before = {(remnant.kind, remnant.what) for remnant in leaks.find()}
    with tempfile.TemporaryDirectory() as folder:
        command = (*DEFAULT_SIGNALS, *COMMAND, f"--harness-artifacts-dir={folder}")
        variables = environment(PYTEST_ADDOPTS="--no-harness-bisect -p no:hypothesispytest")
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            due = Deadline.after(moment_s)
            with suppress(WaitTimeout):
                wait_until(run.poll, lambda status: status is not None, due, "the moment")
            killed = {identity for pid in _family(run.pid) if (identity := _identity(pid))}
            sessions = {f"harness-{pid}-" for pid, _start in killed}
            for pid, _start in killed:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        def look() -> list[str]:
            living = [f"process {pid}" for pid, start in killed if _identity(pid) == (pid, start)]
            remnants = [item for item in leaks.find() if (item.kind, item.what) not in before]
            # What has no session and an owner that lives is another run's.
            own = [
                item
                for item in remnants
                if (item.session.startswith(tuple(sessions)) if item.session else not item.alive)
            ]
            return living + [f"{item.kind} {item.what}" for item in own]

        with suppress(WaitTimeout):
            return wait_until(look, lambda left: not left, Deadline.after(GONE_S), "nothing to be left")
        return look()


def main() -> int:
    """Kill as many runs as the argument says; the status is 1 where one has left something."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    dice = random.Random(count)
    bad = 0
    for number in range(count):
        moment_s = dice.uniform(0, LONGEST_S)
        began = time.monotonic()
        left = left_after(moment_s)
        bad += bool(left)
        took_s = max(0.0, time.monotonic() - began - moment_s)
        sys.stdout.write(
            f"{number + 1:3} of {count}: killed after {moment_s:4.1f} s, gone in {took_s:4.1f} s {left or ''}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"{count - bad} of {count} left nothing\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
