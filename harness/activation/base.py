"""How the sockets reach the container: what every activation is given, and what it gives back."""

from __future__ import annotations

import abc
import contextlib
import copy
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from harness.activation import blame
from harness.activation.run import is_left, last_notes
from harness.contract import BackendTable, Contract, Handover, Ready, UnitFolder
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import SessionError, UnitFailed, WaitTimeout
from harness.core.hints import Hint
from harness.core.transports import Endpoint, Listener, Transport
from harness.session.manager import NoSuchUnit
from harness.session.session import Session
from harness.standalone import cgroups

#: Longest wait for systemd to start or stop what costs no container, in seconds.
UNIT_LIMIT_S = 20.0

#: Longest end of the processes of a container that was killed, in seconds; those of a large one take their time.
_KILL_LIMIT_S = 10.0

#: The sub-state of a transient unit that has ended and is forgotten: our word, since systemd has none.
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Workload:
    """A container to activate: an image in the session's store and the sockets it is to be given."""

    #: Names the units and the container.
    name: str
    #: The image as podman knows it in the session.
    image: str
    #: The sockets at addresses of the session, in the contract's order.
    listeners: tuple[Listener, ...]
    #: What the container runs instead of the image's own CMD.
    command: tuple[str, ...] = ()
    #: Longest stop of the service, in seconds.
    stop_s: float = 10.0
    #: Podman's options for the container; without a network, unless its contract says otherwise.
    options: tuple[str, ...] = ("--network=none",)
    #: The variable that tells the program its descriptors, beside LISTEN_FDS.
    handover: Handover | None = None
    #: Who says that the service is up.
    ready: Ready = Ready.CONMON
    #: Where the program listens by itself; None for one that takes its sockets.
    backend: BackendTable | None = None
    #: After how long without a client the service ends by itself, in seconds; None where it stays.
    idle_exit_s: float | None = None
    #: What the contract sets in the section [Service], beside what the activation writes.
    service: tuple[tuple[str, str], ...] = ()
    #: Unit files that are installed as they are; None where an activation writes its own.
    units: UnitFolder | None = None
    #: How such files name an image -> how podman knows it in the session.
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def endpoints(self) -> dict[Transport, Endpoint]:
        """Where clients find each transport."""
        asked = (listener for listener in self.listeners if listener.probed)
        return {endpoint.transport: endpoint for listener in asked for endpoint in listener.endpoints}

    def asked(self, contract: Contract) -> Workload:
        """Return the same workload with the clients of another selection of its contract."""
        # The listeners are those of the contract in its order, without some transports that the machine has not.
        tables = iter(contract.sockets)
        probed = [
            next(table.probed for table in tables if table.transports == item.transports) for item in self.listeners
        ]
        return replace(
            self,
            listeners=tuple(replace(item, probed=is_so) for item, is_so in zip(self.listeners, probed, strict=True)),
        )

    @property
    def container(self) -> tuple[str, ...]:
        """Podman's options for the container: no pull, removed at its end, replaced where one is left."""
        told: tuple[str, ...] = ()
        if self.handover:
            told = (f"--env={self.handover.variable}={self.handover.value(len(self.listeners))}",)
        return (f"--name={self.name}", "--rm", "--replace", "--pull=never", *self.options, *told)

    def podman_run(self, *options: str) -> tuple[str, ...]:
        """Return a `podman run` of the container."""
        return ("podman", "run", *self.container, *options, self.image, *self.command)

    def exec_start(self, *options: str) -> str:
        """Return a `podman run` of the container as a line for ExecStart=."""
        return " ".join(map(quote, self.podman_run(*options)))


class Activated(abc.ABC):
    """A workload whose sockets systemd or the launcher holds; the first client wakes its container."""

    def __init__(self, session: Session, workload: Workload) -> None:
        self.session = session
        self.workload = workload
        #: When it was made, in seconds since 1970; podman's notes of before belong to other services.
        self.created = time.time()
        #: So does what had met the session's bounds before.
        self._hits_before = session.hits()
        #: What the manager had said before belongs to other services.
        self._logged_before = len(session.manager_log())

    @property
    @abc.abstractmethod
    def files(self) -> Mapping[str, str]:
        """Name -> text of the unit files, or of what stands for them."""

    @property
    @abc.abstractmethod
    def services(self) -> tuple[str, ...]:
        """The service units that a client may wake."""

    @property
    def printing(self) -> tuple[str, ...]:
        """What the files of output are called by, see `Session.output`: services, or templates for all instances."""
        return self.services

    @property
    @abc.abstractmethod
    def sockets(self) -> tuple[str, ...]:
        """The socket units that systemd listens with; empty where the launcher listens itself."""

    @abc.abstractmethod
    def service_of(self, transport: Transport) -> str:
        """Return the service unit that a client of `transport` wakes."""

    def asked(self, contract: Contract) -> Self:
        """Return the same service with the clients of another selection of its contract."""
        other = copy.copy(self)
        other.workload = self.workload.asked(contract)
        return other

    def listeners_of(self, transport: Transport) -> tuple[Listener, ...]:
        """Return the sockets that the container behind `transport` is given, as far as known in their order."""
        return self.workload.listeners

    @property
    def containers(self) -> Mapping[str, str]:
        """Service unit -> the name of its container, which is that of the service."""
        return {unit: unit.removesuffix(".service") for unit in self.services}

    def container_of(self, transport: Transport) -> str:
        """Return the name of the container that a client of `transport` wakes, "" where it is not known."""
        return self.containers.get(self.service_of(transport), "")

    def starter_of(self, transport: Transport) -> str:
        """Return the service unit that starts the container; another one where a client wakes a proxy before it."""
        return self.service_of(transport)

    @abc.abstractmethod
    def is_active(self, transport: Transport) -> bool:
        """Whether the container behind `transport` has been started."""

    #: Whether the sockets go on listening when a run has ended.
    listens_on: bool = True

    @abc.abstractmethod
    def start_listening(self) -> None:
        """Let systemd, or the launcher, listen; raise UnitFailed with systemd's reason."""

    @abc.abstractmethod
    def stop_service(self, deadline: Deadline) -> None:
        """Stop what runs, so that the next client is the first one again."""

    def stop_all(self, deadline: Deadline) -> None:
        """Stop what runs and what listens, so that another can have the addresses; `listen` goes on."""
        self._stop_all(deadline)
        self.session.manager.reset_failed()

    def wait_active(self, transport: Transport, deadline: Deadline) -> None:
        """Wait until the service behind `transport` is up; raise UnitFailed as soon as it has failed."""
        unit = self.service_of(transport)

        def look() -> dict[str, str]:
            # A proxy stays inactive where its container does not come up.
            states = {one: self.state(one) for one in (unit, self.starter_of(transport))}
            for one, state in states.items():
                if state["ActiveState"] == "failed" or state["Result"] != "success" or state["SubState"] == GONE:
                    known = self.accuse(transport)
                    raise UnitFailed(one, state, evidence=self.evidence(), hint=known.advice, blame=known.blame)
            return states[unit]

        wait_until(look, lambda state: state["ActiveState"] == "active", deadline, f"the unit '{unit}' to be active")

    def accuse(self, transport: Transport) -> Hint:
        """Return who has to act for a service behind `transport` that did not do what it should, and what may help."""
        return blame.accuse(self, transport)

    def stop_for_good(self, deadline_s: float) -> None:
        """End every unit; containers are killed, since nobody looks at this end, and some take a second for theirs."""
        for container in dict.fromkeys(self.containers.values()):
            kill_container(self.session, container)
        for unit in self.services:
            if self.state(unit)["ActiveState"] == "deactivating":
                self._kill(unit)  # it is being stopped already, and not by us
        try:
            self._stop_all(Deadline.after(deadline_s))
        except WaitTimeout:
            for unit in self.services:
                self._kill(unit)
            self._stop_all(Deadline.after(UNIT_LIMIT_S))

    def _kill(self, unit: str) -> None:
        """Kill a service and its container; the container first, while conmon can still tell podman of its end."""
        kill_container(self.session, self.containers[unit])
        with contextlib.suppress(SessionError):
            self.session.manager.kill(unit, signal.SIGKILL)

    def state(self, unit: str) -> dict[str, str]:
        """Return ActiveState, SubState and Result of a unit; a transient one that has ended may be forgotten."""
        try:
            return self.session.manager.state(unit)
        except NoSuchUnit:
            return {"ActiveState": "inactive", "SubState": GONE, "Result": "success"}

    def _stop_all(self, deadline: Deadline) -> None:
        self.session.manager.stop_together((*self.sockets, *self.services), deadline)

    @property
    def exceeded(self) -> tuple[str, ...]:
        """Which bounds of the session it has met, each as a clause, see `harness.session.bounds`."""
        return self.session.hits().since(self._hits_before, self.session.bounds)

    def evidence(self) -> dict[str, str]:
        """Return title -> text of what the units say, for an error."""
        states = "\n".join(f"{unit}: {self.state(unit)}" for unit in (*self.sockets, *self.services))
        outputs = {f"output of {unit}": self.session.output(unit) for unit in self.printing}
        return {"units": states, **outputs, "systemd --user": self.session.manager_log()[self._logged_before :]}


class Activation(abc.ABC):
    """A way to activate; one module of this package each, found by its name."""

    name: str

    #: Capabilities that it takes beyond what every session does; where one is lacking, a run leaves it out by itself.
    needs: tuple[str, ...] = ()

    #: Whether the sockets outlive a run, so that clients notice nothing of its end.
    keeps_sockets: bool = True

    def refusal(self, contract: Contract) -> str:
        """Return why a contract can't be kept in this way, whatever the machine can do, or ""."""
        return ""

    def preview(self, workload: Workload) -> Mapping[str, str]:
        """Return name -> text of what this would write or run, as far as that is known without a session."""
        return {}

    @abc.abstractmethod
    def install(self, session: Session, workload: Workload) -> contextlib.AbstractContextManager[Activated]:
        """Prepare everything but listening, and take everything away again at the end of the context."""

    @contextlib.contextmanager
    def activate(self, session: Session, workload: Workload) -> Iterator[Activated]:
        """Let systemd listen for `workload`, and take everything away again at the end of the context."""
        with self.install(session, workload) as activated:
            activated.start_listening()
            yield activated


@contextlib.contextmanager
def clean_up(session: Session, *containers: str) -> Iterator[None]:
    """Remove containers and forget failures at the end of the context, unless the session is kept as it is."""
    try:
        yield
    finally:
        if not session.kept:
            # Podman takes a tenth of a second even to find that nothing is there.
            if left := [name for name in containers if is_left(session.events(), name)]:
                for name in left:
                    kill_container(session, name)
                session.run(["podman", "rm", "--force", "--ignore", "--time=0", *left], check=False)
            session.manager.reset_failed()


def kill_container(session: Session, name: str) -> None:
    """Kill all processes of the newest container of a name."""
    if notes := last_notes(session.events(), name):
        kill_processes(session, notes["create"]["ID"])


def kill_processes(session: Session, container: str) -> None:
    """Kill all processes of the container with this id, by the kernel: where they leave no room, podman can't."""
    # Not by Path.rglob(): it raises an error where a scope ends while it looks.
    for folder, *_ in os.walk(session.cgroup):
        unit = folder.rpartition("/")[2]
        if not unit.startswith("libpod-") or container not in unit or "conmon" in unit:
            continue
        cgroups.kill(folder)
        with contextlib.suppress(WaitTimeout):
            gone = partial(cgroups.processes, folder)
            wait_until(gone, lambda left: not left, Deadline.after(_KILL_LIMIT_S), f"the end of '{container}'")


#: What systemd takes for something else in a line, and how it is written there.
_QUOTED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "%": "%%", "$": "$$"}


def quote(argument: str) -> str:
    """Return one argument for a line such as ExecStart=, see "Quoting" in systemd.syntax(7).

    `%` and `$` are doubled, since systemd expands specifiers and variables in such lines. What can't be printed is
    quoted, too: readers of such files differ in what they take for a blank, which they drop at a line's end.
    """
    text = "".join(_QUOTED.get(character, character) for character in argument)
    plain = text and text.isprintable() and not any(character in text for character in " '\";\\")
    return text if plain else f'"{text}"'
