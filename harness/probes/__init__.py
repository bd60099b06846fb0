"""Clients: each asks one endpoint once and returns the reply, whatever came of it."""

from __future__ import annotations

from enum import StrEnum

from harness.contract import BytesProbe, ExecProbe, HttpProbe, Probe
from harness.deadline import Deadline
from harness.probes import curl, native, program, socat
from harness.probes.program import Supplies
from harness.probes.reply import Reply, Times, judge
from harness.session.session import Session
from harness.transports import Endpoint

__all__ = ["Client", "Reply", "Supplies", "Times", "ask", "clients", "command", "judge", "timed"]


class Client(StrEnum):
    """Which program, or whose socket, talks to the endpoint."""

    SOCAT = "socat"
    CURL = "curl"
    NATIVE = "native"
    EXEC = "exec"


def clients(promised: Probe) -> tuple[Client, ...]:
    """Return who can ask for what a contract promises, the client that users know first."""
    match promised:
        case BytesProbe():
            return (Client.SOCAT, Client.NATIVE)
        case HttpProbe():
            return (Client.CURL, Client.NATIVE)
        case ExecProbe():
            return (Client.EXEC,)


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
) -> Reply:
    """Let `client` ask the endpoint what the contract says; the reply is not judged here."""
    match promised:
        case BytesProbe():
            talk = native.ask if client is Client.NATIVE else socat.ask
            return talk(session, endpoint, promised.send.encode(), deadline)
        case HttpProbe():
            fetch = native.ask_page if client is Client.NATIVE else curl.ask
            return fetch(session, endpoint, promised.path, deadline)
        case ExecProbe():
            return program.ask(session, endpoint, promised, supplies or Supplies(), deadline)


def command(endpoint: Endpoint, promised: Probe, supplies: Supplies | None = None) -> tuple[str, ...]:
    """Return the command line of the first client, as a person would type it in the session."""
    match promised:
        case BytesProbe():
            return ("socat", "-", endpoint.socat)
        case HttpProbe():
            return ("curl", *endpoint.curl(promised.path))
        case ExecProbe():
            return program.command(endpoint, promised, supplies or Supplies())
