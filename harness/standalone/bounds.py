"""What a session may take of the machine: its memory, its processes, its processors, and what it prints.

Only the standard library, since the supervisor imports this before it has any packages.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

import cgroups  # type: ignore[import-not-found,unused-ignore]
import syscalls  # type: ignore[import-not-found,unused-ignore]

#: Controller -> the file of its limit in version 1 and in version 2, see cgroups(7).
LIMITS = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max", "pids.max"),
    "cpu": ("cpu.shares", "cpu.weight"),
}

#: A session has the processor's time of one process, however many it starts; what is measured has it to itself anyway.
_SHARES = {"cpu.shares": 1024, "cpu.weight": 100}

#: What is said of swap; not every kernel counts it.
_SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")

#: How often a session's output is looked at, in seconds.
_LOOK_S = 0.02


def bound(folder: str, limits: dict[str, int]) -> dict[str, str]:
    """Bound what will be in a new cgroup of version 2; return controller -> the folder that counts for it.

    `limits` are controller -> number. A machine with version 1 besides has a group of its own there, of the same name.
    What the machine can't bound is left out.
    """
    found = {}
    older = dict(cgroups.of_version_1())
    for controller, (first, second) in LIMITS.items():
        limit = limits.get(controller, 0)
        if controller in older:
            group = f"{older[controller]}/{os.path.basename(folder)}"
            with contextlib.suppress(OSError):
                os.mkdir(group, 0o755)
                _write(f"{group}/{first}", limit or _SHARES[first])
                found[controller] = group
        else:
            with contextlib.suppress(OSError):
                parent = os.path.dirname(folder)
                # Groups below one that has processes may take none then, see "Threads" in the kernel's cgroup-v2.rst;
                # the root is free of that rule.
                if not os.path.exists(f"{folder}/{second}") and not _has_processes(parent):
                    _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
                _write(f"{folder}/{second}", limit or _SHARES[second])
                found[controller] = folder
            if controller not in found and (scope := _scope(second)):
                found[controller] = scope
    for name, value in zip(_SWAP, (limits["memory"], 0), strict=True):
        # A scope's files are systemd's, which has bounded its swap already.
        with contextlib.suppress(OSError):
            if os.path.exists(f"{found.get('memory')}/{name}"):
                _write(f"{found['memory']}/{name}", value)
    return found


def _has_processes(folder: str) -> bool:
    """Whether a group other than the root has processes of its own."""
    if not os.path.exists(f"{folder}/cgroup.type"):
        return False
    with open(f"{folder}/cgroup.procs", encoding="ascii") as file:
        return bool(file.read(1))


def _scope(limit: str) -> str:
    """Return the group of this process, where systemd has set a limit of it, as of a scope; "" elsewhere."""
    own = cgroups.own()
    with contextlib.suppress(OSError), open(f"{own}/{limit}", encoding="ascii") as file:
        return "" if file.read().strip() == "max" else own
    return ""


def _write(file: str, value: int | str) -> None:
    with open(file, "w", encoding="ascii") as opened:
        opened.write(str(value))


def trim_for_ever(files: list[str], kept: int) -> None:
    """Keep the first and the last `kept` bytes of what is printed, and free the rest, until the process ends.

    `files` are folders of files, and files. What is left out is a hole: a file's size still tells all that was printed.
    """
    while True:
        for path in files:
            with contextlib.suppress(OSError):
                for name in os.listdir(path) if os.path.isdir(path) else [""]:
                    with contextlib.suppress(OSError):
                        _trim(os.path.join(path, name) if name else path, kept)
        time.sleep(_LOOK_S)


def _trim(path: str, kept: int) -> None:
    """Make a hole in a file; the account may have put anything in its place, so that only a plain one of its is."""
    told = os.lstat(path)
    if not stat.S_ISREG(told.st_mode) or told.st_blocks * 512 <= 3 * kept:
        return
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        told = os.fstat(file)
        if stat.S_ISREG(told.st_mode) and told.st_nlink == 1:
            syscalls.punch_hole(file, kept, told.st_size - 2 * kept)
    finally:
        os.close(file)


def remove(folder: str) -> None:
    """Remove the groups of version 1 that belong to a session's cgroup, in which nothing runs any more."""
    for _controller, group in cgroups.of_version_1():
        cgroups.remove(f"{group}/{os.path.basename(folder)}")
