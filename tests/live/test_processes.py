"""The processes of a session: who is whose child, and who holds which socket."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from harness.core.deadline import Deadline, wait_until
from harness.session import processes
from harness.session.processes import Process
from harness.session.session import Session

FOUND = {
    process.pid: process
    for process in (
        Process(10, 1, "systemd", "/lib/systemd/systemd --user", {0: "/dev/null", 20: "socket:[77]"}),
        Process(30, 10, "conmon", "/usr/bin/conmon", {3: "socket:[77]"}),
        Process(31, 30, "python3", "", {}),
        Process(20, 10, "dbus-daemon", "/usr/bin/dbus-daemon", {3: "socket:[7]"}),
    )
}


def test_who_holds_a_socket() -> None:
    """By its inode, the whole of it: 7 is not 77."""
    assert [process.name for process in FOUND.values() if process.holds(77)] == ["systemd", "conmon"]
    assert [process.name for process in FOUND.values() if process.holds(7)] == ["dbus-daemon"]


def test_the_tree() -> None:
    """Each below its parent, by number, with its descriptors; a process without arguments is shown as such."""
    assert processes.tree(FOUND) == (
        "10 /lib/systemd/systemd --user  [0=/dev/null, 20=socket:[77]]\n"
        "  20 /usr/bin/dbus-daemon  [3=socket:[7]]\n"
        "  30 /usr/bin/conmon  [3=socket:[77]]\n"
        "    31 (kernel or zombie)  []\n"
    )


def test_a_session(harness_session: Session) -> None:
    """Its manager is among the processes; this one, which is not in its cgroup, is not."""
    found = processes.processes(harness_session)
    assert "systemd" in {process.name for process in found.values()}
    assert os.getpid() not in found


def test_one_process() -> None:
    """This one, which holds a socket."""
    with socket.socket() as own:
        inode = os.fstat(own.fileno()).st_ino
        process = processes._process(os.getpid())
        assert process.holds(inode)
    assert process.parent == os.getppid()
    assert process.name == Path("/proc/self/comm").read_text(encoding="utf-8").strip()


def test_a_program_in_memory() -> None:
    """OCI runtimes start a copy of themselves in memory; its name is that of its program all the same."""
    copy = os.memfd_create("crun_cloned")
    os.write(copy, Path("/usr/bin/sleep").read_bytes())
    with subprocess.Popen(["/a/program", "60"], executable=f"/proc/self/fd/{copy}", pass_fds=[copy]) as program:
        try:
            # Popen returns when the kernel has closed our pipe, a moment before it gives the process its name.
            wait_until(
                lambda: Path(f"/proc/{program.pid}/comm").read_text(encoding="utf-8").strip(),
                lambda named: named in (str(copy), "memfd:crun_clon"),
                Deadline.after(5),
                "what the kernel calls the program, by its version",
            )
            assert processes._process(program.pid).name == "program"
        finally:
            program.kill()
            os.close(copy)
