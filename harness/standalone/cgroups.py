"""The cgroup of a session: its name tells whose it is, so that anybody can find and end what an owner left.

Only the standard library, since the supervisor imports this before it has any packages.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator

#: `harness-PID-STARTTIME-NAMESPACE` of the supervisor. The start time tells a new process with an old number apart; the
#: process namespace tells whose number it is, since a container's cgroups are seen from the machine, too.
_NAME = re.compile(r"^harness-(\d+)-(\d+)-(\d+)$")

#: The controllers that bound a session; version 1 has a hierarchy of groups for each.
CONTROLLERS = ("memory", "pids", "cpu")

#: A folder of this name in a session's cgroup says that the session is to outlive the harness.
KEPT = "kept"


def started(pid: int) -> str:
    """Return when a process started, in clock ticks since the boot, or "" if it runs no more; see proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def name_of(pid: int) -> str:
    """Return the name of the cgroup that the supervisor `pid` makes."""
    return f"harness-{pid}-{started(pid)}-{_namespace()}"


def _namespace() -> int:
    """Return the number of the caller's process namespace, see namespaces(7)."""
    return os.stat("/proc/self/ns/pid").st_ino


def owner_of(name: str) -> int | None:
    """Return the supervisor that a cgroup's name names, 0 if it has ended.

    None if the name is no session's, or one of another process namespace, of which nothing can be said from here.
    """
    match = _NAME.match(name)
    if match is None or int(match[3]) != _namespace():
        return None
    return int(match[1]) if started(int(match[1])) == match[2] else 0


def own() -> str:
    """Return the folder of the cgroup (version 2) that this process is in."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            number, _controllers, path = line.rstrip("\n").split(":", 2)
            if number == "0":
                return f"/sys/fs/cgroup{path}".rstrip("/")
    raise FileNotFoundError("this process is in no cgroup of version 2")


def of_version_1() -> Iterator[tuple[str, str]]:
    """Yield controller -> the folder of the group of version 1 that this process is in."""
    mounted = dict(_mounted())
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _number, controllers, path = line.rstrip("\n").split(":", 2)
            for name in controllers.split(","):
                if name in mounted:
                    root, target = mounted[name]
                    yield name, f"{target}{path.removeprefix(root)}".rstrip("/")


def _mounted() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield controller -> (root, mount point) of the hierarchies of version 1."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            before, _dash, after = line.partition(" - ")
            if after.startswith("cgroup "):
                _id, _parent, _device, root, target, *_rest = before.split()
                options = after.split()[2].split(",")
                yield from ((name, (root.rstrip("/"), target)) for name in CONTROLLERS if name in options)


def hierarchies() -> list[str]:
    """Return where sessions may have groups of version 1."""
    return [target for _name, (_root, target) in _mounted()]


def join(folder: str, pid: int = 0) -> None:
    """Move process `pid`, or the caller, into a cgroup."""
    with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(pid))


def processes(folder: str) -> list[int]:
    """Return the processes in a cgroup and below it."""
    found: list[int] = []
    for path, _folders, _files in os.walk(folder):
        with contextlib.suppress(OSError), open(f"{path}/cgroup.procs", encoding="ascii") as file:
            found.extend(int(line) for line in file.read().split())
    return found


def kill(folder: str) -> None:
    """Kill what is in a cgroup and below it, by one word to the kernel; one older than Linux 5.14 does not know it."""
    try:
        with open(f"{folder}/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        for pid in processes(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def remove(folder: str, limit_s: float = 5.0) -> bool:
    """Kill what is in a cgroup and remove it with all below it; return whether it is gone within the limit."""
    deadline = time.monotonic() + limit_s
    kill(folder)
    while os.path.isdir(folder):
        for path, _folders, _files in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
