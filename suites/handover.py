"""The image 'handover' in the tests: what it says it was given, and what systemd should have given it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness import (
    Activated,
    Activation,
    Deadline,
    Endpoint,
    Image,
    Listener,
    ProbeFailed,
    Session,
    Transport,
    Workload,
    ask_bytes,
)
from suites.administration import STEP_S

NAME = "handover"

#: What the image's CMD is; behind `--entrypoint` it has to be said again, see podman-run(1).
PROGRAM = ("/usr/bin/python3", "-I", "-S", "-B", "/usr/local/lib/handover.py")

#: How long a reply may take, in seconds; the container may have to start for it.
REPLY_S = 15

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)

#: Sockets at the tutorial's port, on all transports but vsock; and one that serves both families.
TCP4 = Listener((Transport.TCP4,), port=3000)
UDP4 = Listener((Transport.UDP4,), port=3000)
TCP6 = Listener((Transport.TCP6,), port=3000)
UDP6 = Listener((Transport.UDP6,), port=3000)
DUAL_STACK = Listener((Transport.TCP4, Transport.TCP6), port=3003)
UNIX = Listener((Transport.UNIX,), path="handover_stream_sock")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One open descriptor of the container's process, as the process found it at its start."""

    number: int
    kind: str
    target: str
    inode: int
    close_on_exec: bool
    family: str = ""
    type: str = ""
    protocol: int = 0
    address: tuple[str | int, ...] | str = ""
    listening: bool = False

    def __str__(self) -> str:
        if not self.family:
            return f"the {self.kind} '{self.target}'"
        return _socket(self.family, self.type, self.address, self.listening)


@dataclass(frozen=True, slots=True)
class Report:
    """What a container's process was given."""

    pid: int
    environment: Mapping[str, str]
    descriptors: tuple[Descriptor, ...]
    #: The address of the client that asked, as the process saw it.
    peer: tuple[str | int, ...] | str

    @property
    def sockets(self) -> tuple[Descriptor, ...]:
        """The descriptors that are sockets."""
        return tuple(item for item in self.descriptors if item.family)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of LISTEN_FDNAMES, see sd_listen_fds_with_names(3)."""
        text = self.environment.get("LISTEN_FDNAMES", "")
        return tuple(text.split(":")) if text else ()


def read(document: bytes) -> Report:
    """Return the report that a client got."""
    told = json.loads(document)
    descriptors = tuple(Descriptor(**{**item, "address": _tuple(item.get("address"))}) for item in told["descriptors"])
    return Report(told["pid"], told["environment"], descriptors, _tuple(told["peer"]))


def _tuple(address: list[str | int] | str | None) -> tuple[str | int, ...] | str:
    return tuple(address) if isinstance(address, list) else address or ""


def mistakes(report: Report, listeners: Sequence[Listener], names: Sequence[str]) -> list[str]:
    """Return every way in which a report differs from `listeners` handed over in their order, a sentence each.

    `names` are the sockets' own, in the same order; empty where nobody names them.
    """
    found = []
    others = {item.number: item for item in report.descriptors}
    for number, listener in enumerate(listeners, FIRST_DESCRIPTOR):
        given = others.pop(number, None)
        if given is None:
            found.append(f"Descriptor {number} is not there; it should be the socket of '{listener.line}'.")
        elif str(given) != expected(listener):
            found.append(f"Descriptor {number} is {given}; it should be the socket of '{listener.line}'.")
    for number, given in others.items():
        if number >= FIRST_DESCRIPTOR:
            found.append(f"Descriptor {number} is {given}, which no 'Listen' line asks for.")
        elif given.family:
            found.append(f"Descriptor {number} is {given}; it should be no socket.")
    for variable, value in (
        ("LISTEN_PID", str(report.pid)),
        ("LISTEN_FDS", str(len(listeners))),
        ("LISTEN_FDNAMES", ":".join(names)),
    ):
        if (there := report.environment.get(variable, "")) != value:
            found.append(f"{variable} is '{there}'; it should be '{value}' in process {report.pid}.")
    return found


def expected(listener: Listener) -> str:
    """Return how a report shows the socket of a listener."""
    row = listener.endpoints[0].row
    address: tuple[str | int, ...] | str = listener.path
    if len(listener.transports) > 1:
        return _socket("AF_INET6", row.kind.name, ("::", listener.port), row.directive == "ListenStream")
    if not address:
        address = (listener.endpoints[0].native[0], listener.port)
    return _socket(row.family.name, row.kind.name, address, row.directive == "ListenStream")


def _socket(family: str, kind: str, address: tuple[str | int, ...] | str, listening: bool) -> str:
    where = address if isinstance(address, str) else " ".join(map(str, address))
    return f"a socket {family} {kind} '{where}'{', listening' if listening else ''}"


# -- in a session -----------------------------------------------------------------------------------------------------


def ask(session: Session, endpoint: Endpoint, request: str, activated: Activated | None = None) -> bytes:
    """Return the reply to a request; raise ProbeFailed with what the units say when there is none."""
    reply = ask_bytes(session, endpoint, f"{request}\n".encode(), Deadline.after(REPLY_S))
    if not reply.body or reply.complaint:
        raise ProbeFailed(
            f"The image '{NAME}' did not answer '{request}' over {endpoint}: {reply.complaint or 'an empty reply'}.",
            evidence=activated.evidence() if activated else {},
            blame=activated.accuse(endpoint.transport).blame if activated else None,
        )
    return reply.body


def report(activated: Activated, transport: Transport) -> Report:
    """Return the report of the container behind a transport, which is awake and active then."""
    document = ask(activated.session, activated.workload.endpoints[transport], "report", activated)
    activated.wait_active(transport, Deadline.after(STEP_S))
    return read(document)


def dial(activated: Activated, transport: Transport, host: str, port: int) -> str:
    """Let the container try to reach an address; return why that did not work, or ""."""
    reply = ask(activated.session, activated.workload.endpoints[transport], f"dial {host} {port}", activated)
    return str(json.loads(reply)["problem"])


@dataclass(frozen=True, slots=True)
class Handover:
    """The image in a session, to be activated in all the ways of a test."""

    session: Session
    image: Image
    #: What the contract has the container run instead of the image's own CMD.
    command: tuple[str, ...]

    @contextlib.contextmanager
    def activated(
        self, activation: Activation, *listeners: Listener, options: Sequence[str] = (), command: Sequence[str] = ()
    ) -> Iterator[Activated]:
        """Let systemd listen, the container asleep; `options` are more than `--network=none`."""
        placed = self.session.assign_addresses(listeners)
        run = self.command or tuple(command)
        workload = Workload(NAME, self.image.reference, placed, run, options=("--network=none", *options))
        with activation.activate(self.session, workload) as activated:
            yield activated
