"""What a container holds at one moment, as the kernel counts it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.session.processes import Process


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts over all processes of a container."""

    processes: int
    zombies: int
    descriptors: int
    #: Memory of its own that is in RAM, in bytes: RssAnon of proc(5).
    memory: int


def usage(inside: Mapping[int, Process]) -> Usage:
    """Return what the processes of a container hold."""
    told = [facts for pid in inside if (facts := _status(pid))]
    memory = sum(int(facts.get("RssAnon", "0 kB").split()[0]) * 1024 for facts in told)
    descriptors = sum(process.opened for process in inside.values())
    return Usage(len(inside), sum(map(_zombies, inside)), descriptors, memory)


def _zombies(pid: int) -> int:
    """Return how many children of a process have ended and wait for it; no cgroup lists them."""
    states = (_status(child).get("State", "") for child in _children(pid))
    return sum(state.startswith("Z") for state in states)


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path("/proc", str(pid), "task").iterdir():
            yield from map(int, (thread / "children").read_text(encoding="ascii").split())


def _status(pid: int) -> dict[str, str]:
    """Return the lines of /proc/PID/status; {} once the process is gone."""
    with contextlib.suppress(OSError):
        text = Path("/proc", str(pid), "status").read_text(encoding="utf-8", errors="replace")
        pairs = (line.partition(":") for line in text.splitlines())
        return {name: value.strip() for name, _colon, value in pairs}
    return {}
