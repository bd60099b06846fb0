"""A contract's service in a session: the image, activated, with clients that know what it promised."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from harness import probes
from harness.activation import Activated, Activation, build_workload, provision
from harness.activation.diagnosis import Hopeless, diagnose
from harness.activation.run import Run, end_of, is_over, run_of
from harness.contract import ClientImage, Contract, ExecProbe, Sends
from harness.core.deadline import Deadline
from harness.core.errors import Blame, CapabilityMissing, ProbeFailed, UnitFailed, WaitTimeout, middle
from harness.core.transports import Transport
from harness.images.store import Image
from harness.probes import Client, Reply, Supplies
from harness.session.session import Session

#: See pid_namespaces(7): process 1 gets only the signals that it has a handler for.
_STOP_REMEDY = (
    "As process 1 a program gets SIGTERM only if it handles it. Let it do so, or set 'init = true' below [image] in "
    "the contract; if it needs the time, raise 'stop_s' below [limits]."
)

_BOUNDS = "An image that needs more than a session has is given it by --harness-session-memory and the like."

_AGAIN = (
    "The same again, while the session lives, is the command below 'reproduce'; '--harness-keep=on-failure' keeps the "
    "session."
)

#: Results of a unit that the status of its program tells as well, see Result= in systemctl(1).
_PROGRAM_S_OWN = ("success", "exit-code", "signal", "core-dump")


@dataclass(slots=True)
class _Past:
    """What has happened to a service so far."""

    #: Whether it has been stopped: until then its start is the first, with fresh volumes.
    stopped: bool = False
    #: A service unit -> the run that answers its clients, from the cold one on, and the number of its replies.
    runs: dict[str, tuple[Run, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Service:
    """What a suite sends requests to."""

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
    _past: _Past = field(default_factory=_Past)

    def __repr__(self) -> str:
        """Return what a person needs of it in a failed assertion."""
        return f"<service '{self.name}' of {self.image.reference} by {self.activation}>"

    def clients(self, transport: Transport) -> tuple[Client, ...]:
        """Return who can ask what the contract promises over a transport, the client that users know first."""
        return probes.clients(self.contract.probe(transport))

    @property
    def selections(self) -> tuple[Service, ...]:
        """The same service once per selection of its contract, so that clients find each socket."""
        return tuple(
            replace(self, contract=selected, activated=self.activated.asked(selected))
            for selected in self.contract.selections
        )

    def is_active(self, transport: Transport) -> bool:
        """Whether the container behind `transport` has been started."""
        return self.activated.is_active(transport)

    def ask_cold(self, transport: Transport, client: Client | None = None) -> Reply:
        """Be the first client: wake the container and get its reply within the contract's limit of a cold probe.

        Raises ProbeFailed when there is no reply or another one, or when the container was awake already.
        """
        if self.is_active(transport):
            raise ProbeFailed(
                f"The service '{self.name}' ({self.activation}) was awake before its first client came.",
                evidence=self.activated.evidence(),
            )
        return self._wake(transport, client, "cold")

    def ask_warm(self, transport: Transport, client: Client | None = None) -> Reply:
        """Ask a service that is awake, and get its reply within the contract's `limits.warm_s`.

        Raises ProbeFailed, too, when another run answers than the one that answered the cold client.
        """
        unit = self.activated.service_of(transport)
        run, replies = self._past.runs.get(unit) or (run_of(self.activated, transport), 0)
        reply, wrong = self._ask(transport, client, self.contract.limits.warm_s)
        if wrong and is_over(self.activated, transport, run):
            # The end itself is told once, with the number of replies before it.
            wrong = wrong.removeprefix(f"{end_of(self.activated, run)}; ")
            raise self._failed(transport, reply, "warm", f"{wrong}; {self._ended(run, replies)}")
        if wrong:
            raise self._failed(transport, reply, "warm", wrong)
        if run_of(self.activated, transport) != run:
            wrong = f"another run answered: {self._ended(run, replies)}"
            raise self._failed(transport, reply, "warm", wrong)
        self._past.runs[unit] = run, replies + 1
        return reply

    def ask(self, transport: Transport, client: Client | None = None) -> Reply:
        """Ask a service in whatever state it is, and get its reply within the contract's limit of a cold probe."""
        return self._wake(transport, client, "next")

    def wait_active(self, transport: Transport) -> None:
        """Wait until systemd calls the service active; raise UnitFailed as soon as it has failed.

        Raises ProbeFailed instead when it has answered before.
        """
        try:
            self.activated.wait_active(transport, self._deadline(self._cold_s))
        except WaitTimeout as error:
            known = self.activated.accuse(transport)
            error.blame, error.hint = known.blame or error.blame, known.advice
            error.evidence.update(self.activated.evidence())
            raise
        except UnitFailed as error:
            run, replies = self._past.runs.get(self.activated.service_of(transport)) or (None, 0)
            if run is None:
                error.sentence = "; ".join([error.sentence.rstrip("."), *self.activated.exceeded]) + "."
                raise
            wrong = f"did not stay awake: {self._ended(run, replies)}"
            if (result := error.properties.get("Result", "success")) not in _PROGRAM_S_OWN:
                wrong += f", and systemd calls the unit '{error.unit}' failed for '{result}'"
            raise ProbeFailed(
                f"The service '{self.name}' ({self.activation}) {wrong}.",
                hint=error.hint,
                evidence=error.evidence,
                blame=error.blame,
                wrong=f"the service {wrong}",
            ) from None

    def stop_service(self) -> None:
        """Stop the service, so that the next client is the first one again."""
        self._forget_runs()
        with _image_to_blame(_STOP_REMEDY):
            self.activated.stop_service(self._deadline(self.contract.limits.stop_s))

    def start_listening(self) -> None:
        """Listen again after `stop_all`."""
        self.activated.start_listening()

    def stop_all(self) -> None:
        """Stop the service and its sockets, so that another service can have the addresses."""
        self._forget_runs()
        with _image_to_blame(_STOP_REMEDY):
            self.activated.stop_all(self._deadline(self.contract.limits.stop_s))

    def _wake(self, transport: Transport, client: Client | None, kind: str) -> Reply:
        """Ask within the limit of a cold probe, and remember which run has answered."""
        reply, wrong = self._ask(transport, client, self._cold_s)
        if wrong:
            raise self._failed(transport, reply, kind, wrong)
        self._past.runs[self.activated.service_of(transport)] = run_of(self.activated, transport), 1
        return reply

    def _ask(self, transport: Transport, client: Client | None, limit_s: float) -> tuple[Reply, str]:
        """Return the reply and what is wrong with it, "" when it is as promised."""
        promised = self.contract.probe(transport)
        client = client or probes.clients(promised)[0]
        endpoint = self.activated.workload.endpoints[transport]
        deadline = self._deadline(limit_s)
        hopeless = Hopeless(self.activated, transport)
        reply = probes.ask(self.session, endpoint, promised, client, deadline, self.supplies, hopeless)
        self.replies.append(reply)
        if wrong := probes.judge(reply, promised):
            why = "" if reply.body or reply.status else diagnose(self.activated, transport)
            wrong = f"{wrong} ({reply.times.whole_s:.1f} s of {deadline.limit_s:g} s)"
            wrong = f"{why}; {wrong.replace(f': {why}', '')}" if why else wrong
        return reply, wrong

    def _failed(self, transport: Transport, reply: Reply, kind: str, wrong: str) -> ProbeFailed:
        masked, known = self.supplies.masked, self.activated.accuse(transport)
        met = self.activated.exceeded
        wrong = "; ".join([*(clause for clause in met if clause not in wrong), wrong])
        promised = self.contract.probe(transport)
        request = "nothing" if isinstance(promised, Sends) else f"a request to {reply.endpoint}"
        evidence = {"sent": repr(reply.sent)[1:] if reply.sent else request}
        if isinstance(promised, ExecProbe):
            evidence["client"] = shlex.join(probes.command(reply.endpoint, promised, self.supplies))
            evidence["output of the client"] = middle(reply.body.decode(errors="replace"))
            evidence["errors of the client"] = middle(reply.complaint)
        evidence |= {"reproduce": reply.reproducer, **self.activated.evidence()}
        return ProbeFailed(
            f"The service '{self.name}' ({self.activation}) failed its {kind} probe by {reply.client} "
            f"over {transport}: {masked(wrong)}.",
            hint=(_BOUNDS if met else known.advice) or _AGAIN,
            blame=Blame.IMAGE if met else known.blame,
            evidence={title: masked(text) for title, text in evidence.items()},
            wrong=masked(wrong),
            cold=kind == "cold" and not self._past.stopped,
        )

    def _ended(self, run: Run, replies: int) -> str:
        """Return how a run ended that has answered so often, for a sentence."""
        return f"{end_of(self.activated, run)} after {'its first reply' if replies <= 1 else f'{replies} replies'}"

    def _forget_runs(self) -> None:
        """Whatever answers next, it is another run."""
        self._past.stopped = True
        self._past.runs.clear()

    @property
    def _cold_s(self) -> float:
        limits = self.contract.limits
        return limits.cold_s if self._past.stopped else limits.first_start_s

    def _deadline(self, limit_s: float) -> Deadline:
        return Deadline.after(limit_s * self.timeout_scale)


@contextlib.contextmanager
def _image_to_blame(hint: str) -> Iterator[None]:
    """Blame the image for what does not come within a limit of its own contract, and tell the way out."""
    try:
        yield
    except WaitTimeout as error:
        error.blame = Blame.IMAGE
        error.hint = hint
        raise


@contextlib.contextmanager
def open_services(
    session: Session,
    contract: Contract,
    images: Mapping[str, Image],
    activation: Activation,
    lacking: frozenset[Transport],
    timeout_scale: float = 1.0,
    client_images: Mapping[ClientImage, str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Service]]:
    """Install one contract's service once per image, at the same addresses; none of them listens yet.

    The keys of `images` are those of the services, and stand behind the contract's name in the names of the units.
    `aliases` are what unit files call their images.
    Sockets of the `lacking` transports are left out; raises CapabilityMissing when none is left.
    """
    listeners = [table.listener for table in contract.sockets if not lacking.intersection(table.transports)]
    if not listeners:
        raise CapabilityMissing(
            ", ".join(sorted(lacking)), f"the contract '{contract.name}' has no other socket", "see 'harness doctor'"
        )
    placed = tuple(listeners) if contract.units else session.assign_addresses(listeners)
    services = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(session.lock_ports(placed))
        for key, image in images.items():
            name = f"{contract.name}-{key}" if key else contract.name
            named = contract.model_copy(update={"name": name})
            supplies = Supplies(client_images or {}, stack.enter_context(provision(session, named)))
            workload = build_workload(named, image.reference, placed, session.paths.home, aliases or {})
            activated = stack.enter_context(activation.install(session, workload))
            services[key] = Service(
                name, contract, image, session, activated, activation.name, timeout_scale, supplies=supplies
            )
        yield services
