"""What the processes of a container are told of their sockets, and what they have: seen while a client is served.

A process may live for milliseconds, so a thread looks again and again, and keeps the last look at each.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from harness import processes
from harness.handing import FIRST_DESCRIPTOR
from harness.processes import Process
from harness.session.session import Session

#: Pause between two looks, in seconds; one takes some milliseconds.
_PAUSE_S = 0.005

_MAKERS = ("crun", "runc", "podman", "conmon", "catatonit")
_SHELLS = ("sh", "bash", "dash", "ash", "busybox", "ksh", "zsh")


@dataclass(frozen=True, slots=True)
class Seen:
    """A process at the last look."""

    process: Process
    #: Its number in its own process namespace, the innermost of NSpid in proc(5).
    number: int
    #: Its variables whose names begin with LISTEN_.
    told: Mapping[str, str]
    #: Whether its root folder is another than the session's.
    contained: bool

    @property
    def meant(self) -> bool:
        """Whether LISTEN_PID is its own number."""
        return self.told.get("LISTEN_PID") == str(self.number)

    @property
    def lost(self) -> list[int]:
        """The descriptors that LISTEN_FDS promises and that are no sockets."""
        count = int(self.told.get("LISTEN_FDS", "0")) if self.told.get("LISTEN_FDS", "0").isdigit() else 0
        promised = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count)
        return [n for n in promised if not self.process.descriptors.get(n, "").startswith("socket:")]

    def __str__(self) -> str:
        return f"process {self.number} '{self.process.command[:100] or self.process.name}'"


@dataclass
class Witness:
    """Looks at a session's processes from its entry to its exit."""

    session: Session
    _seen: dict[int, Seen] = field(default_factory=dict)
    _before: frozenset[int] = frozenset()
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Witness:
        self._before = frozenset(processes.processes(self.session))
        self._thread = threading.Thread(target=self._look, name="harness-witness")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    @property
    def inside(self) -> list[Seen]:
        """The processes of the container, or of the program without one; those that make it are left out."""
        return [one for one in self._seen.values() if one.contained and not one.process.name.startswith(_MAKERS)]

    @property
    def podman(self) -> list[Seen]:
        """Podman's own processes."""
        return [one for one in self._seen.values() if not one.contained and one.process.name == "podman"]

    def _look(self) -> None:
        home = self.session.outside("/").stat()
        while True:
            found = processes.processes(self.session)
            for pid, process in found.items():
                if pid not in self._before and process.command:
                    with contextlib.suppress(OSError):
                        self._seen[pid] = _seen(process, home)
            if self._over.wait(_PAUSE_S):
                return


def _seen(process: Process, home: os.stat_result) -> Seen:
    folder = Path("/proc", str(process.pid))
    status = (folder / "status").read_text(encoding="utf-8", errors="replace")
    number = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
    pairs = (pair.decode(errors="replace").partition("=") for pair in (folder / "environ").read_bytes().split(b"\0"))
    told = {name: value for name, _, value in pairs if name.startswith("LISTEN_")}
    return Seen(process, int(number), told, not os.path.samestat((folder / "root" / ".").stat(), home))


def reasons(inside: Sequence[Seen]) -> list[str]:
    """Return why the program in a container, which did not answer as it should, has no use of its sockets."""
    return [*_forked(inside), *_closed(inside), *_untold(inside)] or [*_unserved(inside)]


def _forked(inside: Sequence[Seen]) -> Iterator[str]:
    """The process that LISTEN_PID names is a shell that stays, or an init process; the program is its child."""
    meant = {one.told["LISTEN_PID"]: one for one in inside if one.meant}
    for one in inside:
        parent = meant.get(one.told.get("LISTEN_PID", ""))
        if parent and not one.meant and one.process.name != parent.process.name:
            way = "'exec' the program in the shell" if parent.process.name in _SHELLS else "let it be the first process"
            yield f"{parent} forks: LISTEN_PID is {parent.number}, but the program is {one}. Way out: {way}."


def _closed(inside: Sequence[Seen]) -> Iterator[str]:
    for one in inside:
        if one.meant and one.lost:
            lost = ", ".join(f"{n} is {one.process.descriptors.get(n, 'closed')}" for n in one.lost)
            yield f"{one} was told LISTEN_FDS={one.told['LISTEN_FDS']}, but of its descriptors {lost}."


def _untold(inside: Sequence[Seen]) -> Iterator[str]:
    if inside and not any("LISTEN_FDS" in one.told for one in inside):
        yield f"{inside[0]} has no LISTEN_FDS in its environment: what started it has cleared that."


def _unserved(inside: Sequence[Seen]) -> Iterator[str]:
    for one in inside:
        if one.meant and one.told.get("LISTEN_FDS", "0") != "0":
            yield f"{one} was given its sockets, and does not answer over them as the contract says."
