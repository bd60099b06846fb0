"""Client programs of contracts against small real servers: arguments, input, output, exit status, limits."""

from __future__ import annotations

import time

import pytest

from harness import probes
from harness.contract import ExecProbe
from harness.core.deadline import Deadline
from harness.core.transports import Endpoint, Transport
from harness.probes import Client, Reply, Supplies, clients, judge
from harness.session.session import Session
from tests.helpers.servers import endpoint_in, serving
from tests.helpers.sessions import over

LIMIT_S = 10.0


def exec_probe(*command: str, **changes: object) -> ExecProbe:
    """Return what a contract promises of a program."""
    return ExecProbe.model_validate({"kind": "exec", "command": command, **changes})


def ask(session: Session, endpoint: Endpoint, probe: ExecProbe, limit_s: float = LIMIT_S) -> Reply:
    """Let the program ask."""
    supplies = Supplies(secrets={"word": "5ec7e7"})
    return probes.ask(session, endpoint, probe, Client.EXEC, Deadline.after(limit_s), supplies)


@pytest.mark.parametrize(
    ("transport", "address"),
    [
        (Transport.TCP4, "127.0.0.1 4000 127.0.0.1:4000"),
        (Transport.TCP6, "::1 4000 [::1]:4000"),
        (Transport.UDP6, "::1 4000 [::1]:4000"),
        (Transport.VSOCK, "1 4000 1:4000"),
    ],
)
def test_placeholders_of_ports(transport: Transport, address: str) -> None:
    """Everywhere in an argument; other braces stay as they are."""
    line = probes.command(Endpoint(transport, 4000), exec_probe("echo", "{host} {port} {address}", "{x} {{port}}"))
    assert line == ("echo", address, "{x} {4000}")


def test_placeholders_of_paths() -> None:
    """A Unix socket has a path only."""
    line = probes.command(Endpoint(Transport.UNIX, path="/a b"), exec_probe("echo", "x={path}", "{address}"))
    assert line == ("echo", "x=/a b", "/a b")


@over("tcp4", "tcp6", "unix")
def test_a_program_of_the_session(harness_session: Session, transport: Transport) -> None:
    """It reaches the endpoint, reads what the contract says, and its output is the reply."""
    address = "UNIX:{path}" if transport is Transport.UNIX else f"{transport}:{{address}}"
    probe = exec_probe("socat", "-t9", "-", address, stdin="say {secret:word}\n", contains="heard", pattern=r"\n$")
    with serving(harness_session, transport, lambda sent: b"heard " + sent) as server:
        reply = ask(harness_session, server.endpoint, probe)

    assert server.heard == [b"say 5ec7e7\n"]
    assert (reply.body, reply.exit_status, reply.complaint) == (b"heard say 5ec7e7\n", 0, "")
    assert judge(reply, probe) == ""
    assert "5ec7e7" not in reply.reproducer
    assert "{secret:word}" in reply.reproducer
    assert clients(probe) == (Client.EXEC,)


def test_no_shell_and_no_environment_but_the_sessions(harness_session: Session) -> None:
    """What a shell would take for something else is an argument like any other."""
    reply = ask(
        harness_session, endpoint_in(harness_session, Transport.TCP4), exec_probe("printf", "%s", "$HOME;`id`|*")
    )
    assert reply.body == b"$HOME;`id`|*"
    reply = ask(harness_session, endpoint_in(harness_session, Transport.TCP4), exec_probe("printenv"))
    names = {line.partition("=")[0] for line in reply.body.decode().splitlines()}
    assert names - {"PWD", "SHLVL", "_"} == set(harness_session.environment)


def test_its_streams_can_be_opened_by_name(harness_session: Session) -> None:
    """By the account of a session or of a container: some clients read their settings so."""
    probe = exec_probe("cp", "/dev/stdin", "/dev/stdout", stdin="heard")
    reply = ask(harness_session, endpoint_in(harness_session, Transport.TCP4), probe)
    assert (reply.exit_status, reply.body, reply.complaint) == (0, b"heard", "")


# -- negative controls ------------------------------------------------------------------------------------------------


def test_another_exit_status(harness_session: Session) -> None:
    """The program's own words beside it: mostly they say why."""
    probe = exec_probe("socat", "-", "TCP4:{address}")
    wrong = judge(ask(harness_session, endpoint_in(harness_session, Transport.TCP4), probe), probe)

    assert wrong.startswith("expected the exit status 0, got 1 and the error ")
    assert "Connection refused" in wrong


def test_another_output(harness_session: Session) -> None:
    """A status of 0 does not make an output the right one."""
    probe = exec_probe("socat", "-t9", "-", "TCP4:{address}", stdin="x", contains="hello")
    with serving(harness_session, Transport.TCP4, lambda _sent: b"good bye") as server:
        assert (
            judge(ask(harness_session, server.endpoint, probe), probe)
            == "expected an output that contains 'hello', got 'good bye'"
        )
    probe = exec_probe("socat", "-t9", "-", "TCP4:{address}", stdin="x", pattern="^bye")
    with serving(harness_session, Transport.TCP4, lambda _sent: b"good bye") as server:
        assert (
            judge(ask(harness_session, server.endpoint, probe), probe)
            == "expected an output that matches '^bye', got 'good bye'"
        )


def test_no_such_program(harness_session: Session) -> None:
    """Said by whoever should have started it."""
    probe = exec_probe("harness-no-such-program")
    wrong = judge(ask(harness_session, endpoint_in(harness_session, Transport.TCP4), probe), probe)
    assert wrong.startswith("expected the exit status 0, got 127 and the error ")
    assert "harness-no-such-program" in wrong


def test_a_program_that_does_not_end(harness_session: Session) -> None:
    """It is gone after the limit, and what it had printed is kept."""
    probe = exec_probe("socat", "-t99", "-", "TCP4:{address}", stdin="x")

    def for_ever(_sent: bytes) -> None:
        return None

    before = time.monotonic()
    with serving(harness_session, Transport.TCP4, for_ever) as server:
        reply = ask(harness_session, server.endpoint, probe, 1.0)

    assert reply.exit_status is None
    assert judge(reply, probe).startswith("expected the exit status 0, got none: ")
    assert "did not end within" in reply.complaint
    assert time.monotonic() - before < LIMIT_S
