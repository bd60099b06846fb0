"""Promises about clients that are served: how many, how large, how rude, how evenly, and what each leaves behind."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

from harness.activation.diagnosis import diagnose, listener_of
from harness.activation.inside import container_processes
from harness.activation.run import noted
from harness.battery import clients, sizes
from harness.battery.clients import Load
from harness.battery.trial import Trial
from harness.battery.usage import Usage, usage
from harness.contract import EchoProbe
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import WaitTimeout
from harness.probes import Reply
from harness.session import sockets

#: Requests to one run, and how many at a time: by connections of our own, and by programs.
_SAME_RUN, _BY_PROGRAMS = Load(200, 8), Load(16, 4)

#: Clients that come together.
_CROWD, _CROWD_OF_PROGRAMS = 50, 8

#: Requests whose times are compared. The 95th of 100 may be so many times as late as the median, and so much more.
_EVEN, _TIMES, _MORE_S = 60, 3.0, 0.05

#: Longest series, in seconds, once it has so many.
_SERIES_S, _FEWEST = 3.0, 10

#: Longest time from the first byte of a small reply to its last, in seconds.
_WHOLE_S, _SMALL = 0.03, 16_384

#: Requests between two looks at what a container holds; what grows by half as much, twice, grows with the requests.
_FLAT, _FLAT_BY_PROGRAMS = 100, 12

#: Bytes per request that a container may keep: pools grow by less over so many.
_KEPT = 16_384

#: Longest wait for a container to let go of what its last clients needed, in seconds.
_SETTLE_S = 1.0


def every_socket(trial: Trial) -> None:
    """Each socket that a container is given answers, in one run."""
    asked: set[str] = set()
    for service in trial.service.selections:
        for transport in service.activated.workload.endpoints:
            if service.contract.socket(transport).accept:
                continue
            container = service.activated.service_of(transport)
            each = Trial(service, transport)
            each.warm() if container in asked else each.wake()
            asked.add(container)


def same_run(trial: Trial) -> None:
    """Hundreds of requests over connections of their own are answered by one run."""
    trial.wake()
    run, service = trial.run, trial.service
    wanted = clients.load(trial, _SAME_RUN, _BY_PROGRAMS)
    replies = clients.ask_many(service, [trial.transport], wanted, service.contract.limits.warm_s)
    wrong = clients.wrong(service, replies)
    right = sum(not clients.wrong(service, [reply]) for reply in replies)
    if wrong or trial.run != run:
        why = trial.ended(run, f"after {right + 1} replies") or diagnose(service.activated, trial.transport)
        raise trial.broken("; ".join(filter(None, (why, wrong))) or "another run answered")


def crowd(trial: Trial) -> None:
    """Clients that come together to a cold socket are all answered, by one container, while all are connected."""
    service, limits = trial.service, trial.service.contract.limits
    container = service.activated.container_of(trial.transport)
    began = time.time()
    queue = _queue(trial)
    count = clients.load(trial, Load(_CROWD, _CROWD), Load(_CROWD_OF_PROGRAMS, _CROWD_OF_PROGRAMS)).requests
    replies = clients.ask_at_once(service, trial.transport, count, limits.first_start_s)
    if wrong := clients.wrong(service, replies):
        why = diagnose(service.activated, trial.transport)
        raise trial.broken("; ".join(filter(None, (f"of {count} clients at once, {wrong}", why))))
    service.wait_active(trial.transport)
    made = len(noted(service.session.events(), container, "start", began))
    if made != 1:
        raise trial.broken(f"{count} clients at once were answered by {made} containers")
    now = _queue(trial)
    if now is not None and queue is not None and now < min(count, queue):
        raise trial.broken(
            f"the queue of {trial.transport} takes {now} clients since the program has it, and took {queue} before: "
            "listen(2) was called again"
        )


def every_size(trial: Trial) -> None:
    """Whatever is sent comes back, of any size."""
    trial.wake()
    service, promised = trial.service, trial.service.contract.probe(trial.transport)
    assert isinstance(promised, EchoProbe)
    datagram = service.activated.workload.endpoints[trial.transport].datagram
    tried = (
        sizes.DATAGRAM if datagram else (*(size for size in sizes.STREAM if size < promised.largest), promised.largest)
    )
    run = trial.run
    for size in tried:
        limit_s = service.contract.limits.warm_s
        if wrong := sizes.exchange(service, trial.transport, size, limit_s, half_close=promised.half_close):
            ended = trial.ended(run, f"at a request of {size} bytes")
            raise trial.broken(ended or f"over {trial.transport}, the reply to {size} bytes {wrong}")


def rude_clients(trial: Trial) -> None:
    """Clients that say nothing, stop in the middle or break off keep nobody else from being answered."""
    trial.wake()
    for title, come in (
        ("a client that says nothing", _silent),
        ("a client that has sent half of its request", _slow),
        ("a client that has closed its sending side and sent nothing", _half_closed),
        ("a client that breaks off by a reset", _resetting),
    ):
        with come(trial):
            trial.warm(when=f" beside {title}")
    trial.warm(when=" after rude clients")


def even(trial: Trial) -> None:
    """No reply is much later than the others, or comes in drops; the median keeps the budget."""
    trial.wake()
    trial.warm()
    # What is late once may be the machine's doing; what is late twice in the same way is the image's.
    if wrong := _uneven(trial) and _uneven(trial):
        raise trial.broken(f"over {trial.transport}, {wrong}")


def flat(trial: Trial) -> None:
    """What a container holds does not grow with the requests that it has answered."""
    trial.wake()
    requests = clients.load(trial, Load(_FLAT, 4), Load(_FLAT_BY_PROGRAMS, 4))
    looks = [_after(trial, requests) for _number in range(3)]
    for what, least in (("processes", 0.5), ("zombies", 0.5), ("descriptors", 0.5), ("memory", _KEPT)):
        counts = [int(getattr(look, what)) for look in looks]
        first, second = counts[1] - counts[0], counts[2] - counts[1]
        if min(first, second) >= requests.requests * least:
            unit = "bytes of memory" if what == "memory" else what
            each = f"{(first + second) / (2 * requests.requests):.1f}"
            grew = f"{counts[0]}, and {counts[2]} after {2 * requests.requests} requests more"
            raise trial.broken(f"the container holds {each} {unit} more with each request: {grew}")


def _after(trial: Trial, wanted: Load) -> Usage:
    """Return what the container holds after so many requests more, once their clients have gone."""
    service = trial.service
    before = usage(container_processes(service.activated, trial.transport))
    replies = clients.ask_many(service, trial.siblings, wanted, service.contract.limits.warm_s)
    if wrong := clients.wrong(service, replies):
        raise trial.broken(wrong)

    def look() -> Usage:
        return usage(container_processes(service.activated, trial.transport))

    def settled(now: Usage) -> bool:
        return now.descriptors <= before.descriptors and now.processes <= before.processes

    with contextlib.suppress(WaitTimeout):
        return wait_until(look, settled, Deadline.after(_SETTLE_S), "the container to let go of its clients")
    return look()


def _queue(trial: Trial) -> int | None:
    """Return how many clients may wait for the socket; None where the kernel does not tell."""
    found = sockets.listening(trial.service.session)
    known = sockets.of(found, listener_of(trial.service.activated, trial.transport))
    return known.backlog if known else None


def _uneven(trial: Trial) -> str:
    """Return what is uneven in a series of warm replies, as a clause, or ""; a wrong one is no matter of time."""
    service, replies, limit = trial.service, list[Reply](), Deadline.after(_SERIES_S)
    while len(replies) < _EVEN and not (limit.expired and len(replies) >= _FEWEST):
        replies.append(clients.ask(service, trial.transport, service.contract.limits.warm_s))
    if wrong := clients.wrong(service, replies):
        raise trial.broken(wrong)
    times = sorted(reply.times.whole_s for reply in replies)
    median, late = statistics.median(times), times[len(times) * 95 // 100]
    budget_ms = trial.service.contract.budgets.warm_ms
    if budget_ms is not None and median * 1000 > budget_ms * trial.service.timeout_scale:
        return f"the median of {len(times)} replies is {median * 1000:.1f} ms, and the budget {budget_ms:g} ms"
    if late > median * _TIMES + _MORE_S:
        return f"5 of 100 replies take {late * 1000:.0f} ms and more, and half of them {median * 1000:.1f} ms at most"
    small = [reply.times for reply in replies if len(reply.body) < _SMALL]
    drops = statistics.median([times.ended - times.first_byte for times in small if times.first_byte] or [0.0])
    if drops > _WHOLE_S:
        return f"a reply comes in drops: {drops * 1000:.0f} ms from its first byte to its last"
    return ""


Come = Callable[[Trial], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def _silent(trial: Trial) -> Iterator[None]:
    service = trial.service
    with clients.connected(service.session, service, trial.transport, service.contract.limits.warm_s):
        yield


@contextlib.contextmanager
def _slow(trial: Trial) -> Iterator[None]:
    service = trial.service
    request = clients.request_of(service, trial.transport)
    with clients.connected(service.session, service, trial.transport, service.contract.limits.warm_s) as client:
        client.sendall(request[: len(request) // 2])
        yield


@contextlib.contextmanager
def _half_closed(trial: Trial) -> Iterator[None]:
    service = trial.service
    with clients.connected(service.session, service, trial.transport, service.contract.limits.warm_s) as client:
        client.shutdown(1)
        yield


@contextlib.contextmanager
def _resetting(trial: Trial) -> Iterator[None]:
    service = trial.service
    request = clients.request_of(service, trial.transport)
    for sent in (b"", request[: len(request) // 2], request):
        with clients.connected(service.session, service, trial.transport, service.contract.limits.warm_s) as client:
            client.sendall(sent)
            clients.reset(client)
    yield
