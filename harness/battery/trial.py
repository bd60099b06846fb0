"""One promise tried on one service: what a promise may use, and how it says that it was broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from harness.activation.run import Run, end_of, is_over, run_of
from harness.activation.service import Service
from harness.core.errors import HarnessError, ProbeFailed, UnitFailed, WaitTimeout
from harness.core.transports import Transport
from harness.probes import Client, Reply, timed


class PromiseBroken(ProbeFailed):
    """An image does not do what it promises."""

    def __init__(self, service: Service, wrong: str, cause: HarnessError | None = None, *, cold: bool = False) -> None:
        super().__init__(
            f"The service '{service.name}' ({service.activation}) broke a promise: {wrong}.",
            hint=cause.hint if cause else "docs/battery.md says what is promised, and how a contract waives it.",
            evidence=cause.evidence if cause else service.activated.evidence(),
            blame=cause.blame if isinstance(cause, ProbeFailed | UnitFailed) else None,
            wrong=wrong,
            cold=cold,
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """A service whose promises are tried over one of its sockets."""

    service: Service
    transport: Transport

    @property
    def siblings(self) -> tuple[Transport, ...]:
        """The transports whose clients the same container answers, this one first."""
        activated, mine = self.service.activated, self.service.activated.service_of(self.transport)
        same = [item for item in activated.workload.endpoints if activated.service_of(item) == mine]
        return (self.transport, *(item for item in same if item is not self.transport))

    def label(self, transport: Transport) -> str:
        """Return how a sentence names a socket."""
        return self.service.contract.label(transport)

    @property
    def client(self) -> Client:
        """The client without a process of its own, where there is one."""
        return timed(self.service.contract.probe(self.transport))

    @property
    def run(self) -> Run:
        """The run that answers now."""
        return run_of(self.service.activated, self.transport)

    def broken(self, wrong: str, cause: HarnessError | None = None) -> PromiseBroken:
        """Return the error that says what was seen."""
        met = [clause for clause in self.service.activated.exceeded if clause not in wrong]
        return PromiseBroken(self.service, "; ".join([*met, wrong]), cause)

    def check_bounds(self) -> None:
        """Raise PromiseBroken where the service has taken all that its session may have of something."""
        if met := self.service.activated.exceeded:
            raise PromiseBroken(self.service, "; ".join(met))

    def wake(self, transport: Transport | None = None) -> Reply:
        """Be the first client, and wait until systemd calls the service active; raise PromiseBroken."""
        asked = transport or self.transport
        try:
            reply = self.service.ask_cold(asked, timed(self.service.contract.probe(asked)))
            self.service.wait_active(asked)
        except (ProbeFailed, UnitFailed, WaitTimeout) as error:
            wrong = error.wrong if isinstance(error, ProbeFailed) and error.wrong else error.sentence.rstrip(".")
            cold = not isinstance(error, ProbeFailed) or error.cold
            raise PromiseBroken(self.service, f"over {self.label(asked)}, {wrong}", error, cold=cold) from None
        return reply

    def warm(self, transport: Transport | None = None, when: str = "") -> Reply:
        """Ask the run that was woken; `when` says in a broken promise what goes on meanwhile."""
        asked = transport or self.transport
        try:
            return self.service.ask_warm(asked, timed(self.service.contract.probe(asked)))
        except ProbeFailed as error:
            raise self.broken(
                f"over {self.label(asked)}{when}, {error.wrong or error.sentence.rstrip('.')}", error
            ) from None

    def next(self, when: str) -> Reply:
        """Ask whatever runs or is woken; `when` is what was before."""
        try:
            return self.service.ask(self.transport, self.client)
        except ProbeFailed as error:
            raise self.broken(f"{when}, over {self.transport}, {error.wrong}", error) from None

    def stop(self) -> None:
        """Stop the service, so that it listens for its next client."""
        with self.stopping():
            self.service.stop_service()

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Say that the promise `stop` is broken where the service does not stop in time."""
        try:
            yield
        except WaitTimeout as error:
            limit_s = self.service.contract.limits.stop_s
            raise self.broken(f"SIGTERM did not end the program within {limit_s:g} s", error) from None

    def listen_again(self) -> None:
        """Make sure that somebody listens after a run has ended by itself: a launcher serves once."""
        if not self.service.activated.listens_on:
            self.service.stop_service()

    def ended(self, run: Run, replies: str) -> str:
        """Return how a run ended, for a sentence; "" where it goes on."""
        if not is_over(self.service.activated, self.transport, run):
            return ""
        return f"{end_of(self.service.activated, run)} {replies}"
