"""Clients: each asks one endpoint once and returns the reply, whatever came of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from harness.contract import ConnectProbe, ExecProbe, HttpProbe, Probe, Sends
from harness.core.deadline import Deadline
from harness.core.transports import Endpoint
from harness.probes import connect, curl, native, program, socat
from harness.probes.custom import CustomProbe
from harness.probes.judging import judge
from harness.probes.program import Supplies
from harness.probes.reading import LISTEN_ON_S, Hopeless, settled
from harness.probes.reply import Reply, Times
from harness.session.session import Session

__all__ = [
    "Client",
    "CustomProbe",
    "Reply",
    "Supplies",
    "Times",
    "ask",
    "ask_bytes",
    "clients",
    "command",
    "judge",
    "timed",
]


class Client(StrEnum):
    """Which program, or whose socket, sends the request."""

    SOCAT = "socat"
    CURL = "curl"
    NATIVE = "native"
    EXEC = "exec"
    CUSTOM = "custom"


def clients(promised: Probe) -> tuple[Client, ...]:
    """Return who can ask for what a contract promises, the client that users know first."""
    match promised:
        case Sends():
            return (Client.SOCAT, Client.NATIVE)
        case HttpProbe():
            return (Client.CURL, Client.NATIVE)
        case ConnectProbe():
            return (Client.NATIVE,)
        case ExecProbe():
            return (Client.EXEC,)
        case CustomProbe():
            return (Client.CUSTOM,)
    raise _unknown(promised)


def timed(promised: Probe) -> Client:
    """Return whose times are best: where it can, those of a socket of our own, since it starts no program."""
    return clients(promised)[-1]


def ask(
    session: Session,
    endpoint: Endpoint,
    promised: Probe,
    client: Client,
    deadline: Deadline,
    supplies: Supplies | None = None,
    hopeless: Hopeless | None = None,
    before_closing: Callable[[], object] = lambda: None,
    listen_on_s: float = LISTEN_ON_S,
) -> Reply:
    """Let `client` ask the endpoint what the contract says; the reply is not judged here.

    A client that reads by itself, socat and the native ones, gives up where `hopeless` has a reason. A native one calls
    `before_closing` while it has its reply and the connection, and listens on for bytes that nobody promised.
    """
    match promised, client:
        case Sends(), Client.NATIVE:
            return native.ask(
                session,
                endpoint,
                promised.send.encode(),
                deadline,
                settled=settled(promised),
                hopeless=hopeless,
                before_closing=before_closing,
                listen_on_s=listen_on_s,
            )
        case Sends(), _:
            sent = promised.send.encode()
            return socat.ask(session, endpoint, sent, deadline, settled=settled(promised), hopeless=hopeless)
        case HttpProbe(), Client.NATIVE:
            return native.ask_page(session, endpoint, promised.path, deadline, hopeless, before_closing, listen_on_s)
        case HttpProbe(), _:
            return curl.ask(session, endpoint, promised.path, deadline)
        case ConnectProbe(), _:
            return connect.ask(session, endpoint, deadline, hopeless, before_closing)
        case ExecProbe(), _:
            return program.ask(session, endpoint, promised, supplies or Supplies(), deadline)
        case CustomProbe(), _:
            return promised.ask(session, endpoint, deadline)
    raise _unknown(promised)


def ask_bytes(
    session: Session,
    endpoint: Endpoint,
    sent: bytes,
    deadline: Deadline,
    client: Client = Client.NATIVE,
    pause_s: float = 0.0,
) -> Reply:
    """Let socat or a socket of our own send some bytes, and read until the service closes; a datagram is a reply.

    The socket of our own can pause in the middle of what it sends over a stream.
    """
    if client is Client.SOCAT:
        return socat.ask(session, endpoint, sent, deadline)
    return native.ask(session, endpoint, sent, deadline, pause_s)


def command(endpoint: Endpoint, promised: Probe, supplies: Supplies | None = None) -> tuple[str, ...]:
    """Return the command line of the first client, as a person would type it in the session."""
    match promised:
        case Sends():
            return ("socat", "-", socat.address(endpoint, promised.send.encode(), half_close=promised.half_close))
        case HttpProbe():
            return ("curl", *endpoint.curl(promised.path))
        case ConnectProbe():
            return ("socat", "-u", endpoint.socat, "/dev/null")
        case ExecProbe():
            return program.command(endpoint, promised, supplies or Supplies())
        case CustomProbe():
            return promised.command(endpoint)
    raise _unknown(promised)


def _unknown(promised: Probe) -> TypeError:
    return TypeError(f"no client asks for what {type(promised).__name__} promises: it is no CustomProbe")
