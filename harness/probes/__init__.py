"""Clients: each asks one endpoint once and returns the reply, whatever came of it."""

from __future__ import annotations

from enum import StrEnum

from harness.contract import BytesProbe, HttpProbe
from harness.deadline import Deadline
from harness.probes import curl, native, socat
from harness.probes.reply import Reply, Times, judge
from harness.session.session import Session
from harness.transports import Endpoint

__all__ = ["Client", "Reply", "Times", "ask", "clients", "judge", "timed"]


class Client(StrEnum):
    """Which program, or whose socket, talks to the endpoint."""

    SOCAT = "socat"
    CURL = "curl"
    NATIVE = "native"


def clients(promised: BytesProbe | HttpProbe) -> tuple[Client, ...]:
    """Return who can ask for what a contract promises, the client that users know first."""
    return (Client.CURL, Client.NATIVE) if isinstance(promised, HttpProbe) else (Client.SOCAT, Client.NATIVE)


def timed(promised: BytesProbe | HttpProbe) -> Client:
    """Return whose times are best: those of a socket of our own, since it starts no program."""
    return clients(promised)[-1]


def ask(
    session: Session, endpoint: Endpoint, promised: BytesProbe | HttpProbe, client: Client, deadline: Deadline
) -> Reply:
    """Let `client` ask the endpoint what the contract says; the reply is not judged here."""
    if isinstance(promised, HttpProbe):
        fetch = native.ask_page if client is Client.NATIVE else curl.ask
        return fetch(session, endpoint, promised.path, deadline)
    sent = promised.send.encode()
    talk = native.ask if client is Client.NATIVE else socat.ask
    return talk(session, endpoint, sent, deadline)
