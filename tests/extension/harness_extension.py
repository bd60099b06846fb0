from typing import Annotated, Literal

from pydantic import Field

from harness.activation import unit
from harness.activation.base import Workload
from harness.activation.units import UnitActivation
from harness.core.deadline import Deadline
from harness.core.transports import Endpoint
from harness.probes import CustomProbe, Reply, native
from harness.session.session import Session


def files(workload: Workload) -> dict[str, str]:
    """Return the file of a service that gives way to others."""
    return {name: text.replace("[Service]\n", "[Service]\nNice=5\n") for name, text in unit.files(workload).items()}


NICE = UnitActivation("nice", lambda _session, workload: files(workload), files)


class RepeatProbe(CustomProbe):
    """A client that sends a word several times, and expects all of it back."""

    kind: Literal["repeat"]
    word: Annotated[str, Field(min_length=1, max_length=64)]
    times: Annotated[int, Field(ge=1, le=100)] = 2

    @property
    def sent(self) -> bytes:
        return self.word.encode() * self.times

    def ask(self, session: Session, endpoint: Endpoint, deadline: Deadline) -> Reply:
        return native.ask(session, endpoint, self.sent, deadline)

    def judge(self, reply: Reply) -> str:
        if reply.body == self.sent:
            return ""
        return f"expected {self.times} times {self.word!r}, got {reply.body!r}"

    def command(self, endpoint: Endpoint) -> tuple[str, ...]:
        return ("socat", "-", endpoint.socat)
