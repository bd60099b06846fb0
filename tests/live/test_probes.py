"""socat and a socket of our own against small real servers: what comes back, when, what is said of silence."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import probes
from harness.contract import BytesProbe
from harness.core.deadline import Deadline
from harness.core.transports import Endpoint, Transport
from harness.probes import Client, Reply, judge, native, socat
from harness.probes.reading import LISTEN_ON_S
from harness.session.session import Session
from tests.helpers.servers import Reset, endpoint_in, listening, serving
from tests.helpers.sessions import over, running

PROMISED = BytesProbe(kind="bytes", send="hello\n", expect="hello\n")
TO_THE_END = PROMISED.model_copy(update={"half_close": True})
MATCHED = BytesProbe(kind="bytes", send="hello\n", expect_pattern=r"^hello\n$")

#: Long enough to be noticed if a client waits it out.
LIMIT_S = 10.0

#: How much later than its limit a client may come back on a busy machine.
LATE_S = 2.0

STREAMS = ("tcp4", "tcp6", "unix")
DATAGRAMS = ("udp4", "udp6")

both_clients = pytest.mark.parametrize("client", [Client.SOCAT, Client.NATIVE])


def ask(
    session: Session, endpoint: Endpoint, client: Client, limit_s: float = LIMIT_S, promised: BytesProbe = PROMISED
) -> Reply:
    """Let a client ask what is promised."""
    return probes.ask(session, endpoint, promised, client, Deadline.after(limit_s))


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
def test_a_reply(harness_session: Session, transport: Transport, client: Client) -> None:
    """All that was sent arrives, all that comes back is in the reply, and the times are in their order."""
    before = time.monotonic()
    with serving(harness_session, transport, echo) as server:
        reply = ask(harness_session, server.endpoint, client)
    after = time.monotonic()

    assert server.heard == [b"hello\n"]
    assert (reply.sent, reply.body, reply.complaint, reply.status) == (b"hello\n", b"hello\n", "", 0)
    assert (reply.client, reply.endpoint) == (client, server.endpoint)
    assert judge(reply, PROMISED) == ""
    assert len(ordered(reply)) == 4
    assert [before, *ordered(reply), after] == sorted([before, *ordered(reply), after])
    assert reply.times.whole_s < LIMIT_S / 2


@over(*STREAMS, *DATAGRAMS)
def test_a_client_that_pauses(harness_session: Session, transport: Transport) -> None:
    """What it sends arrives as a whole; a datagram can't come in two parts."""
    with serving(harness_session, transport, echo) as server:
        reply = native.ask(harness_session, server.endpoint, b"hello\n", Deadline.after(LIMIT_S), 0.1)

    assert (server.heard, reply.body, reply.complaint) == ([b"hello\n"], b"hello\n", "")
    assert server.endpoint.datagram or reply.times.whole_s >= 0.1


@both_clients
@over(*STREAMS)
def test_a_long_reply_is_read_to_its_end(harness_session: Session, transport: Transport, client: Client) -> None:
    """More than fits into one read of any client's."""
    with serving(harness_session, transport, lambda data: data * 2_000) as server:
        reply = ask(harness_session, server.endpoint, client, promised=TO_THE_END)

    assert reply.body == b"hello\n" * 2_000
    assert reply.complaint == ""


@both_clients
def test_a_very_long_reply_is_read_to_its_end(harness_session: Session, client: Client) -> None:
    """Not one byte is lost when a client has ended and its output is still being read."""
    with serving(harness_session, Transport.TCP4, lambda data: data * 500_000) as server:
        reply = ask(harness_session, server.endpoint, client, 5, TO_THE_END)

    assert len(reply.body) == 3_000_000
    assert reply.complaint == ""


@both_clients
@over(*STREAMS)
def test_more_than_was_promised(harness_session: Session, transport: Transport, client: Client) -> None:
    """Bytes behind the right ones are not lost: they make the reply wrong."""
    with serving(harness_session, transport, lambda data: data + b"extra") as server:
        reply = ask(harness_session, server.endpoint, client)

    assert reply.body == b"hello\nextra"
    assert judge(reply, PROMISED) == r"expected 'hello\n', got 'hello\nextra'"


# -- when a client has what it came for -------------------------------------------------------------------------------

either = pytest.mark.parametrize("promised", [PROMISED, MATCHED], ids=["bytes", "pattern"])


@both_clients
@over(*STREAMS)
@either
def test_a_service_that_keeps_its_side_open(
    harness_session: Session, transport: Transport, client: Client, promised: BytesProbe
) -> None:
    """The client goes when it has what it expects, and did not say before that it would."""
    with serving(harness_session, transport, echo, closes=False) as server:
        started = time.monotonic()
        reply = ask(harness_session, server.endpoint, client, promised=promised)
        gone_s = time.monotonic() - started

    assert (reply.body, reply.complaint, judge(reply, promised)) == (b"hello\n", "", "")
    assert gone_s < LIMIT_S / 2
    assert reply.times.ended - started <= gone_s - LISTEN_ON_S, "listening on is nothing that the service took"


@both_clients
def test_a_service_that_owes_its_client_the_end(harness_session: Session, client: Client) -> None:
    """One that half-closes is promised that the service closes, too."""
    with serving(harness_session, Transport.TCP4, echo, closes=False) as server:
        reply = ask(harness_session, server.endpoint, client, 0.5, TO_THE_END)

    assert judge(reply, TO_THE_END).startswith(r"got 'hello\n' as expected, but timed out after ")


def heard_on(client: socket.socket) -> bytes:
    """Return what a server hears of a client that says nothing more, `b""` when it has ended its side."""
    client.settimeout(0.05)
    try:
        return client.recv(1)
    except TimeoutError:
        return b"open"


@both_clients
@pytest.mark.parametrize(("promised", "heard"), [(PROMISED, b"open"), (TO_THE_END, b"")], ids=["open", "half-close"])
def test_only_who_says_so_half_closes(
    harness_session: Session, client: Client, promised: BytesProbe, heard: bytes
) -> None:
    """What a proxy sees of a client between its request and the reply."""
    seen = []
    with listening(harness_session, Transport.TCP4) as (endpoint, listener), ThreadPoolExecutor(1) as pool:
        reply = pool.submit(ask, harness_session, endpoint, client, LIMIT_S, promised)
        connection, _peer = listener.accept()
        with connection:
            connection.recv(100)
            seen.append(heard_on(connection))
            connection.sendall(b"hello\n")
        assert judge(reply.result(), promised) == ""
    assert seen == [heard]


@both_clients
@over(*STREAMS)
def test_a_service_that_speaks_first(harness_session: Session, transport: Transport, client: Client) -> None:
    """The client says nothing, and goes when it was greeted."""
    greeted = BytesProbe(kind="bytes", expect="220 ready\n")
    with serving(harness_session, transport, echo, greeting=b"220 ready\n") as server:
        reply = ask(harness_session, server.endpoint, client, promised=greeted)
    assert (reply.sent, reply.body, judge(reply, greeted)) == (b"", b"220 ready\n", "")
    assert reply.times.whole_s < LIMIT_S / 2
    assert server.heard == [b""]


@both_clients
@over(*DATAGRAMS)
def test_a_client_of_datagrams_that_says_nothing(
    harness_session: Session, transport: Transport, client: Client
) -> None:
    """It sends one empty datagram, or nobody would know of it."""
    with serving(harness_session, transport, lambda data: b"heard %d bytes" % len(data)) as server:
        reply = ask(harness_session, server.endpoint, client, promised=BytesProbe(kind="bytes", expect="a"))
    assert (server.heard, reply.body, reply.complaint) == ([b""], b"heard 0 bytes", "")


@both_clients
@either
def test_more_than_was_promised_a_moment_later(harness_session: Session, client: Client, promised: BytesProbe) -> None:
    """The right bytes in a segment of their own, and others after them: the client listens on."""

    def twice(data: bytes) -> Iterator[bytes]:
        yield data
        time.sleep(LISTEN_ON_S / 4)
        yield b"extra"

    with serving(harness_session, Transport.TCP4, twice, closes=False) as server:
        reply = ask(harness_session, server.endpoint, client, promised=promised)
    assert judge(reply, promised).endswith(r", got 'hello\nextra'")


@both_clients
def test_other_bytes_than_promised_are_red_at_once(harness_session: Session, client: Client) -> None:
    """What can't come any more is not waited for, though the connection stays."""
    with serving(harness_session, Transport.TCP4, lambda _data: b"HE", closes=False) as server:
        reply = ask(harness_session, server.endpoint, client)
    assert judge(reply, PROMISED) == r"expected 'hello\n', got 'HE'"
    assert reply.times.whole_s < LIMIT_S / 2


@both_clients
def test_a_reply_in_pieces(harness_session: Session, client: Client) -> None:
    """The first of them is no other reply than the one that was promised."""

    def in_pieces(data: bytes) -> Iterator[bytes]:
        for at in range(len(data)):
            time.sleep(LISTEN_ON_S / 2)
            yield data[at : at + 1]

    with serving(harness_session, Transport.TCP4, in_pieces, closes=False) as server:
        assert judge(ask(harness_session, server.endpoint, client), PROMISED) == ""


# -- replies that are none --------------------------------------------------------------------------------------------


@both_clients
@over(*STREAMS)
def test_a_service_that_closes_at_once(harness_session: Session, transport: Transport, client: Client) -> None:
    """An end without a byte is an empty reply and nobody's error."""
    with serving(harness_session, transport, lambda _data: b"") as server:
        reply = ask(harness_session, server.endpoint, client)

    assert (reply.body, reply.complaint) == (b"", "")
    assert reply.times.first_byte is None
    assert reply.times.whole_s < LIMIT_S / 2
    assert judge(reply, PROMISED) == r"expected 'hello\n', got nothing"


@both_clients
@over("tcp4", "tcp6")
def test_a_service_that_breaks_off(harness_session: Session, transport: Transport, client: Client) -> None:
    """A reset is told in the words of the system."""
    with serving(harness_session, transport, refuse) as server:
        reply = ask(harness_session, server.endpoint, client)

    assert reply.body == b""
    assert "Connection reset by peer" in reply.complaint
    assert judge(reply, PROMISED).startswith(r"expected 'hello\n', got nothing: ")
    assert reply.times.whole_s < LIMIT_S / 2


@both_clients
@over(*STREAMS, *DATAGRAMS)
def test_nobody_listens(harness_session: Session, transport: Transport, client: Client) -> None:
    """The refusal comes at once, over each transport, datagrams too: the kernel sends an error back."""
    reply = ask(harness_session, endpoint_in(harness_session, transport), client)

    assert reply.body == b""
    assert ("No such file" if transport == "unix" else "Connection refused") in reply.complaint
    assert (reply.times.connected is None) is (transport in STREAMS)
    assert reply.times.first_byte is None
    assert ordered(reply) == sorted(ordered(reply))
    assert reply.times.whole_s < LIMIT_S / 2


# -- time limits ------------------------------------------------------------------------------------------------------


@both_clients
@over(*STREAMS, *DATAGRAMS)
def test_silence_ends_at_the_limit(harness_session: Session, transport: Transport, client: Client) -> None:
    """A service that takes the connection and says nothing costs the limit and not more."""
    with serving(harness_session, transport, lambda _data: None) as server:
        started = time.monotonic()
        reply = ask(harness_session, server.endpoint, client, 0.5)

    assert 0.5 <= reply.times.ended - started < 0.5 + LATE_S
    assert (reply.body, reply.times.first_byte) == (b"", None)
    assert reply.complaint == f"timed out after {reply.complaint[-5:]}"
    assert judge(reply, PROMISED) == f"expected 'hello\\n', got nothing: {reply.complaint}"


@both_clients
@over("tcp4", "unix")
def test_a_reply_that_never_ends(harness_session: Session, transport: Transport, client: Client) -> None:
    """The limit is for the whole request and not for each piece of it; what came by then is shown."""

    def drip(_data: bytes) -> Iterator[bytes]:
        for _drop in range(30):
            time.sleep(0.15)
            yield b"."

    with serving(harness_session, transport, drip) as server:
        reply = ask(harness_session, server.endpoint, client, 0.7, TO_THE_END)

    assert reply.times.whole_s < 0.7 + LATE_S
    assert reply.complaint.startswith("timed out after")
    assert 1 <= reply.body.count(b".") < 30


@both_clients
def test_a_reply_that_comes_late_but_in_time(harness_session: Session, client: Client) -> None:
    """A limit is a limit, not one rounded down to whole seconds."""

    def late(data: bytes) -> bytes:
        time.sleep(1.1)
        return data

    with serving(harness_session, Transport.TCP4, late) as server:
        assert ask(harness_session, server.endpoint, client, 1.45).body == b"hello\n"


@both_clients
@over(*DATAGRAMS)
def test_a_datagram_is_the_whole_reply(harness_session: Session, transport: Transport, client: Client) -> None:
    """Nobody waits out the limit for more of them."""
    with serving(harness_session, transport, echo) as server:
        reply = ask(harness_session, server.endpoint, client, 60)

    assert reply.body == b"hello\n"
    assert reply.times.whole_s < 10


@both_clients
def test_no_time_at_all(harness_session: Session, client: Client) -> None:
    """An expired deadline is no endless one."""
    with serving(harness_session, Transport.TCP4, lambda _data: None) as server:
        reply = ask(harness_session, server.endpoint, client, 0)

    assert reply.complaint.startswith("timed out after")
    assert reply.times.whole_s < LATE_S


# -- what is left and what is told ------------------------------------------------------------------------------------


def test_socat_leaves_no_process(harness_session: Session) -> None:
    """Neither when it was answered nor when it was cut off."""
    with serving(harness_session, Transport.UDP4, echo) as answering:
        ask(harness_session, answering.endpoint, Client.SOCAT)
    with serving(harness_session, Transport.TCP4, lambda _data: None) as silent:
        ask(harness_session, silent.endpoint, Client.SOCAT, 0.2)

    assert running(harness_session, "socat") == []


def shell(session: Session, reply: Reply) -> subprocess.CompletedProcess[bytes]:
    """Run the line that reproduces a reply in a plain shell, as a person would."""
    return subprocess.run(["/bin/sh", "-c", reply.reproducer], capture_output=True, timeout=30, check=False)


@over(*STREAMS, *DATAGRAMS)
@pytest.mark.parametrize("sent", ["hello\n", "it's 100%\\n $HOME `id`\té\n"], ids=["plain", "nasty"])
def test_a_reproducer_does_the_same_again(
    harness_session: Session, monkeypatch: pytest.MonkeyPatch, transport: Transport, sent: str
) -> None:
    """The line works in a shell as it stands, and sends the very same bytes."""
    monkeypatch.setattr(socat, "_GRACE_S", 0)  # a person's socat waits it out for more datagrams
    promised = BytesProbe(kind="bytes", send=sent, expect=sent)
    with serving(harness_session, transport, echo) as server:
        reply = probes.ask(harness_session, server.endpoint, promised, Client.SOCAT, Deadline.after(1))
        again = shell(harness_session, reply)

    assert server.heard == [sent.encode()] * 2
    assert again.stdout == reply.body == sent.encode()


def test_a_reply_without_a_program_says_so(harness_session: Session) -> None:
    """There is no line for a shell, but it says what was connected where."""
    with serving(harness_session, Transport.TCP4, echo) as server:
        assert ask(harness_session, server.endpoint, Client.NATIVE).reproducer == (
            f"(a socket of the harness's own, connected to {server.endpoint})"
        )
