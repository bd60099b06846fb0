"""What the processes of a container have of their sockets, as the kernel tells it: seen while a client is served.

A program may overwrite its own environment block, as nginx does for its title, so what stands there proves nothing. The
process that LISTEN_PID names is the first of a container.

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

from harness.activation.inside import addresses
from harness.core.transports import FIRST_DESCRIPTOR
from harness.session import processes
from harness.session.processes import Process
from harness.session.session import Session

#: Pause between two looks, in seconds; one takes some milliseconds.
_PAUSE_S = 0.005

_MAKERS = ("crun", "runc", "podman", "conmon", "catatonit")
_SHELLS = ("sh", "bash", "dash", "ash", "busybox", "ksh", "zsh")
_INITS = ("tini", "dumb-init", "docker-init", "s6-svscan", "runsv", "supervisord")


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """A process at the last look."""

    process: Process
    #: Its number in its own process namespace, the innermost of NSpid in proc(5).
    number: int
    #: Whether its root folder is another than the session's.
    contained: bool
    #: The TCP ports on which it listens by itself, not over a socket that it inherits.
    ports: tuple[int, ...] = ()
    #: Its variables whose names begin with LISTEN_, for podman's own processes alone.
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_named(self) -> bool:
        """Whether LISTEN_PID is its own number."""
        return self.variables.get("LISTEN_PID") == str(self.number)

    @property
    def has_sockets(self) -> bool:
        """Whether it has a socket where inherited ones are, or further up, where a program may have moved them."""
        return any(n >= FIRST_DESCRIPTOR and link.startswith("socket:") for n, link in self.process.descriptors.items())

    def __str__(self) -> str:
        return f"process {self.number} '{self.process.command[:100] or self.process.name}'"


@dataclass
class ProcessWatch:
    """Looks at a session's processes from its entry to its exit."""

    session: Session
    #: The ports of the sockets that are handed over: in the session's own network they are nobody's.
    ports: frozenset[int] = frozenset()
    _seen: dict[int, ProcessSnapshot] = field(default_factory=dict)
    _before: frozenset[int] = frozenset()
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> ProcessWatch:
        self._before = frozenset(processes.processes(self.session))
        self._thread = threading.Thread(target=self._look, name="harness-process-watch")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    @property
    def inside(self) -> list[ProcessSnapshot]:
        """The processes of the container, or of the program without one; those that make it are left out."""
        return [one for one in self._seen.values() if one.contained and not one.process.name.startswith(_MAKERS)]

    @property
    def podman(self) -> list[ProcessSnapshot]:
        """Podman's own processes."""
        return [one for one in self._seen.values() if not one.contained and one.process.name == "podman"]

    def _look(self) -> None:
        home = self.session.outside("/").stat()
        while True:
            found = processes.processes(self.session)
            for pid, process in found.items():
                if pid not in self._before and process.command:
                    with contextlib.suppress(OSError):
                        self._seen[pid] = self._snapshot(process, home)
            if self._over.wait(_PAUSE_S):
                return

    def _snapshot(self, process: Process, home: os.stat_result) -> ProcessSnapshot:
        folder = Path("/proc", str(process.pid))
        status = (folder / "status").read_text(encoding="utf-8", errors="replace")
        number = int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
        if os.path.samestat((folder / "root" / ".").stat(), home):
            return ProcessSnapshot(process, number, contained=False, variables=_variables(folder))
        session = Path("/proc", str(self.session.init) if self.session.own_network else "self")
        shared = (folder / "ns/net").readlink() == (session / "ns/net").readlink()
        ports = {port for port in _listening(process) if not (shared and port in self.ports)}
        return ProcessSnapshot(process, number, contained=True, ports=tuple(sorted(ports)))


def _variables(folder: Path) -> dict[str, str]:
    pairs = (pair.decode(errors="replace").partition("=") for pair in (folder / "environ").read_bytes().split(b"\0"))
    return {name: value for name, _, value in pairs if name.startswith("LISTEN_")}


def _listening(process: Process) -> Iterator[int]:
    """Yield the TCP ports on which a process listens in its own network namespace."""
    for address in addresses(process.pid):
        if address.protocol == "tcp" and address.inode in process.sockets:
            yield address.port


def reasons(inside: Sequence[ProcessSnapshot]) -> list[str]:
    """Return why the program in a container, which did not answer as it should, has no use of its sockets."""
    return [*_elsewhere(inside)] or [*_forked(inside), *_closed(inside)] or [*_unserved(inside)]


def _first(inside: Sequence[ProcessSnapshot]) -> list[ProcessSnapshot]:
    """Return the processes that LISTEN_PID names: each whose parent is not in the container."""
    pids = {one.process.pid for one in inside}
    return [one for one in inside if one.process.parent not in pids]


def _elsewhere(inside: Sequence[ProcessSnapshot]) -> Iterator[str]:
    """A program listens by itself, whatever it was given."""
    for one in inside:
        if one.ports:
            ports = " and ".join(map(str, one.ports))
            yield f"{one} listens by itself, on port {ports}, and not over the socket that it was given."


def _forked(inside: Sequence[ProcessSnapshot]) -> Iterator[str]:
    """The process that LISTEN_PID names is a shell that stays, or an init process; the program is its child."""
    for parent in _first(inside):
        name = parent.process.name
        # A child that lives for milliseconds may have been seen before it became the program: as a shell.
        children = [one for one in inside if one.process.parent == parent.process.pid]
        if not children or name not in (*_SHELLS, *_INITS):
            continue
        others = " and ".join(map(str, children))
        hint = "'exec' the program in the shell" if name in _SHELLS else "let the program be the first process"
        yield f"{parent} forks: LISTEN_PID is {parent.number}, but {others} is its child. Hint: {hint}."


def _closed(inside: Sequence[ProcessSnapshot]) -> Iterator[str]:
    """Nobody has a socket, as far as the descriptors can be seen: an ordinary user may not look into other users'."""
    if any(one.has_sockets for one in inside):
        return
    for one in _first(inside):
        # Which file has the number by now says nothing: the next one that the program opens gets it.
        if one.process.descriptors:
            yield f"{one} was given its sockets from descriptor {FIRST_DESCRIPTOR} on, and has no socket open."


def _unserved(inside: Sequence[ProcessSnapshot]) -> Iterator[str]:
    for one in _first(inside):
        if one.has_sockets:
            yield f"{one} has its sockets, and does not answer over them as the contract says."
