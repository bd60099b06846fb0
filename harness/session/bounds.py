"""What a session may take of the machine, and what is said when something in it has taken all of that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True, slots=True)
class Bounds:
    """The one table of bounds; those of memory, disk and output in bytes. The defaults are for tests."""

    #: Of all its processes, and of what lies in its file systems in memory.
    memory: int = 2 * _GIB
    #: How many there may be at a time; threads count.
    pids: int = 1024
    #: Of one process.
    descriptors: int = 65536
    #: Of each of its writable file systems: what containers write is in one of them.
    disk: int = _GIB
    #: The first and the last so many that a unit prints are kept.
    output: int = 512 * _KIB

    @property
    def properties(self) -> tuple[str, ...]:
        """The settings of systemd.resource-control(5) that say the same."""
        return f"MemoryMax={self.memory}", "MemorySwapMax=0", f"TasksMax={self.pids}"

    def __str__(self) -> str:
        return (
            f"memory {size(self.memory)}, {self.pids} processes, {self.descriptors} descriptors each, "
            f"disk {size(self.disk)}, output {size(2 * self.output)}"
        )


#: Those of a session for tests, and of one that builds images.
TESTS = Bounds()
BUILDS = Bounds(memory=8 * _GIB, pids=8192, disk=8 * _GIB)


def size(count: int) -> str:
    """Return a number of bytes as a person writes it."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{count} bytes"


def ends(file: BinaryIO, since: int, kept: int) -> bytes:
    """Return what is in a file from a byte on; of more than twice `kept` the first and the last, and how much was left.

    The supervisor frees the rest, see `standalone/bounds.py`.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(min(since, end))
    if end - since <= 2 * kept:
        return file.read(2 * kept)
    first = file.read(kept)
    file.seek(end - kept)
    left_out = f"\n[{size(end - since - 2 * kept)} of output left out]\n".encode()
    return first.rstrip(b"\0") + left_out + file.read(kept)


@dataclass(frozen=True, slots=True)
class Hits:
    """How often a session has met its bounds so far."""

    #: Processes that were killed for memory.
    killed: int = 0
    #: Processes that were not started since there were too many.
    refused: int = 0
    #: Whether nothing more can be written by its containers.
    full: bool = False

    def since(self, before: Hits, bounds: Bounds) -> tuple[str, ...]:
        """Return what has happened since then, each as a clause."""
        found = {
            f"the memory limit of {size(bounds.memory)} has killed a process": self.killed > before.killed,
            f"the session has reached its limit of {bounds.pids} processes": self.refused > before.refused,
            f"the session's disk of {size(bounds.disk)} is full": self.full,
        }
        return tuple(clause for clause, is_so in found.items() if is_so)


def hits(bounded: Mapping[str, str], disks: Iterable[Path]) -> Hits:
    """Return how often bounds were met; `bounded` is controller -> folder of its cgroup."""
    killed = refused = 0
    if folder := bounded.get("memory"):
        killed = _count(f"{folder}/memory.oom_control", "oom_kill") or _count(f"{folder}/memory.events", "oom_kill")
    if folder := bounded.get("pids"):
        refused = _count(f"{folder}/pids.events", "max")
    return Hits(killed, refused, full=any(map(_is_full, disks)))


def _is_full(folder: Path) -> bool:
    """Whether no byte more can be written to a file system."""
    try:
        return os.statvfs(folder).f_bavail == 0
    except OSError:
        return False


def _count(file: str, key: str) -> int:
    """Return a number of a file of lines `KEY NUMBER`; 0 where there is none."""
    try:
        lines = dict(line.split(maxsplit=1) for line in Path(file).read_text(encoding="ascii").splitlines())
    except OSError:
        return 0
    return int(lines.get(key, 0))
