"""Which layer loses the socket: the same probe, layer by layer from the program outwards, until one does not answer.

A layer holds all that is inside of it, so the first one that fails is the one to look at. Only a program may fail alone
and answer in its container, where it finds what it needs; that is no failure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from harness import probes
from harness.activation import Activated, Workload, activations
from harness.activation.diagnosis import Hopeless
from harness.activation.service import Service
from harness.bisect import layers, process_watch
from harness.bisect.layers import Layer
from harness.bisect.process_watch import ProcessWatch
from harness.contract import Contract
from harness.core.deadline import Deadline
from harness.core.errors import Blame, HarnessError, WaitTimeout
from harness.core.progress import Progress, silent
from harness.core.transports import Transport
from harness.probes import Supplies
from harness.session.session import Session

#: Lines of a program's output that a step shows.
_SHOWN_LINES = 3

_LAUNCHER = "launcher"
_NO_TIME = "no time was left"

#: How long a service has for its stop before it is killed, in seconds: its own limit of a stop is another test's.
_STOP_S = 2.0


class OutOfTime(Exception):
    """A layer had less time than the contract allows, which is no result."""


@dataclass(frozen=True, slots=True)
class Step:
    """One layer, tried."""

    layer: Layer
    #: What was run, in a few words.
    title: str
    #: What went wrong; empty where the reply was as promised, or where the layer was not tried.
    problem: str = ""
    #: Why there is no result: not tried, too little time, or an error of the machine's; empty where there is one.
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
        return f"no result: {self.left_out}" if self.left_out else self.problem or "answers"

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
        if any(step.left_out for step in self.steps[1:]):
            told = "; ".join(f"{step.title}: {step.said}" for step in self.steps if step.problem or step.left_out)
            return f"{self.subject}: inconclusive ({told})."
        return f"{self.subject}: no layer loses the socket."

    def __str__(self) -> str:
        rows = [self.sentence, *(line for step in self.steps for line in step.lines)]
        rows += [f"  {title}: {'answers' if works else 'still fails'}" for title, works in self.variants.items()]
        return "\n".join(rows) + "\n"


#: Lets an activation listen in the session.
Opener = Callable[[], contextlib.AbstractContextManager[Activated]]


@dataclass(frozen=True, slots=True)
class Probe:
    """The request that every layer must answer."""

    session: Session
    contract: Contract
    transport: Transport
    deadline: Deadline
    timeout_scale: float = 1.0
    supplies: Supplies = field(default_factory=Supplies)

    @property
    def limit_s(self) -> float:
        """How long a reply may take by the contract, in seconds."""
        return self.contract.limits.first_start_s * self.timeout_scale

    @property
    def limit(self) -> Deadline:
        """How long the next reply can be waited for."""
        return Deadline.after(min(self.limit_s, max(0.1, self.deadline.remaining_s)))

    def watch(self, workload: Workload) -> ProcessWatch:
        """Return a watch for the processes that serve the probe."""
        return ProcessWatch(self.session, frozenset(listener.port for listener in workload.listeners if listener.port))

    def problem(self, workload: Workload, hopeless: Callable[[], str] | None = None) -> str:
        """Ask, and return what is wrong with the reply, or ""; raise OutOfTime where it had less time than promised.

        `hopeless` tells why no reply can come any more, and then nobody waits for it.
        """
        promised = self.contract.probe(self.transport)
        endpoint = workload.endpoints[self.transport]
        limit = self.limit
        client = probes.timed(promised)
        reply = probes.ask(self.session, endpoint, promised, client, limit, self.supplies, hopeless)
        wrong = probes.judge(reply, promised)
        if wrong and limit.expired and limit.limit_s < self.limit_s:
            raise OutOfTime(f"only {limit.limit_s:.1f} s of {self.limit_s:g} s were left, and no right reply came")
        return wrong


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
        yield _upper(probe, workload, Step(layer, f"activation '{name}'"), opened)


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
        with probe.watch(workload) as seen, opened(probe.session, workload) as output:
            problem = probe.problem(workload)
    except (HarnessError, OutOfTime) as error:
        return _broken(step, error)
    if not problem:
        return step
    return replace(step, problem=problem, seen=tuple(process_watch.reasons(seen.inside)), output=_tail(probe, output))


def _upper(probe: Probe, workload: Workload, step: Step, opened: Opener) -> Step:
    """Try an activation."""
    if probe.deadline.expired:
        return replace(step, left_out=_NO_TIME)
    try:
        with probe.watch(workload) as seen, opened() as activated:
            problem = probe.problem(activated.workload, Hopeless(activated, probe.transport))
            if not problem:
                return replace(step, problem=_unready(probe, activated))
            why = (*_unit_reasons(activated, probe.transport), *_podman_reasons(seen))
            output = _tail(probe, activated.service_of(probe.transport))
    except (HarnessError, OutOfTime) as error:
        return _broken(step, error)
    return replace(step, problem=problem, reasons=why, seen=tuple(process_watch.reasons(seen.inside)), output=output)


def _unready(probe: Probe, activated: Activated) -> str:
    """Return that a service which answers never becomes active, or ""."""
    limit = probe.limit
    try:
        activated.wait_active(probe.transport, limit)
    except WaitTimeout as error:
        if limit.limit_s < probe.limit_s:
            raise OutOfTime("no time was left for the service to become active") from None
        return f"answers, but is not active: {error.sentence}"
    return ""


def _broken(step: Step, error: HarnessError | OutOfTime) -> Step:
    """Return a step that an error ended: a result only where neither the machine nor the harness is to blame."""
    if isinstance(error, OutOfTime):
        return replace(step, left_out=str(error))
    if error.blame in (Blame.MACHINE, Blame.HARNESS):
        return replace(step, left_out=_said(error))
    return replace(step, problem=_said(error))


def _changed(probe: Probe, workload: Workload) -> dict[str, bool]:
    """Return what was changed at the container -> whether it then answered, as far as there is time."""
    found: dict[str, bool] = {}
    with contextlib.suppress(HarnessError, OutOfTime):
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


def _podman_reasons(seen: ProcessWatch) -> Iterator[str]:
    """Return what kept the sockets from podman, if anything did."""
    if seen.podman and not any("LISTEN_FDS" in one.variables for one in seen.podman):
        yield "podman has no LISTEN_FDS in its environment: the service was started without its sockets."
    elif seen.podman and not any(one.is_named for one in seen.podman):
        one, pid = seen.podman[0], seen.podman[0].variables.get("LISTEN_PID")
        yield f"podman is process {one.number}, but LISTEN_PID is {pid}: ExecStart= wraps it."


def _tail(probe: Probe, unit: str) -> tuple[str, ...]:
    return tuple(probe.session.output(unit).splitlines()[-_SHOWN_LINES:])


def _said(error: HarnessError) -> str:
    """Return an error's sentence, with the last line of what a program said."""
    return f"{error.sentence} {error.evidence.get('stderr', '').strip().rpartition(chr(10))[2]}".rstrip()


# -- the service of a test --------------------------------------------------------------------------------------------


def failed(service: Service, transport: Transport, limit_s: float) -> Bisection:
    """Try the layers of a service whose probe has failed, in its session and in about `limit_s` seconds.

    The service is stopped before, by force if it does not stop at once. Raises HarnessError when it can't be.
    """
    _stop(service.activated)
    workload, deadline = service.activated.workload, Deadline.after(limit_s)
    probe = Probe(service.session, service.contract, transport, deadline, service.timeout_scale, service.supplies)
    uppers: dict[str, Opener] = {service.activation: lambda: _again(service.activated)}
    launcher = activations()[_LAUNCHER]
    if service.activation != _LAUNCHER and not launcher.refusal(service.contract):
        uppers = {_LAUNCHER: partial(launcher.activate, service.session, workload), **uppers}
    return bisect(probe, workload, uppers)


@contextlib.contextmanager
def _again(activated: Activated) -> Iterator[Activated]:
    """Let stopped units listen."""
    activated.start_listening()
    try:
        yield activated
    finally:
        _stop(activated)


def _stop(activated: Activated) -> None:
    activated.stop_for_good(_STOP_S)
    activated.session.manager.reset_failed()
