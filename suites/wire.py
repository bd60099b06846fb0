"""What a way to a server carries: bytes and round trips over one connection to a program that sends everything back.

Both ends hand the kernel so much at once that their time is the kernel's, and the program is the same on every way: it
is the ways that are compared. Both ends run on one processor, since waking another one takes three times as long as
a round trip on loopback, and which one it is would be the scheduler's choice. Figures are worth something only beside
others of the same run.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness import Endpoint, ProbeFailed, Session

#: The program: it takes the socket that it was given, or listens on the port that is its argument.
SERVER = """\
import os, signal, socket, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
ports = sys.argv[1:]
listener = socket.create_server(("", int(ports[0]))) if ports else socket.socket(fileno=3)
print("wire: listens", flush=True)
while True:
    connection, _peer = listener.accept()
    if os.fork() == 0:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = memoryview(bytearray(1 << 18))
        while count := connection.recv_into(buffer):
            connection.sendall(buffer[:count])
        os._exit(0)
    connection.close()
"""

#: What the container of an image with Python runs.
COMMAND = ("/usr/bin/python3", "-I", "-S", "-B", "-c", SERVER)

#: What is sent in one round, in bytes: some tenths of a second over loopback.
SENT = 128 << 20

#: How much is handed to the kernel at once, in bytes.
CHUNK = 1 << 18

#: Rounds of each way, of throughput and of round trips: a round of the latter is a few milliseconds.
ROUNDS, SHORT_ROUNDS = 5, 20

#: Round trips of one round, and what each carries, in bytes.
TRIPS, PING = 100, b"x" * 64

#: How long one call may wait, in seconds; also for the server's start.
WAIT_S = 30


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one way."""

    #: Megabytes per second that came back, a round each.
    throughput: list[float] = field(default_factory=list)
    #: Median round trip of a round, in microseconds.
    latency: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Median throughput, in megabytes per second."""
        return statistics.median(self.throughput)

    @property
    def delay(self) -> float:
        """Round trip of the quickest round, in microseconds: what else the machine does only adds to it."""
        return min(self.latency)

    def __str__(self) -> str:
        return f"{self.speed:.0f} MB/s, {self.delay:.0f} us per round trip"


def measure(session: Session, ways: Mapping[str, Endpoint]) -> dict[str, Figures]:
    """Measure every way in every round, so that all of them meet the same noise."""
    figures = {name: Figures() for name in ways}
    for _round in range(ROUNDS):
        for name, endpoint in ways.items():
            figures[name].throughput.append(_throughput(session, endpoint))
    for _round in range(SHORT_ROUNDS):
        for name, endpoint in ways.items():
            figures[name].latency.append(_latency(session, endpoint))
    return figures


def _throughput(session: Session, endpoint: Endpoint) -> float:
    """Send, take all of it back, and return megabytes per second."""
    with _connected(session, endpoint) as client:
        sender = threading.Thread(target=_send, args=(client,), name="sender")
        buffer = bytearray(CHUNK)
        received = 0
        started = time.monotonic()
        sender.start()
        try:
            while received < SENT and (count := client.recv_into(buffer)):
                received += count
        finally:
            ended = time.monotonic()
            sender.join()
    if received != SENT:
        raise ProbeFailed(f"Of {SENT} bytes sent to {endpoint}, {received} came back.")
    return SENT / (ended - started) / 1e6


def _send(client: socket.socket) -> None:
    """Send everything, and close nothing: pasta would drop what is still on its way back (the one of May 2025 does)."""
    chunk = bytes(CHUNK)
    with contextlib.suppress(OSError):  # whoever reads notices that something is missing
        for _ in range(SENT // CHUNK):
            client.sendall(chunk)


def _latency(session: Session, endpoint: Endpoint) -> float:
    """Return the median of many round trips, in microseconds."""
    times = []
    with _connected(session, endpoint) as client:
        for _ in range(TRIPS):
            started = time.monotonic()
            client.sendall(PING)
            missing = len(PING)
            while missing:
                came = len(client.recv(missing))
                if not came:
                    raise ProbeFailed(f"The connection to {endpoint} was closed in a round trip.")
                missing -= came
            times.append(time.monotonic() - started)
    return statistics.median(times) * 1e6


@contextlib.contextmanager
def _connected(session: Session, endpoint: Endpoint) -> Iterator[socket.socket]:
    with session.socket(endpoint.row.family, endpoint.row.kind) as client:
        client.settimeout(WAIT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect(endpoint.native)
        anywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(anywhere)})
        try:
            yield client
        finally:
            os.sched_setaffinity(0, anywhere)
