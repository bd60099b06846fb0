"""What a client got, and when."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.transports import Endpoint


@dataclass(frozen=True, slots=True)
class Times:
    """Points on CLOCK_MONOTONIC, in seconds; None where the client can't tell or the step was not reached."""

    started: float
    connected: float | None
    first_byte: float | None
    ended: float

    @property
    def whole_s(self) -> float:
        """Seconds from the start of the client to its end."""
        return self.ended - self.started


@dataclass(frozen=True, slots=True)
class Reply:
    """One request of one client to one endpoint, and what came back."""

    endpoint: Endpoint
    #: `socat`, `curl`, `native` or `exec`.
    client: str
    sent: bytes
    body: bytes
    times: Times
    #: What the client itself said when something went wrong; empty when all was well.
    complaint: str = ""
    #: The status of an HTTP reply, 0 for any other.
    status: int = 0
    #: The command that does the same again, for a person; empty for the native client.
    command: tuple[str, ...] = ()
    #: The headers of an HTTP reply, names in lower case, one value per line.
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: How a client program ended; None for other clients, and for one that did not end.
    exit_status: int | None = None

    @property
    def reproducer(self) -> str:
        """A line for a shell that repeats the request while the session lives."""
        if not self.command:
            return f"(a socket of the harness's own, connected to {self.endpoint})"
        line = shlex.join(self.command)
        if self.sent:
            return f"printf %s {shlex.quote(self.sent.decode(errors='replace'))} | {line}"
        return f"{line} </dev/null" if self.client == "socat" else line
