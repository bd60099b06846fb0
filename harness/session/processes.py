"""The processes of a session, each with its descriptors, as `ps` and `lsof` would show them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.deadline import Deadline
from harness.session.session import Session

#: Processes of one cgroup, and descriptors of one process, that are looked at: a container may have any number, and
#: one that starts them without end makes each look slow. The last is the time for all, in seconds.
_PROCESSES, _LINKS, _LOOK_S = 512, 4096, 2.0

#: Characters of a name that the kernel keeps, see PR_SET_NAME in prctl(2).
_NAME_LENGTH = 15


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment; its numbers are the machine's, not those of the session's namespace."""

    pid: int
    parent: int
    #: Name of its program, 15 characters at most: `comm` of proc(5), but for programs in memory.
    name: str
    #: Its arguments, separated by spaces; empty for a zombie.
    command: str
    #: Number -> what the link below /proc says, such as `socket:[4711]`, of the lowest; empty where nobody may look.
    descriptors: Mapping[int, str]
    #: How many descriptors there are.
    opened: int = 0

    def holds(self, inode: int) -> bool:
        """Whether one of its descriptors is the socket with this inode."""
        return f"socket:[{inode}]" in self.descriptors.values()

    @property
    def sockets(self) -> frozenset[int]:
        """The inodes of its sockets."""
        links = (link for link in self.descriptors.values() if link.startswith("socket:["))
        return frozenset(int(link[8:-1]) for link in links)

    def __str__(self) -> str:
        links = ", ".join(f"{number}={link}" for number, link in self.descriptors.items())
        return f"{self.pid} {self.command or '(kernel or zombie)'}  [{links}]"


def processes(session: Session) -> dict[int, Process]:
    """Return the processes in the session's cgroup by their numbers, of each cgroup in it the first ones.

    One that ends meanwhile is left out.
    """
    found: dict[int, Process] = {}
    limit = Deadline.after(_LOOK_S)
    for folder, _, _ in os.walk(session.cgroup):  # which goes on when a folder has gone meanwhile
        with contextlib.suppress(OSError):
            for number in Path(folder, "cgroup.procs").read_text(encoding="ascii").split()[:_PROCESSES]:
                if limit.expired:
                    return found
                with contextlib.suppress(OSError):
                    found[int(number)] = _process(int(number))
    return found


def tree(found: Mapping[int, Process]) -> str:
    """Return the processes as lines, each indented below its parent."""
    children: dict[int, list[int]] = {}
    for process in found.values():
        children.setdefault(process.parent if process.parent in found else 0, []).append(process.pid)
    return "".join(_lines(0, -1, children, found))


def _process(pid: int) -> Process:
    folder = Path("/proc", str(pid))
    before, _, after = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    name = before.partition("(")[2]
    if name.isdigit() or name.startswith("memfd:"):
        # OCI runtimes may run a copy of themselves in memory; the kernel calls that by its file or its descriptor.
        name = command.partition(" ")[0].rpartition("/")[2][:_NAME_LENGTH]
    numbers = _numbers(folder / "fd")
    return Process(pid, int(after.split()[1]), name, command, _links(folder / "fd", numbers[:_LINKS]), len(numbers))


def _numbers(folder: Path) -> list[int]:
    with contextlib.suppress(PermissionError):  # an ordinary user may not look into another uid's
        return sorted(int(link.name) for link in folder.iterdir())
    return []


def _links(folder: Path, numbers: Iterable[int]) -> dict[int, str]:
    found = {}
    for number in numbers:
        with contextlib.suppress(FileNotFoundError):
            found[number] = str((folder / str(number)).readlink())
    return found


def _lines(pid: int, depth: int, children: Mapping[int, list[int]], found: Mapping[int, Process]) -> Iterator[str]:
    if pid:
        yield f"{'  ' * depth}{found[pid]}\n"
    for child in sorted(children.get(pid, [])):
        yield from _lines(child, depth + 1, children, found)
