"""socat and a socket of our own against small real servers: what comes back, when, what is said of silence."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from harness import probes
from harness.contract import BytesProbe
from harness.deadline import Deadline
from harness.probes import Client, Reply, judge, native, socat
from harness.session.session import Session
from harness.transports import Endpoint, Transport
from tests.servers import Reset, endpoint_in, serving
from tests.sessions import over, running

PROMISED = BytesProbe(kind="bytes", send="hello\n", expect="hello\n")

#: Long enough to be noticed if a client waits it out.
LIMIT_S = 10.0

#: How much later than its limit a client may come back on a busy machine.
LATE_S = 2.0

STREAMS = ("tcp4", "tcp6", "unix")
DATAGRAMS = ("udp4", "udp6")

both_clients = pytest.mark.parametrize("client", [Client.SOCAT, Client.NATIVE])


def ask(session: Session, endpoint: Endpoint, client: Client, limit_s: float = LIMIT_S) -> Reply:
    """Let a client ask what is promised."""
    return probes.ask(session, endpoint, PROMISED, client, Deadline.after(limit_s))


def echo(data: bytes) -> bytes:
    """Answer as promised."""
    return data


def ordered(reply: Reply) -> list[float]:
    """Return the times that a reply has, which must be in this order."""
    times = reply.times
    return [time for time in (times.started, times.connected, times.first_byte, times.ended) if time is not None]


def refuse(_data: bytes) -> bytes:
    """Break the connection off."""
    raise Reset


# -- replies ----------------------------------------------------------------------------------------------------------


@both_clients
@over(*STREAMS, *DATAGRAMS)
def test_a_reply(user_session: Session, transport: Transport, client: Client) -> None:
    """All that was sent arrives, all that comes back is in the reply, and the times are in their order."""
    before = time.monotonic()
    with serving(user_session, transport, echo) as server:
        reply = ask(user_session, server.endpoint, client)
    after = time.monotonic()

    assert server.heard == [b"hello\n"]
    assert (reply.sent, reply.body, reply.complaint, reply.status) == (b"hello\n", b"hello\n", "", 0)
    assert (reply.client, reply.endpoint) == (client, server.endpoint)
    assert judge(reply, PROMISED) == ""
    assert len(ordered(reply)) == 4
    assert [before, *ordered(reply), after] == sorted([before, *ordered(reply), after])
    assert reply.times.whole_s < LIMIT_S / 2


@over(*STREAMS, *DATAGRAMS)
def test_a_client_that_pauses(user_session: Session, transport: Transport) -> None:
    """What it sends arrives as a whole; a datagram can't come in two parts."""
    with serving(user_session, transport, echo) as server:
        reply = native.ask(user_session, server.endpoint, b"hello\n", Deadline.after(LIMIT_S), 0.1)

    assert (server.heard, reply.body, reply.complaint) == ([b"hello\n"], b"hello\n", "")
    assert server.endpoint.datagram or reply.times.whole_s >= 0.1


@both_clients
@over(*STREAMS)
def test_a_long_reply_is_read_to_its_end(user_session: Session, transport: Transport, client: Client) -> None:
    """More than fits into one read of any client's."""
    with serving(user_session, transport, lambda data: data * 2_000) as server:
        reply = ask(user_session, server.endpoint, client)

    assert reply.body == b"hello\n" * 2_000
    assert reply.complaint == ""


@both_clients
def test_a_very_long_reply_is_read_to_its_end(user_session: Session, client: Client) -> None:
    """Not one byte is lost when a client has ended and its output is still being read."""
    with serving(user_session, Transport.TCP4, lambda data: data * 500_000) as server:
        reply = ask(user_session, server.endpoint, client, 5)

    assert len(reply.body) == 3_000_000
    assert reply.complaint == ""


@both_clients
@over(*STREAMS)
def test_more_than_was_promised(user_session: Session, transport: Transport, client: Client) -> None:
    """Bytes behind the right ones are not lost: they make the reply wrong."""
    with serving(user_session, transport, lambda data: data + b"extra") as server:
        reply = ask(user_session, server.endpoint, client)

    assert reply.body == b"hello\nextra"
    assert judge(reply, PROMISED) == r"was 'hello\nextra' instead of 'hello\n'"


@both_clients
@over(*STREAMS)
def test_a_service_that_closes_at_once(user_session: Session, transport: Transport, client: Client) -> None:
    """An end without a byte is an empty reply and nobody's error."""
    with serving(user_session, transport, lambda _data: b"") as server:
        reply = ask(user_session, server.endpoint, client)

    assert (reply.body, reply.complaint) == (b"", "")
    assert reply.times.first_byte is None
    assert reply.times.whole_s < LIMIT_S / 2
    assert judge(reply, PROMISED) == r"was empty instead of 'hello\n'"


@both_clients
@over("tcp4", "tcp6")
def test_a_service_that_breaks_off(user_session: Session, transport: Transport, client: Client) -> None:
    """A reset is told in the words of the system."""
    with serving(user_session, transport, refuse) as server:
        reply = ask(user_session, server.endpoint, client)

    assert reply.body == b""
    assert "Connection reset by peer" in reply.complaint
    assert judge(reply, PROMISED).startswith("never came (")
    assert reply.times.whole_s < LIMIT_S / 2


@both_clients
@over(*STREAMS, *DATAGRAMS)
def test_nobody_listens(user_session: Session, transport: Transport, client: Client) -> None:
    """The refusal comes at once, over each transport, datagrams too: the kernel sends an error back."""
    reply = ask(user_session, endpoint_in(user_session, transport), client)

    assert reply.body == b""
    assert ("No such file" if transport == "unix" else "Connection refused") in reply.complaint
    assert (reply.times.connected is None) is (transport in STREAMS)
    assert reply.times.first_byte is None
    assert ordered(reply) == sorted(ordered(reply))
    assert reply.times.whole_s < LIMIT_S / 2


# -- time limits ------------------------------------------------------------------------------------------------------


@both_clients
@over(*STREAMS, *DATAGRAMS)
def test_silence_ends_at_the_limit(user_session: Session, transport: Transport, client: Client) -> None:
    """A service that takes the connection and says nothing costs the limit and not more."""
    with serving(user_session, transport, lambda _data: None) as server:
        started = time.monotonic()
        reply = ask(user_session, server.endpoint, client, 0.5)

    assert 0.5 <= reply.times.ended - started < 0.5 + LATE_S
    assert (reply.body, reply.times.first_byte) == (b"", None)
    assert reply.complaint == f"nothing came to an end within {reply.complaint[-5:]}"
    assert judge(reply, PROMISED) == f"never came ({reply.complaint}) instead of 'hello\\n'"


@both_clients
@over("tcp4", "unix")
def test_a_reply_that_never_ends(user_session: Session, transport: Transport, client: Client) -> None:
    """The limit is for the whole talk and not for each piece of it; what came by then is shown."""

    def drip(_data: bytes) -> Iterator[bytes]:
        for _drop in range(30):
            time.sleep(0.15)
            yield b"."

    with serving(user_session, transport, drip) as server:
        reply = ask(user_session, server.endpoint, client, 0.7)

    assert reply.times.whole_s < 0.7 + LATE_S
    assert reply.complaint.startswith("nothing came to an end within")
    assert 1 <= reply.body.count(b".") < 30


@both_clients
def test_a_reply_that_comes_late_but_in_time(user_session: Session, client: Client) -> None:
    """A limit is a limit, not one rounded down to whole seconds."""

    def late(data: bytes) -> bytes:
        time.sleep(1.1)
        return data

    with serving(user_session, Transport.TCP4, late) as server:
        assert ask(user_session, server.endpoint, client, 1.45).body == b"hello\n"


@both_clients
@over(*DATAGRAMS)
def test_a_datagram_is_the_whole_reply(user_session: Session, transport: Transport, client: Client) -> None:
    """Nobody waits out the limit for more of them."""
    with serving(user_session, transport, echo) as server:
        reply = ask(user_session, server.endpoint, client, 60)

    assert reply.body == b"hello\n"
    assert reply.times.whole_s < 10


@both_clients
def test_no_time_at_all(user_session: Session, client: Client) -> None:
    """An expired deadline is no endless one."""
    with serving(user_session, Transport.TCP4, lambda _data: None) as server:
        reply = ask(user_session, server.endpoint, client, 0)

    assert reply.complaint.startswith("nothing came to an end within")
    assert reply.times.whole_s < LATE_S


# -- what is left and what is told ------------------------------------------------------------------------------------


def test_socat_leaves_no_process(user_session: Session) -> None:
    """Neither when it was answered nor when it was cut off."""
    with serving(user_session, Transport.UDP4, echo) as answering:
        ask(user_session, answering.endpoint, Client.SOCAT)
    with serving(user_session, Transport.TCP4, lambda _data: None) as silent:
        ask(user_session, silent.endpoint, Client.SOCAT, 0.2)

    assert running(user_session, "socat") == []


def shell(session: Session, reply: Reply) -> subprocess.CompletedProcess[bytes]:
    """Run the line that reproduces a reply in a plain shell, as a person would."""
    return subprocess.run(["/bin/sh", "-c", reply.reproducer], capture_output=True, timeout=30, check=False)


@over(*STREAMS, *DATAGRAMS)
@pytest.mark.parametrize("sent", ["hello\n", "it's 100%\\n $HOME `id`\té\n"], ids=["plain", "nasty"])
def test_a_reproducer_does_the_same_again(
    user_session: Session, monkeypatch: pytest.MonkeyPatch, transport: Transport, sent: str
) -> None:
    """The line works in a shell as it stands, and sends the very same bytes."""
    monkeypatch.setattr(socat, "_GRACE_S", 0)  # a person's socat waits it out for more datagrams
    promised = BytesProbe(kind="bytes", send=sent, expect=sent)
    with serving(user_session, transport, echo) as server:
        reply = probes.ask(user_session, server.endpoint, promised, Client.SOCAT, Deadline.after(1))
        again = shell(user_session, reply)

    assert server.heard == [sent.encode()] * 2
    assert again.stdout == reply.body == sent.encode()


def test_a_reply_without_a_program_says_so(user_session: Session) -> None:
    """There is no line for a shell, but it says what was connected where."""
    with serving(user_session, Transport.TCP4, echo) as server:
        assert ask(user_session, server.endpoint, Client.NATIVE).reproducer == (
            f"(a socket of the harness's own, connected to {server.endpoint})"
        )
