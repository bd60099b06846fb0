"""A contract's service in a session: the image, activated, with clients that know what it promised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness import probes, timeline
from harness.activation import Activated, Activation, prepared, provided
from harness.contract import ClientImage, Contract
from harness.deadline import Deadline
from harness.errors import Blame, CapabilityMissing, ProbeFailed, WaitTimeout
from harness.images import Image
from harness.probes import Client, Reply, Supplies
from harness.session.session import Session
from harness.timeline import Timeline
from harness.transports import Transport

#: See pid_namespaces(7): process 1 gets only the signals that it has a handler for.
_STOP_REMEDY = (
    "As process 1 a program gets SIGTERM only if it handles it. Let it do so, or set 'init = true' below [image] in "
    "the contract; if it needs the time, raise 'stop_s' below [limits]."
)


@dataclass(frozen=True, slots=True)
class Service:
    """What a suite talks to."""

    #: That of its units and its container.
    name: str
    contract: Contract
    image: Image
    session: Session
    activated: Activated
    #: Name of the activation.
    activation: str
    #: Factor for every time limit of the contract.
    timeout_scale: float = 1.0
    #: Every reply so far, for the failure bundle.
    replies: list[Reply] = field(default_factory=list)
    #: What the contract's client programs are given.
    supplies: Supplies = field(default_factory=Supplies)

    def __repr__(self) -> str:
        """Return what a person needs of it in a failed assertion."""
        return f"<service '{self.name}' of {self.image.reference} by {self.activation}>"

    def awake(self, transport: Transport) -> bool:
        """Whether the container behind `transport` has been started."""
        return self.activated.awake(transport)

    def ask_cold(self, transport: Transport, client: Client | None = None) -> Reply:
        """Be the first client: wake the container and get its reply within the contract's `limits.cold_s`.

        Raises ProbeFailed when there is no reply or another one, or when the container was awake already.
        """
        if self.awake(transport):
            raise ProbeFailed(
                f"The service '{self.name}' ({self.activation}) was awake before its first client came.",
                evidence=self.activated.evidence(),
            )
        return self._ask(transport, client, self.contract.limits.cold_s, "cold")

    def ask_warm(self, transport: Transport, client: Client | None = None) -> Reply:
        """Ask a service that is awake, and get its reply within the contract's `limits.warm_s`."""
        return self._ask(transport, client, self.contract.limits.warm_s, "warm")

    def ask(self, transport: Transport, client: Client | None = None) -> Reply:
        """Ask a service in whatever state it is, and get its reply within the contract's `limits.cold_s`."""
        return self._ask(transport, client, self.contract.limits.cold_s, "next")

    def wait_awake(self, transport: Transport) -> None:
        """Wait until systemd calls the service active; raise UnitFailed as soon as it has failed."""
        with _image_to_blame(""):
            self.activated.wait_awake(transport, self._deadline(self.contract.limits.cold_s))

    def rearm(self) -> None:
        """Stop the service, so that the next client is the first one again."""
        with _image_to_blame(_STOP_REMEDY):
            self.activated.rearm(self._deadline(self.contract.limits.stop_s))

    def time_cold(self, transport: Transport) -> Timeline:
        """Be the first client, and return when each step of the activation happened.

        Raises ProbeFailed, UnitFailed, TimelineError, ClockStepped.
        """
        offset = timeline.clock_offset()
        reply = self.ask_cold(transport, probes.timed(self.contract.probe(transport)))
        self.wait_awake(transport)
        return timeline.cold(self.activated, transport, reply, offset)

    def time_warm(self, transport: Transport) -> Timeline:
        """Ask a service that is awake, and return when its reply came."""
        return timeline.warm(self.ask_warm(transport, probes.timed(self.contract.probe(transport))))

    def listen(self) -> None:
        """Listen again after `pause`."""
        self.activated.listen()

    def pause(self) -> None:
        """Stop the service and its sockets, so that another service can have the addresses."""
        with _image_to_blame(_STOP_REMEDY):
            self.activated.pause(self._deadline(self.contract.limits.stop_s))

    def _ask(self, transport: Transport, client: Client | None, limit_s: float, kind: str) -> Reply:
        promised = self.contract.probe(transport)
        client = client or probes.clients(promised)[0]
        endpoint = self.activated.workload.endpoints[transport]
        deadline = self._deadline(limit_s)
        reply = probes.ask(self.session, endpoint, promised, client, deadline, self.supplies)
        self.replies.append(reply)
        if wrong := probes.judge(reply, promised):
            masked = self.supplies.masked
            raise ProbeFailed(
                f"The service '{self.name}' ({self.activation}) failed its {kind} probe by {client} over {transport}: "
                f"the reply {masked(wrong)}, after {reply.times.whole_s:.1f} s of {deadline.limit_s:g} s.",
                remedy="The same again, while the session lives, is the command below 'reproduce'; "
                "'--harness-keep=on-failure' keeps the session.",
                evidence={
                    "sent": repr(reply.sent)[1:] if reply.sent else f"a request to {endpoint}",
                    "reproduce": reply.reproducer,
                    **{title: masked(text) for title, text in self.activated.evidence().items()},
                },
            )
        return reply

    def _deadline(self, limit_s: float) -> Deadline:
        return Deadline.after(limit_s * self.timeout_scale)


@contextlib.contextmanager
def _image_to_blame(remedy: str) -> Iterator[None]:
    """Blame the image for what does not come within a limit of its own contract, and tell the way out."""
    try:
        yield
    except WaitTimeout as error:
        error.blame = Blame.IMAGE
        error.remedy = remedy
        raise


@contextlib.contextmanager
def open_service(
    session: Session,
    contract: Contract,
    image: Image,
    activation: Activation,
    lacking: frozenset[Transport],
    timeout_scale: float = 1.0,
    client_images: Mapping[ClientImage, str] | None = None,
) -> Iterator[Service]:
    """Activate a contract's image in a session; sockets of the `lacking` transports are left out.

    Raises CapabilityMissing when no socket is left.
    """
    alone = {"": image}
    with open_services(session, contract, alone, activation, lacking, timeout_scale, client_images) as services:
        service = services[""]
        service.listen()
        yield service


@contextlib.contextmanager
def open_services(
    session: Session,
    contract: Contract,
    images: Mapping[str, Image],
    activation: Activation,
    lacking: frozenset[Transport],
    timeout_scale: float = 1.0,
    client_images: Mapping[ClientImage, str] | None = None,
) -> Iterator[dict[str, Service]]:
    """Install one contract's service once per image, at the same addresses; none of them listens yet.

    The keys of `images` are those of the services, and stand behind the contract's name in the names of the units.
    Raises CapabilityMissing when no socket is left.
    """
    listeners = [table.listener for table in contract.sockets if not lacking.intersection(table.transports)]
    if not listeners:
        raise CapabilityMissing(
            ", ".join(sorted(lacking)), f"the contract '{contract.name}' has no other socket", "see 'harness doctor'"
        )
    placed = session.place(listeners)
    services = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(session.reserve(placed))
        for key, image in images.items():
            name = f"{contract.name}-{key}" if key else contract.name
            named = contract.model_copy(update={"name": name})
            supplies = Supplies(client_images or {}, stack.enter_context(provided(session, named)))
            workload = prepared(named, image.reference, placed, session.paths.home)
            activated = stack.enter_context(activation.install(session, workload))
            services[key] = Service(
                name, contract, image, session, activated, activation.name, timeout_scale, supplies=supplies
            )
        yield services
