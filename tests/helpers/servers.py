"""Small real servers inside a session's network, served by a thread of the test."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness.core.transports import Endpoint, Listener, Transport
from harness.session.session import Session

#: What a server makes of what one client has sent: all at once, or piece by piece; None: it never answers.
Answer = Callable[[bytes], bytes | Iterator[bytes] | None]

#: How often a server looks whether it is to stop, in seconds.
_POLL_S = 0.02


class Reset(Exception):
    """Raised by an answer: the server breaks the connection off, so that the client gets a reset."""


@dataclass
class Server:
    """One endpoint and what its clients have sent."""

    endpoint: Endpoint
    greeting: bytes = b""
    closes: bool = True
    heard: list[bytes] = field(default_factory=list)


def endpoint_in(session: Session, transport: Transport) -> Endpoint:
    """Return an endpoint that nobody listens on."""
    unix = transport is Transport.UNIX
    listener = Listener((transport,), path="server.sock") if unix else Listener((transport,), 4000)
    return session.assign_addresses([listener])[0].endpoints[0]


@contextmanager
def listening(session: Session, transport: Transport) -> Iterator[tuple[Endpoint, socket.socket]]:
    """Listen on an endpoint of the session's; the test itself is the server."""
    endpoint = endpoint_in(session, transport)
    with ExitStack() as stack:
        listener = stack.enter_context(_bound(session, endpoint, stack))
        listener.settimeout(10)
        yield endpoint, listener


@contextmanager
def serving(
    session: Session, transport: Transport, answer: Answer, *, greeting: bytes = b"", closes: bool = True
) -> Iterator[Server]:
    """Serve an endpoint of the session's, one client after the other.

    A stream's client may be greeted. It is heard to the end of a line, to the empty line of an HTTP request, or until
    it has shut down its side; after its reply the connection is closed, or left open to the server's end.
    """
    server = Server(endpoint_in(session, transport), greeting, closes)
    with ExitStack() as stack:
        listener = stack.enter_context(_bound(session, server.endpoint, stack))
        clients = stack.enter_context(ExitStack())  # closed once the thread has ended
        stopped = threading.Event()

        def serve() -> None:
            while not stopped.is_set():
                try:
                    if server.endpoint.datagram:
                        _talk_in_datagrams(listener, answer, server)
                    else:
                        client, _peer = listener.accept()
                        clients.callback(client.close)
                        _talk_in_streams(client, answer, server)
                except (TimeoutError, ConnectionError):
                    continue

        thread = threading.Thread(target=serve, name="test-server")
        thread.start()
        stack.callback(thread.join)
        stack.callback(stopped.set)
        yield server


def _bound(session: Session, endpoint: Endpoint, stack: ExitStack) -> socket.socket:
    listener = session.socket(endpoint.row.family, endpoint.row.kind)
    listener.settimeout(_POLL_S)
    if endpoint.path:
        path = session.outside(endpoint.path)
        listener.bind(os.fspath(path))
        stack.callback(path.unlink)
        path.chmod(0o666)  # the clients are the session's account
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(endpoint.native)
    if not endpoint.datagram:
        listener.listen()
    return listener


def _talk_in_datagrams(listener: socket.socket, answer: Answer, server: Server) -> None:
    data, peer = listener.recvfrom(65536)
    server.heard.append(data)
    said = answer(data)
    if isinstance(said, bytes):
        listener.sendto(said, peer)


def _talk_in_streams(client: socket.socket, answer: Answer, server: Server) -> None:
    client.settimeout(5)
    client.sendall(server.greeting)
    data = b""
    while chunk := client.recv(65536):
        data += chunk
        if data.endswith(b"\r\n\r\n" if data.startswith(b"GET ") else b"\n"):
            break
    server.heard.append(data)
    try:
        said = answer(data)
    except Reset:
        # Lingering for no time at all: close(2) then sends a reset, see SO_LINGER in socket(7).
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        said = b""
    if said is not None:
        for piece in [said] if isinstance(said, bytes) else said:
            client.sendall(piece)
        if server.closes:
            client.close()
