"""A socket of our own: no process to start, so its times are those of the service."""

from __future__ import annotations

import http.client
import io
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from harness.core.deadline import Deadline
from harness.core.transports import Endpoint
from harness.probes.reading import LISTEN_ON_S, Hopeless, Reading, Settled
from harness.probes.reply import Reply, Times
from harness.session.session import Session


def ask(
    session: Session,
    endpoint: Endpoint,
    sent: bytes,
    deadline: Deadline,
    pause_s: float = 0.0,
    settled: Settled | None = None,
    hopeless: Hopeless | None = None,
    before_closing: Callable[[], object] = lambda: None,
    listen_on_s: float = LISTEN_ON_S,
) -> Reply:
    """Connect, send, and read until the reply is settled; a datagram is the whole reply.

    Without `settled`, a client of a stream shuts down its sending side and reads to the end. It pauses for `pause_s`
    after the first half of what it sends, and calls `before_closing` while it has its reply and the connection.
    """
    half = len(sent) // 2 if pause_s and not endpoint.datagram else 0
    reading = Reading(deadline, settled, hopeless, listen_on_s)
    received = bytearray()
    connected = first = None
    complaint = ""
    with session.socket(endpoint.row.family, endpoint.row.kind) as client:
        started = time.monotonic()
        try:
            connected = connect(client, session, endpoint, deadline)
            if half:
                client.sendall(sent[:half])
                time.sleep(pause_s)
            client.sendall(sent[half:])
            if settled is None and not endpoint.datagram:
                client.shutdown(socket.SHUT_WR)
            while True:
                client.settimeout(reading.slice_s)
                try:
                    chunk = client.recv(65536)
                except TimeoutError:
                    if reading.is_over():
                        raise
                    continue
                if chunk and first is None:
                    first = time.monotonic()
                received.extend(chunk)
                if endpoint.datagram or not chunk:
                    break
                reading.saw(received)
                if reading.expired:
                    raise TimeoutError
        except TimeoutError:
            complaint = reading.complaint
        except OSError as error:
            # Whoever has answered may break off.
            complaint = "" if reading.settled_at else os.strerror(error.errno) if error.errno else str(error)
        ended = reading.settled_at or time.monotonic()
        before_closing()
    return Reply(endpoint, "native", sent, bytes(received), Times(started, connected, first, ended), complaint)


def ask_page(
    session: Session,
    endpoint: Endpoint,
    path: str,
    deadline: Deadline,
    hopeless: Hopeless | None = None,
    before_closing: Callable[[], object] = lambda: None,
    listen_on_s: float = LISTEN_ON_S,
) -> Reply:
    """Fetch a page, and close the connection with it."""
    reply = ask(
        session,
        endpoint,
        page_request(path),
        deadline,
        settled=_whole_page,
        hopeless=hopeless,
        before_closing=before_closing,
        listen_on_s=listen_on_s,
    )
    page = http.client.HTTPResponse(cast(socket.socket, _Received(reply.body)))
    try:
        page.begin()
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in page.getheaders():
            headers[name.lower()] = (*headers.get(name.lower(), ()), value)
        return replace(reply, body=page.read(), status=page.status, headers=headers)
    except (http.client.HTTPException, OSError) as error:
        return replace(reply, complaint=reply.complaint or f"it is no HTTP reply: {error!r}")


def page_request(path: str) -> bytes:
    """Return the request for a page on a connection of its own."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def _whole_page(data: bytes) -> bool:
    """Whether a page is there as a whole, by its own headers; one that tells no length ends with its connection."""
    page = http.client.HTTPResponse(cast(socket.socket, _Received(data)))
    try:
        page.begin()
        delimited = page.chunked or page.length is not None
        return delimited and page.read() is not None
    except (http.client.HTTPException, OSError):
        return False


class _Received:
    """What `http.client` wants of a socket, over what has been received already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        """Return a file with all of it."""
        return io.BytesIO(self._data)


def connect(client: socket.socket, session: Session, endpoint: Endpoint, deadline: Deadline) -> float:
    """Connect within a deadline, and return when that was, on CLOCK_MONOTONIC; raises OSError."""
    client.settimeout(max(0.001, deadline.remaining_s))
    client.connect(address_of(session, endpoint))
    return time.monotonic()


def address_of(session: Session, endpoint: Endpoint) -> tuple[str, int] | tuple[int, int] | str:
    """Return the address as seen from outside: a Unix socket is reached by its path, not by its namespace."""
    if endpoint.row.family == socket.AF_UNIX:
        return os.fspath(session.outside(endpoint.path))
    return endpoint.native
