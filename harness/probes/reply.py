"""What a client got, and when."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from harness.contract import BytesProbe, HttpProbe
from harness.transports import Endpoint


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
    """One talk of one client to one endpoint."""

    endpoint: Endpoint
    #: `socat`, `curl` or `native`.
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

    @property
    def reproducer(self) -> str:
        """A line for a shell that talks to the endpoint in the same way, while the session lives."""
        if not self.command:
            return f"(a socket of the harness's own, connected to {self.endpoint})"
        line = shlex.join(self.command)
        return f"printf %s {shlex.quote(self.sent.decode(errors='replace'))} | {line}" if self.sent else line


def judge(reply: Reply, promised: BytesProbe | HttpProbe) -> str:
    """Return what is wrong with a reply, as the end of the sentence 'the reply ...', or "" when it is as promised."""
    if isinstance(promised, BytesProbe):
        expected = promised.expect.encode()
        if reply.body == expected:
            return f"was {_shown(expected)}, but {reply.complaint}" if reply.complaint else ""
        return f"{_nothing(reply) or f'was {_shown(reply.body)}'} instead of {_shown(expected)}"
    if missing := _nothing(reply):
        return f"{missing} instead of a page"
    if reply.status not in promised.status:
        return f"had the HTTP status {reply.status} instead of {' or '.join(map(str, promised.status))}"
    if promised.contains.encode() not in reply.body:
        return f"was a page of {len(reply.body)} bytes that lacks '{promised.contains}'"
    return f"was a page, but {reply.complaint}" if reply.complaint else ""


def _nothing(reply: Reply) -> str:
    if reply.body or reply.status:
        return ""
    return f"never came ({reply.complaint})" if reply.complaint else "was empty"


def _shown(data: bytes, limit: int = 80) -> str:
    more: Sequence[str] = [f" and {len(data) - limit} more bytes"] if len(data) > limit else []
    return "".join([repr(data[:limit])[1:], *more])
