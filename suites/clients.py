"""Many clients at once, and clients that come all the time; both count what they sent and what came back."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from harness import Deadline, Reply, Service, Transport, ask_bytes

#: Longest wait of one client for its reply, in seconds: a stop and a start of the service may come between.
REPLY_S = 30.0

#: Pause of a steady client between two requests, and in the middle of one, in seconds.
PAUSE_S = 0.01

#: Steady clients of each transport.
STEADY = 4


class Tally:
    """What clients have sent and got back; any thread may count."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0
        #: What clients without their reply complained about -> how many did.
        self.lost: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, reply: Reply) -> None:
        """Count one request, which is answered when the reply is what was sent, and nothing else is wrong."""
        with self._lock:
            self.sent += 1
            if reply.body == reply.sent and not reply.complaint:
                self.answered += 1
            else:
                self.lost[reply.complaint or f"got {reply.body[:40]!r}"] += 1

    def __str__(self) -> str:
        lost = "".join(f"; {number} x {complaint}" for complaint, number in self.lost.most_common(5))
        return f"{self.sent} requests sent, {self.answered} answered{lost}"


def crowd(service: Service, transport: Transport, number: int, at_once: int) -> Tally:
    """Send `number` different requests, `at_once` of them outstanding at any time, each by a client of its own."""
    tally = Tally()

    def ask(first: int) -> None:
        for which in range(first, number, at_once):
            tally.count(_ask(service, transport, which))

    with ThreadPoolExecutor(at_once) as pool:
        for end in [pool.submit(ask, first) for first in range(at_once)]:
            end.result()
    return tally


def _ask(service: Service, transport: Transport, number: int, pause_s: float = 0.0) -> Reply:
    sent = b"request %d over %s\n" % (number, transport.encode())
    endpoint = service.activated.workload.endpoints[transport]
    deadline = Deadline.after(REPLY_S * service.timeout_scale)
    return ask_bytes(service.session, endpoint, sent, deadline, pause_s=pause_s)


@dataclass(slots=True)
class Steady:
    """Clients that come one after the other, on every endpoint, until they are told to stay away."""

    tallies: dict[Transport, Tally]
    #: Clear while the clients are to stay away.
    come: threading.Event = field(default_factory=threading.Event)
    #: Set when they are to go home.
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def answered(self) -> dict[Transport, int]:
        """How many requests were answered so far."""
        return {transport: tally.answered for transport, tally in self.tallies.items()}

    @property
    def lost(self) -> bool:
        """Whether any client is without its reply."""
        return any(tally.lost for tally in self.tallies.values())


@contextlib.contextmanager
def steady_clients(service: Service, *transports: Transport) -> Iterator[Steady]:
    """Let clients of each transport come all the time; at the end every request has been answered or given up."""
    steady = Steady({transport: Tally() for transport in transports})
    steady.come.set()
    with ThreadPoolExecutor(STEADY * len(transports)) as pool:
        ends = [
            pool.submit(_come_again, service, transport, steady, first)
            for transport in transports
            for first in range(STEADY)
        ]
        try:
            yield steady
        finally:
            steady.over.set()
            steady.come.set()
    for end in ends:
        end.result()


def _come_again(service: Service, transport: Transport, steady: Steady, first: int) -> None:
    """Be one client after the other, each of which makes a pause in the middle of its request."""
    for number in itertools.count(first, STEADY):
        steady.come.wait()
        if steady.over.wait(PAUSE_S):
            return
        steady.tallies[transport].count(_ask(service, transport, number, PAUSE_S))
