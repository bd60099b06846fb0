"""One request of any size to a service that sends back what it gets, written in odd pieces while the reply is read."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from itertools import cycle

from harness.activation.service import Service
from harness.core.deadline import Deadline
from harness.core.transports import Transport
from harness.probes import native

#: Bytes of a request over streams: around the sizes of a line, a page, a pipe, and the promised most.
STREAM = (1, 2, 1000, 4097, 65537, 2**20)

#: Bytes of a datagram; the largest are those of RFC 768 less what loopback may not carry.
DATAGRAM = (1, 2, 1000, 1473, 8193, 60_000)

#: Bytes of the pieces that a client writes, by turns.
_PIECES = (1, 7, 1021, 16_381, 65_521)


def exchange(service: Service, transport: Transport, size: int, limit_s: float, *, half_close: bool) -> str:
    """Send random bytes and return what is wrong with those that come back, as the end of a sentence, or ""."""
    sent = os.urandom(size)
    endpoint = service.activated.workload.endpoints[transport]
    deadline = Deadline.after(limit_s * service.timeout_scale)
    with service.session.socket(endpoint.row.family, endpoint.row.kind) as client:
        client.settimeout(limit_s)
        try:
            client.connect(native.address_of(service.session, endpoint))
            if endpoint.datagram:
                client.send(sent)
                got = client.recv(2 * size + 64)
            else:
                got = _stream(client, sent, deadline, half_close=half_close)
        except TimeoutError:
            return f"never came within {limit_s:g} s"
        except OSError as error:
            return f"never came ({os.strerror(error.errno) if error.errno else error})"
    return difference(sent, got)


def _stream(client: socket.socket, sent: bytes, deadline: Deadline, *, half_close: bool) -> bytes:
    """Write and read at the same time, as a service that answers while it reads wants it."""
    client.setblocking(False)
    got = bytearray()
    pieces = cycle(_PIECES)
    begin, end = 0, min(next(pieces), len(sent))
    with selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        # Where the service does not close, one more byte than was sent would come at once.
        while not deadline.expired and (len(got) <= len(sent) if half_close else len(got) < len(sent)):
            for _key, events in ready.select(min(0.25, deadline.remaining_s)):
                if events & selectors.EVENT_WRITE and begin < len(sent):
                    begin += client.send(sent[begin:end])
                    if begin == end:
                        end = min(begin + next(pieces), len(sent))
                    if begin == len(sent):
                        ready.modify(client, selectors.EVENT_READ)
                        if half_close:
                            client.shutdown(socket.SHUT_WR)
                if events & selectors.EVENT_READ:
                    data = client.recv(65536)
                    if not data:
                        return bytes(got)
                    got += data
    if not got:
        raise TimeoutError
    client.settimeout(0.05)
    with contextlib.suppress(OSError):
        got += client.recv(65536)
    return bytes(got)


def difference(sent: bytes, got: bytes) -> str:
    """Return how what came back differs from what was sent, as the end of a sentence, or ""."""
    if sent == got:
        return ""
    first = next((place for place, (one, other) in enumerate(zip(sent, got, strict=False)) if one != other), None)
    if first is None and len(got) < len(sent):
        return f"had its first {len(got)} bytes only"
    if first is None:
        return f"had {len(got) - len(sent)} bytes more than were sent"
    return f"had {len(got)} bytes, and other ones from byte {first} on: not those of this request"
