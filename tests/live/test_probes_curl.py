"""curl against small real servers: the page, the status, the times, and what is said when there is no page."""

from __future__ import annotations

import subprocess
import time

import pytest

from harness import probes
from harness.contract import HttpProbe
from harness.core.deadline import Deadline
from harness.core.errors import UsageError
from harness.core.transports import Endpoint, Transport
from harness.probes import Client, Reply, clients, curl, judge, native, timed
from harness.session.session import Session
from tests.helpers.servers import Reset, endpoint_in, serving
from tests.helpers.sessions import over

PROMISED = HttpProbe(kind="http", path="/page?a=%20", contains="title")
LIMIT_S = 10.0
LATE_S = 2.0

STREAMS = ("tcp4", "tcp6", "unix")


def page(status: str, body: bytes = b"a title\n") -> bytes:
    """Return an HTTP reply."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def ask(session: Session, endpoint: Endpoint, limit_s: float = LIMIT_S) -> Reply:
    """Let curl fetch what is promised."""
    return probes.ask(session, endpoint, PROMISED, Client.CURL, Deadline.after(limit_s))


def times_of(reply: Reply) -> list[float]:
    """Return the times that a reply has."""
    times = reply.times
    return [time for time in (times.started, times.connected, times.first_byte, times.ended) if time is not None]


@over(*STREAMS)
def test_a_page(harness_session: Session, transport: Transport) -> None:
    """The request is for the path as it stands, the body comes without its headers, the times are in their order."""
    before = time.monotonic()
    with serving(harness_session, transport, lambda _request: page("200 OK")) as server:
        reply = ask(harness_session, server.endpoint)
    after = time.monotonic()

    assert server.heard[0].startswith(b"GET /page?a=%20 HTTP/1.1\r\nHost: ")
    assert (reply.body, reply.status, reply.complaint, reply.sent) == (b"a title\n", 200, "", b"")
    assert (reply.client, reply.endpoint) == ("curl", server.endpoint)
    assert judge(reply, PROMISED) == ""
    assert len(times_of(reply)) == 4
    assert [before, *times_of(reply), after] == sorted([before, *times_of(reply), after])


def test_the_first_byte_has_a_time_of_its_own(harness_session: Session) -> None:
    """Neither the connection's nor the end's: curl's own times are on the axis of all the others."""

    def slowly(_request: bytes) -> bytes:
        time.sleep(0.3)
        return page("200 OK")

    with serving(harness_session, Transport.TCP4, slowly) as server:
        times = ask(harness_session, server.endpoint).times

    assert times.connected is not None
    assert times.first_byte is not None
    assert 0.3 <= times.first_byte - times.connected < 0.3 + LATE_S
    assert times.ended - times.first_byte < 0.3


@pytest.mark.parametrize(("status", "said"), [("404 Not Found", 404), ("503 Later", 503), ("302 Found", 302)])
def test_another_status(harness_session: Session, status: str, said: int) -> None:
    """A page that says it is none: its status decides, its body is kept; curl follows nobody."""
    with serving(harness_session, Transport.TCP4, lambda _request: page(status)) as server:
        reply = ask(harness_session, server.endpoint)

    assert (reply.status, reply.body) == (said, b"a title\n")
    assert judge(reply, PROMISED) == f"expected the HTTP status 200, got {said}"


def test_a_page_without_the_text(harness_session: Session) -> None:
    """The right status does not make a page the right one."""
    with serving(harness_session, Transport.TCP4, lambda _request: page("200 OK", b"nothing")) as server:
        assert (
            judge(ask(harness_session, server.endpoint), PROMISED)
            == "expected a page that contains 'title', got one of 7 bytes that does not"
        )


def test_headers(harness_session: Session) -> None:
    """As the server sent them, one value for each line; where a connection breaks off, those that came."""
    lines = b"HTTP/1.1 200 OK\r\nServer: small/1\r\nX-Two: a\r\nx-two: {b}\r\n"
    with serving(harness_session, Transport.TCP4, lambda _request: lines + b"Content-Length: 1\r\n\r\nx") as server:
        whole = ask(harness_session, server.endpoint)
    with serving(harness_session, Transport.TCP4, lambda _request: lines + b"Content-Length: 9\r\n\r\nx") as server:
        cut = ask(harness_session, server.endpoint)

    wanted = {"server": ("small/1",), "x-two": ("a", "{b}")}
    assert {name: whole.headers[name] for name in wanted} == wanted
    assert (whole.complaint, whole.status, whole.body) == ("", 200, b"x")
    assert {name: cut.headers[name] for name in wanted} == wanted
    assert cut.complaint.startswith("curl: (18)")
    promised = HttpProbe(kind="http", header={"Server": "^small/2"})
    assert judge(whole, promised) == "expected a header 'Server' that matches '^small/2', got 'small/1'"


@over(*STREAMS)
def test_nobody_listens(harness_session: Session, transport: Transport) -> None:
    """curl's own words, and no times but the two of the process."""
    reply = ask(harness_session, endpoint_in(harness_session, transport))

    assert "curl: (7)" in reply.complaint
    assert (reply.body, reply.status, reply.times.connected, reply.times.first_byte) == (b"", 0, None, None)
    assert judge(reply, PROMISED) == f"expected a page, got nothing: {reply.complaint}"
    assert reply.times.whole_s < LIMIT_S / 2


@over("tcp4", "unix")
def test_silence_ends_at_the_limit(harness_session: Session, transport: Transport) -> None:
    """It costs the limit and not more, and the connection that stood has its time."""
    with serving(harness_session, transport, lambda _request: None) as server:
        started = time.monotonic()
        reply = ask(harness_session, server.endpoint, 0.5)

    assert 0.4 <= reply.times.ended - started < 0.5 + LATE_S
    assert "curl: (28)" in reply.complaint
    assert reply.times.connected is not None
    assert (reply.body, reply.times.first_byte) == (b"", None)


def test_no_time_at_all(harness_session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired deadline is no endless one."""
    monkeypatch.setattr(curl, "_GRACE_S", LATE_S)
    with serving(harness_session, Transport.TCP4, lambda _request: None) as server:
        reply = ask(harness_session, server.endpoint, 0)

    assert reply.times.whole_s < LATE_S


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "curl: (52)"),
        (b"hello\n", "curl: (1)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntitle", "curl: (18)"),
    ],
    ids=["nothing", "no HTTP", "cut off"],
)
def test_a_service_that_speaks_no_http(harness_session: Session, answer: bytes, said: str) -> None:
    """What curl says of it is in the reply."""
    with serving(harness_session, Transport.TCP4, lambda _request: answer) as server:
        assert said in ask(harness_session, server.endpoint).complaint


def test_a_page_that_was_cut_off_is_wrong(harness_session: Session) -> None:
    """The text may stand in the part that came; the page did not."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntitle"
    with serving(harness_session, Transport.TCP4, lambda _request: answer) as server:
        assert judge(ask(harness_session, server.endpoint), PROMISED)


def test_a_service_that_breaks_off(harness_session: Session) -> None:
    """A reset is told."""

    def refuse(_request: bytes) -> bytes:
        raise Reset

    with serving(harness_session, Transport.TCP4, refuse) as server:
        reply = ask(harness_session, server.endpoint)

    assert "curl: (56)" in reply.complaint
    assert judge(reply, PROMISED).startswith("expected a page, got nothing: ")


@pytest.mark.parametrize("transport", ["udp4", "udp6"])
def test_where_curl_cannot_go(harness_session: Session, transport: str) -> None:
    """Told before anything is tried."""
    with pytest.raises(UsageError, match=f"transport '{transport}'"):
        ask(harness_session, Endpoint(Transport(transport), 4000))


def test_who_asks_for_a_page() -> None:
    """curl, which users know, and a socket of our own, which tells the time better."""
    assert clients(PROMISED) == (Client.CURL, Client.NATIVE)
    assert timed(PROMISED) is Client.NATIVE


@over(*STREAMS)
def test_a_page_by_a_socket_of_our_own(harness_session: Session, transport: Transport) -> None:
    """Status and body are those that curl finds, and the times are in their order."""
    with serving(harness_session, transport, lambda _request: page("403 Forbidden")) as server:
        reply = native.ask_page(harness_session, server.endpoint, "/x", Deadline.after(10))
    assert (reply.status, reply.body, reply.complaint) == (403, b"a title\n", "")
    assert reply.headers == {"content-length": ("8",)}
    assert server.heard[0].startswith(b"GET /x HTTP/1.1\r\n")
    times = reply.times
    assert times.connected is not None
    assert times.first_byte is not None
    assert times.started <= times.connected <= times.first_byte <= times.ended


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\na title\n\r\n0\r\n\r\n"


@pytest.mark.parametrize("said", [page("200 OK"), CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("client", [Client.CURL, Client.NATIVE])
def test_a_page_ends_where_it_says(harness_session: Session, client: Client, said: bytes) -> None:
    """Whether or not the server closes its connection, and the client does not half-close its own to get it."""
    with serving(harness_session, Transport.TCP4, lambda _request: said, closes=False) as server:
        reply = probes.ask(harness_session, server.endpoint, PROMISED, client, Deadline.after(LIMIT_S))
    assert (reply.body, judge(reply, PROMISED)) == (b"a title\n", "")
    assert reply.times.whole_s < LIMIT_S / 2


def test_a_page_of_no_told_length_ends_with_its_connection(harness_session: Session) -> None:
    """Nobody else can tell that it is all there."""
    unending = b"HTTP/1.1 200 OK\r\n\r\na title\n"
    with serving(harness_session, Transport.TCP4, lambda _request: unending, closes=False) as server:
        reply = native.ask_page(harness_session, server.endpoint, "/", Deadline.after(0.5))
    assert judge(reply, PROMISED).startswith("got a page as expected, but timed out after ")
    with serving(harness_session, Transport.TCP4, lambda _request: unending) as server:
        reply = native.ask_page(harness_session, server.endpoint, "/", Deadline.after(LIMIT_S))
    assert judge(reply, PROMISED) == ""


@pytest.mark.parametrize("said", [b"", b"hello\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"])
def test_what_is_no_page(harness_session: Session, said: bytes) -> None:
    """A reply that is none of HTTP, or one that is cut off, is never judged to be a page."""
    with serving(harness_session, Transport.TCP4, lambda _request: said) as server:
        reply = native.ask_page(harness_session, server.endpoint, "/", Deadline.after(10))
    assert judge(reply, PROMISED)


@over(*STREAMS)
def test_a_reproducer_does_the_same_again(harness_session: Session, transport: Transport) -> None:
    """The line works in a plain shell as it stands, and prints the body."""
    with serving(harness_session, transport, lambda _request: page("200 OK")) as server:
        reply = ask(harness_session, server.endpoint)
        again = subprocess.run(["/bin/sh", "-c", reply.reproducer], capture_output=True, timeout=30, check=False)

    assert (again.stdout, again.stderr) == (b"a title\n", b"")
    assert server.heard[0] == server.heard[1]
