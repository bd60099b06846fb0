"""The process that owns one guest from outside: it starts the guest, and ends it when the harness ends.

Run as `python -I -S FOLDER guest_supervisor`, with one end of a SOCK_SEQPACKET pair as standard input. It is sent JSON
objects: first `{"folder": ..., "cgroup_parent": ...}`, then, once, what to start. It answers `{"ready": true}`, then
`{"ended": STATUS}` when the guest has ended, or `{"error": ...}`. When the harness closes its end, which the kernel
does when the harness is killed, it kills the guest with all of its processes and removes the exchange folder. Where it
is killed itself, a process outside of its tree does that (`cleaner`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any, NoReturn, cast

import cgroups  # type: ignore[import-not-found,unused-ignore]
import cleaner  # type: ignore[import-not-found,unused-ignore]
import syscalls  # type: ignore[import-not-found,unused-ignore]

#: Longest end of an ordinary user's guest, in seconds.
KILL_LIMIT_S = 5.0

Message = dict[str, Any]


def answer(message: Message) -> None:
    """Tell the harness; it may have gone."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(0)) as harness:
        harness.send(json.dumps(message).encode())


def receive() -> Message | None:
    """Return the harness's next message, or None when it has gone."""
    try:
        text = os.read(0, 1 << 20)
    except OSError:
        return None
    return cast("Message", json.loads(text)) if text else None


def protect(start: Message) -> None:
    """As root, let the guest's processes see all of the machine read-only but for the exchange folder.

    The guest mounts it read-only anyway; this holds even against the guest's own root. Its memory goes to a tmpfs of
    its own, which ends with it and is large enough wherever the machine's /dev/shm is not.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount(start["folder"], start["folder"], flags=syscalls.MS_BIND)
    syscalls.make_read_only("/", but=start["folder"])
    size = f"size={start['memory_mb'] + 256}m,mode=1777"
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, size)


def become(start: Message, parent: int) -> NoReturn:
    """Become the guest's program; never return."""
    try:
        os.setsid()  # a kernel that panics signals its whole process group
        syscalls.die_with(parent)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if start["pinned"]:
            processors = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {processors[start["supervisor"] % len(processors)]})  # two guests rarely on one
        console = os.open(f"{start['folder']}/console", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(console, 1)
        os.dup2(console, 2)
        os.closerange(3, 256)
        os.chdir("/")
        os.execve(start["argv"][0], start["argv"], start["env"])
    except BaseException as error:  # the forked child must never return into the parent's code
        os.write(2, f"supervisor: {error}\n".encode())
    os._exit(127)


def first_process(start: Message, parent: int) -> NoReturn:
    """Be process 1 of a namespace: its end, or that of the supervisor, is the end of everything in it."""
    try:
        syscalls.die_with(parent)
        if os.getuid() == 0:
            protect(start)
        own = os.pidfd_open(os.getpid())
        main_process = os.fork()
        if main_process == 0:
            become(start, own)
        while True:
            pid, status = os.wait()
            if pid == main_process:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
    except BaseException as error:
        os.write(2, f"supervisor: {error}\n".encode())
    os._exit(127)


def launch(start: Message, cgroup: str) -> int:
    """Start the guest; return its first process."""
    if os.getuid() == 0:
        syscalls.unshare(syscalls.CLONE_NEWPID)  # for the child; this process stays where it can clean up
    own = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        if cgroup:
            cgroups.join(cgroup)
        first_process(start, own)
    os.close(own)
    return pid


def end(pid: int) -> None:
    """Kill the guest; helpers of an ordinary user's have become children of this process, their adopter."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + KILL_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = [int(number) for number in children_of(os.getpid())]
        if not children:
            return
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def children_of(pid: int) -> list[str]:
    """Return the children of a process; see proc_pid_task_tid_children(5), which every distribution's kernel has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return []


def keep(cgroup: str) -> None:
    """Start what the harness asks for, say when it ends, return when the harness has gone."""
    start = receive()
    if start is None:
        return
    child = launch(start | {"supervisor": os.getpid()}, cgroup)
    try:
        ended = os.pidfd_open(child)
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        poll.register(ended, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _event in poll.poll()}
            if 0 in ready and receive() is None:
                return
            if ended in ready:
                poll.unregister(ended)
                _pid, status = os.waitpid(child, 0)
                child = 0
                answer({"ended": os.waitstatus_to_exitcode(status)})
    finally:
        if child:
            end(child)


def remove(cgroup: str, folder: str) -> None:
    """Remove what there is of a guest from outside."""
    if cgroup:
        cgroups.remove(cgroup)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Own the exchange folder, the cgroup and the guest, each up to the harness's end."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    first = receive()
    if first is None:
        return 0
    folder, cgroup = first["folder"], ""
    if first["cgroup_parent"]:
        cgroup = f"{first['cgroup_parent']}/{cgroups.name_of(os.getpid())}"
    # Before the first child: an orphan of later ones would be ours, and not the machine's.
    call_off = cleaner.clean_after(lambda: remove(cgroup, folder))
    syscalls.adopt_orphans()
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        lock = os.open(f"{folder}/lock", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)  # up to this process's end; tells `sweep` that the owner lives
        if cgroup:
            os.mkdir(cgroup, 0o755)
        answer({"ready": True})
        keep(cgroup)
    except OSError as error:
        answer({"error": str(error)})
        receive()
    finally:
        remove(cgroup, folder)
        call_off()
    return 0
