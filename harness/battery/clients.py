"""Many clients at once, each with a connection of its own, and clients that behave badly."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice

from harness import probes
from harness.activation.service import Service
from harness.battery.trial import Trial
from harness.contract import HttpProbe, Sends
from harness.core.deadline import Deadline
from harness.core.transports import Transport
from harness.probes import Client, Reply, native, timed
from harness.session.session import Session


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests a promise takes, and how many of them at a time."""

    requests: int
    at_once: int


def load(trial: Trial, ours: Load, program: Load) -> Load:
    """Return what a client without a process of its own can do, or what programs can: each start costs a processor."""
    return ours if trial.client is Client.NATIVE else program


def ask(
    service: Service, transport: Transport, limit_s: float, before_closing: Callable[[], object] = lambda: None
) -> Reply:
    """Ask once; any thread may. A native client closes as soon as it has its reply and has called `before_closing`."""
    promised = service.contract.probe(transport)
    endpoint = service.activated.workload.endpoints[transport]
    deadline = Deadline.after(limit_s * service.timeout_scale)
    return probes.ask(
        service.session,
        endpoint,
        promised,
        timed(promised),
        deadline,
        service.supplies,
        before_closing=before_closing,
        listen_on_s=0.0,
    )


def ask_many(service: Service, transports: Sequence[Transport], wanted: Load, limit_s: float) -> list[Reply]:
    """Return the replies to that many requests, over the transports by turns; after a wrong one nobody asks again."""
    over = threading.Event()

    def ask_next(transport: Transport) -> Reply | None:
        if over.is_set():
            return None
        reply = ask(service, transport, limit_s)
        if probes.judge(reply, service.contract.probe(transport)):
            over.set()
        return reply

    with ThreadPoolExecutor(wanted.at_once, "harness-client") as pool:
        replies = pool.map(ask_next, islice(cycle(transports), wanted.requests))
        return [reply for reply in replies if reply]


def ask_at_once(
    service: Service, transport: Transport, count: int, limit_s: float, look: Callable[[], None] = lambda: None
) -> list[Reply]:
    """Return the replies to clients that come together; each keeps its connection until the last has its own.

    `look` is called by one of them then, where all are clients without a process of their own.
    """
    together = threading.Barrier(count, look)

    def keep() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(limit_s * service.timeout_scale)

    def ask_one(_number: int) -> Reply:
        reply = ask(service, transport, limit_s, keep)
        if probes.judge(reply, service.contract.probe(transport)):
            together.abort()  # nobody waits for a reply that will not come
        return reply

    with ThreadPoolExecutor(count, "harness-crowd") as pool:
        return [*pool.map(ask_one, range(count))]


def wrong(service: Service, replies: Sequence[Reply]) -> str:
    """Return what is wrong with the first wrong reply, with its number, or ""."""
    for number, reply in enumerate(replies, 1):
        over = reply.endpoint.transport
        if judged := probes.judge(reply, service.contract.probe(over)):
            return f"reply {number} over {over}: {service.supplies.masked(judged)}"
    return ""


class Steady:
    """Clients that come without pause, one after the other over each transport, until they are told to end."""

    def __init__(self, service: Service, transports: Sequence[Transport], limit_s: float) -> None:
        self._service = service
        self._limit_s = limit_s
        self._over = threading.Event()
        #: Transport -> the number of right replies so far; one thread writes each.
        self.answered = dict.fromkeys(transports, 0)
        #: What was wrong with the first wrong reply over each transport that had one.
        self.lost: dict[Transport, str] = {}
        self._threads = [threading.Thread(target=self._come, args=(item,)) for item in transports]

    def _come(self, transport: Transport) -> None:
        promised = self._service.contract.probe(transport)
        while not self._over.is_set():
            judged = probes.judge(ask(self._service, transport, self._limit_s), promised)
            if judged:
                self.lost[transport] = self._service.supplies.masked(judged)
                return
            self.answered[transport] += 1

    def __enter__(self) -> Steady:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def connected(session: Session, service: Service, transport: Transport, limit_s: float) -> Iterator[socket.socket]:
    """Connect to a service, and close at the end of the context."""
    endpoint = service.activated.workload.endpoints[transport]
    with session.socket(endpoint.row.family, endpoint.row.kind) as client:
        client.settimeout(limit_s * service.timeout_scale)
        client.connect(native.address_of(session, endpoint))
        yield client


def request_of(service: Service, transport: Transport) -> bytes:
    """Return the bytes of one request, as far as the contract tells; of a program's none are known."""
    promised = service.contract.probe(transport)
    if isinstance(promised, HttpProbe):
        return native.page_request(promised.path)
    return promised.send.encode() if isinstance(promised, Sends) else b""


def reset(client: socket.socket) -> None:
    """Close a connection with a reset, see SO_LINGER in tcp(7); where there is none, it is just closed."""
    if client.family in (socket.AF_INET, socket.AF_INET6):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
