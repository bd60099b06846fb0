"""Which layer loses the socket: the same probe, layer by layer from the program outwards, until one does not answer.

A layer holds all that is inside of it, so the first one that fails is the one to look at. Only a program may fail alone
and answer in its container, where it finds what it needs; that is no failure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from harness import layers, probes, witness
from harness.activation import Activated, Workload, activations
from harness.contract import Contract
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.layers import Layer
from harness.probes import Supplies
from harness.progress import Progress, silent
from harness.service import Service
from harness.session.session import Session
from harness.transports import Transport
from harness.witness import Witness

#: Longest wait for one reply, in seconds, unless the contract allows less: each layer that fails costs that.
PROBE_S = 5.0

#: Lines of a program's output that a step shows.
_SHOWN_LINES = 3

_LAUNCHER = "launcher"
_NO_TIME = "no time was left"

#: Least time that a service has for its stop, in seconds.
_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """One layer, tried."""

    layer: Layer
    #: What was run, in a few words.
    title: str
    #: What went wrong; empty where the reply was as promised, or where the layer was not tried.
    problem: str = ""
    #: Why the layer was not tried; empty where it was.
    left_out: str = ""
    #: Why it went wrong, as far as the units and the processes outside of the container tell.
    reasons: tuple[str, ...] = ()
    #: The same of the processes in the container.
    seen: tuple[str, ...] = ()
    #: The last lines of what the program printed.
    output: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """How it went."""
        return f"not tried: {self.left_out}" if self.left_out else self.problem or "answers"

    @property
    def lines(self) -> Iterator[str]:
        """What a person reads of it."""
        yield f"  {self.title}: {self.said}"
        yield from (f"    {reason}" for reason in (*self.reasons, *self.seen))
        yield from (f"    output: {line}" for line in self.output)


@dataclass(frozen=True, slots=True)
class Bisection:
    """What trying the layers found."""

    #: Name of the contract, and the transport of the probe.
    subject: str
    #: The layers, the innermost first, up to the first that failed.
    steps: tuple[Step, ...]
    #: What was changed at the container of a layer that failed -> whether it then answered.
    variants: Mapping[str, bool]

    @property
    def guilty(self) -> Layer | None:
        """The first layer that loses the socket; None where all answered."""
        program, *others = self.steps
        failed = next((step for step in others if step.problem), None)
        if failed is None:
            return None
        # Where the program could not be tried alone, what its processes show is still the program's own doing.
        own = program.problem or (program.left_out and failed.seen)
        return Layer.PROGRAM if failed.layer is Layer.CONTAINER and own else failed.layer

    @property
    def sentence(self) -> str:
        """The verdict."""
        if self.guilty:
            return f"{self.subject}: the first layer that loses the socket is {self.guilty}."
        late = any(step.left_out for step in self.steps[1:])
        return f"{self.subject}: no layer loses the socket{', as far as they were tried' if late else ''}."

    def __str__(self) -> str:
        rows = [self.sentence, *(line for step in self.steps for line in step.lines)]
        rows += [f"  {title}: {'answers' if works else 'the same'}" for title, works in self.variants.items()]
        return "\n".join(rows) + "\n"


#: Lets an activation listen in the session.
Opener = Callable[[], contextlib.AbstractContextManager[Activated]]


@dataclass(frozen=True, slots=True)
class Probe:
    """The one talk that every layer has to have."""

    session: Session
    contract: Contract
    transport: Transport
    deadline: Deadline
    timeout_scale: float = 1.0
    supplies: Supplies = field(default_factory=Supplies)

    @property
    def limit(self) -> Deadline:
        """How long the next reply may take."""
        limit_s = min(self.contract.limits.cold_s, PROBE_S) * self.timeout_scale
        return Deadline.after(min(limit_s, max(0.1, self.deadline.remaining_s)))

    def problem(self, workload: Workload) -> str:
        """Ask, and return what is wrong with the reply, or ""."""
        promised = self.contract.probe(self.transport)
        endpoint = workload.endpoints[self.transport]
        reply = probes.ask(self.session, endpoint, promised, probes.timed(promised), self.limit, self.supplies)
        wrong = probes.judge(reply, promised)
        return f"the reply {wrong}" if wrong else ""


def bisect(probe: Probe, workload: Workload, uppers: Mapping[str, Opener], progress: Progress = silent) -> Bisection:
    """Try the layers of `workload`, whose sockets are free, and then the activations in their order.

    Raises nothing for a layer that fails in its own way: that is its result.
    """
    steps: list[Step] = []
    changed: dict[str, bool] = {}
    for step in _steps(probe, workload, uppers):
        steps.append(step)
        progress(f"{step.title}: {step.said}")
        if step.problem and step.layer is not Layer.PROGRAM:
            if step.layer is Layer.CONTAINER:
                changed = _changed(probe, workload)
            break
    return Bisection(f"'{probe.contract.name}' over {probe.transport}", tuple(steps), changed)


def _steps(probe: Probe, workload: Workload, uppers: Mapping[str, Opener]) -> Iterator[Step]:
    yield _program(probe, workload)
    yield _inner(probe, workload, Step(Layer.CONTAINER, "podman run, by a parent of our own"), layers.container)
    for name, opened in uppers.items():
        layer = Layer.LAUNCHER if name == _LAUNCHER else Layer.UNIT
        yield _upper(probe, Step(layer, f"activation '{name}'"), opened)


def _program(probe: Probe, workload: Workload) -> Step:
    step = Step(Layer.PROGRAM, "the program without a container")
    try:
        why = layers.inapplicable(probe.session, workload)
    except HarnessError as error:
        why = _said(error)
    return replace(step, left_out=why) if why else _inner(probe, workload, step, layers.program)


def _inner(probe: Probe, workload: Workload, step: Step, opened: layers.Open) -> Step:
    """Try a layer without systemd."""
    if probe.deadline.expired:
        return replace(step, left_out=_NO_TIME)
    try:
        with Witness(probe.session) as seen, opened(probe.session, workload) as output:
            problem = probe.problem(workload)
    except HarnessError as error:
        return replace(step, problem=_said(error))
    if not problem:
        return step
    return replace(step, problem=problem, seen=tuple(witness.reasons(seen.inside)), output=_tail(probe, output))


def _upper(probe: Probe, step: Step, opened: Opener) -> Step:
    """Try an activation."""
    if probe.deadline.expired:
        return replace(step, left_out=_NO_TIME)
    try:
        with Witness(probe.session) as seen, opened() as activated:
            problem = probe.problem(activated.workload)
            if not problem:
                activated.wait_awake(probe.transport, probe.limit)
                return step
            why = (*_unit_reasons(activated, probe.transport), *_podman_reasons(seen))
            output = _tail(probe, activated.service_of(probe.transport))
    except HarnessError as error:
        return replace(step, problem=_said(error))
    return replace(step, problem=problem, reasons=why, seen=tuple(witness.reasons(seen.inside)), output=output)


def _changed(probe: Probe, workload: Workload) -> dict[str, bool]:
    """Return what was changed at the container -> whether it then answered, as far as there is time."""
    found: dict[str, bool] = {}
    with contextlib.suppress(HarnessError):
        for title, opened in layers.variants(probe.session, workload).items():
            if probe.deadline.expired:
                break
            with opened(probe.session, workload):
                found[title] = not probe.problem(workload)
    return found


def _unit_reasons(activated: Activated, transport: Transport) -> Iterator[str]:
    """Return what is wrong between the socket units and the service."""
    manager, service = activated.session.manager, activated.service_of(transport)
    for unit in activated.sockets:
        facts = manager.properties(unit)
        if service not in facts["Triggers"]:
            yield f"'{unit}' starts {' and '.join(facts['Triggers']) or 'nothing'}, and not '{service}': see Service=."
        if facts["Result"] != "success":
            yield f"'{unit}' has failed: Result={facts['Result']}."
        if unit not in manager.properties(service)["Requires"]:
            yield f"'{service}' lacks 'Requires={unit}': started before its socket, it gets none."


def _podman_reasons(seen: Witness) -> Iterator[str]:
    """Return what kept the sockets from podman, if anything did."""
    if seen.podman and not any("LISTEN_FDS" in one.told for one in seen.podman):
        yield "podman has no LISTEN_FDS in its environment: the service was started without its sockets."
    elif seen.podman and not any(one.meant for one in seen.podman):
        one = seen.podman[0]
        yield f"podman is process {one.number}, but LISTEN_PID is {one.told.get('LISTEN_PID')}: ExecStart= wraps it."


def _tail(probe: Probe, unit: str) -> tuple[str, ...]:
    return tuple(probe.session.output(unit).splitlines()[-_SHOWN_LINES:])


def _said(error: HarnessError) -> str:
    """Return an error's sentence, with the last line of what a program said."""
    return f"{error.sentence} {error.evidence.get('stderr', '').strip().rpartition(chr(10))[2]}".rstrip()


# -- the service of a test --------------------------------------------------------------------------------------------


def failed(service: Service, transport: Transport, limit_s: float) -> Bisection:
    """Try the layers of a service whose probe has failed, in its session and in about `limit_s` seconds.

    The service is paused then. Raises HarnessError when it does not stop.
    """
    deadline = Deadline.after(limit_s)
    workload = service.activated.workload
    probe = Probe(service.session, service.contract, transport, deadline, service.timeout_scale, service.supplies)
    service.activated.pause(deadline)
    uppers: dict[str, Opener] = {service.activation: lambda: _again(service.activated, deadline)}
    launcher = activations()[_LAUNCHER]
    if service.activation != _LAUNCHER and not launcher.refusal(service.contract):
        uppers = {_LAUNCHER: partial(launcher.activate, service.session, workload), **uppers}
    return bisect(probe, workload, uppers)


@contextlib.contextmanager
def _again(activated: Activated, deadline: Deadline) -> Iterator[Activated]:
    """Let paused units listen."""
    activated.listen()
    try:
        yield activated
    finally:
        activated.pause(Deadline.after(max(deadline.remaining_s, _PAUSE_S)))
