"""A guest's supervisor that is killed takes the guest along, at whatever moment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import standalone
from harness.core.deadline import Deadline, wait_until

FOLDER = Path(standalone.__file__).parent

#: A supervisor whose forked children ask for the signal of their parent's death only when the parent has gone.
LATE = f"""
import os, sys
sys.path.insert(0, {os.fspath(FOLDER)!r})
import guest_supervisor, syscalls
die_with = syscalls.die_with
def late(parent):
    os.write(2, b"forked\\n")
    syscalls.select.select([parent], [], [], 20)
    die_with(parent)
syscalls.die_with = late
guest_supervisor.main()
"""

#: How long a killed supervisor's guest may take to be gone, in seconds.
GONE_S = 10.0


def processes(mark: str) -> list[int]:
    """Return the processes that have `mark` among their arguments."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """An argument that only processes of this test have."""
    text = f"mark={tmp_path}"
    yield text
    for pid in processes(text):
        os.kill(pid, signal.SIGKILL)


def test_a_supervisor_killed_right_after_its_fork_leaves_no_guest(tmp_path: Path, mark: str) -> None:
    """The kernel sends no signal for a parent that ended before it was asked for one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.fspath(tmp_path / "exchange")
    argv = [sys.executable, "-c", "import signal; signal.pause()", mark]
    with (
        ours,
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", LATE, mark], stdin=theirs.fileno(), stderr=subprocess.PIPE
        ) as supervisor,
    ):
        theirs.close()
        ours.send(json.dumps({"folder": folder, "cgroup_parent": ""}).encode())
        assert json.loads(ours.recv(1000)) == {"ready": True}
        start = {"argv": argv, "env": {}, "folder": folder, "memory_mb": 64, "pinned": False}
        ours.send(json.dumps(start).encode())
        assert supervisor.stderr is not None
        assert supervisor.stderr.readline() == b"forked\n"
        found = processes(mark)
        supervisor.kill()
        assert len(found) == 3, "the supervisor, the guest, and the one that cleans up after both"
        supervisor.wait()
        wait_until(lambda: processes(mark), lambda left: not left, Deadline.after(GONE_S), "the guest to be gone")
    wait_until(Path(folder).exists, lambda there: not there, Deadline.after(GONE_S), "the exchange folder to be gone")
