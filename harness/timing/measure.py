"""Two images of one contract, measured round by round in one session, so that both meet the same noise.

A round is one cold activation of one image, some warm requests, and its stop, which nobody times. A block is one round
of each image, in an order that chance decides. The first block is thrown away: it reads the images from the disk.

In a virtual machine the host may give a processor to somebody else in the middle of a round, and then that is what the
round measures. The kernel counts it (`steal`, see proc_stat(5)); such a round is done again, whichever image it is of,
unless the host disturbs nearly all of them.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from harness.activation.service import Service
from harness.core.deadline import Deadline
from harness.core.errors import BaselineFailed, Blame, HarnessError
from harness.core.progress import Progress
from harness.core.transports import Transport
from harness.images.store import Image
from harness.results.record import Kind, Role
from harness.timing import timeline
from harness.timing.timeline import Timeline

#: Most warm requests in each round, of which the median one counts: requests to one container are not independent of
#: each other. They take no more than this part of the round's cold one, but for the last: a client in an image is slow.
WARM_REQUESTS, _WARM_SHARE = 5, 0.5

#: Blocks that are thrown away.
WARM_UP = 1

#: Most cold activations of each of two images, and of one that is compared with nothing.
MOST, MOST_ALONE = 256, 16

#: The end of a service that has stopped: its container is gone, and podman need not start once more to look for it.
_STOP_DROP_IN = "[Service]\nExecStopPost=\n"

#: How often a round may be done again before the host's business is taken as it is; and not at all where fewer than one
#: round in so many is quiet, since it would then cost samples and help nothing.
_AGAIN, _SELDOM = 2, 4

#: Stolen time that does not count, in ticks of the kernel's clock for such times: less can't be told.
_TOLERATED = 1

#: How often a person is told how far it is, in seconds.
_TELL_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """When to stop measuring."""

    #: Longest measurement of one transport, in seconds; the block that is under way ends.
    limit_s: float = 60.0
    #: Most cold activations of each image.
    most: int = MOST
    #: Seed of the order of rounds.
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """The timelines of one image, in the order in which they were measured."""

    image: Image
    cold: list[Timeline] = field(default_factory=list)
    warm: list[Timeline] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Timeline]:
        """Return the cold ones or the warm ones."""
        return self.cold if kind is Kind.COLD else self.warm


#: What has been measured of each image, by its role.
Measurement = Mapping[str, Measured]

#: Tells whether enough is known.
Enough = Callable[[Measurement], bool]


def measure(
    services: Mapping[str, Service], transport: Transport, plan: Plan, enough: Enough, progress: Progress
) -> Measurement:
    """Measure block by block until `enough` says so or the plan's limit is reached.

    Raises BaselineFailed when the baseline image does not do what its contract promises; what another one raises is
    that one's fault.
    """
    found = {role: Measured(service.image) for role, service in services.items()}
    chance = random.Random(plan.seed)  # noqa: S311 -- no secret
    deadline, told = Deadline.after(plan.limit_s), Deadline.after(_TELL_S)
    name = next(iter(services.values())).contract.name
    rounds = _Rounds()
    with _short_stops(services):
        for block in range(WARM_UP + plan.most):
            for role in chance.sample(list(services), len(services)):
                cold, warm = rounds.take(services[role], role, transport)
                if block >= WARM_UP:
                    found[role].cold.append(cold)
                    found[role].warm.append(warm)
            if block > WARM_UP and (deadline.expired or enough(found)):
                break
            if told.expired:
                told = Deadline.after(_TELL_S)
                progress(f"{name} over {transport}: {block} activations of each image, {deadline.elapsed_s:.0f} s")
    return found


@contextlib.contextmanager
def _short_stops(services: Mapping[str, Service]) -> Iterator[None]:
    """Leave out the last command of the services' stops; how they start is not touched."""
    drop_ins = [
        (service.session, f"{service.session.paths.units}/{unit}.d/50-measure.conf")
        for service in services.values()
        for unit in service.activated.services
    ]
    for session, path in drop_ins:
        session.write(path, _STOP_DROP_IN)
        session.manager.reload()
    try:
        yield
    finally:
        for session, path in drop_ins:
            session.remove(path)
            session.manager.reload()


@dataclass(slots=True)
class _Rounds:
    """The rounds of a measurement, and how many of them the host left alone."""

    done: int = 0
    quiet: int = 0

    def take(self, service: Service, role: str, transport: Transport) -> tuple[Timeline, Timeline]:
        """Return the timelines of a round from which the host took no time, or the least of those that are worth it."""
        tried = []
        for _ in range(1 + _AGAIN):
            cold, warm, stolen = _turn(service, role, transport)
            tried.append((stolen, cold, warm))
            self.done += 1
            if stolen <= _TOLERATED:
                self.quiet += 1
                break
            if self.quiet * _SELDOM < self.done:
                break
        _ticks, cold, warm = min(tried, key=itemgetter(0))
        return cold, warm


def _stolen(file: Path = Path("/proc/stat")) -> int:
    """Return how long the host has run something else in place of this machine so far, in ticks of all processors."""
    return int(file.read_text(encoding="ascii").partition("\n")[0].split()[8])


def _turn(service: Service, role: str, transport: Transport) -> tuple[Timeline, Timeline, int]:
    """Return what was timed, the warm request in the middle, and the ticks that were stolen meanwhile."""
    try:
        service.start_listening()
        before = _stolen()
        cold = timeline.cold(service, transport)
        enough = Deadline.after(cold.whole_s * _WARM_SHARE)
        requests = [timeline.warm(service, transport)]
        while len(requests) < WARM_REQUESTS and not enough.expired:
            requests.append(timeline.warm(service, transport))
        stolen = _stolen() - before
        service.stop_all()
    except HarnessError as error:
        if role != Role.BASELINE or error.blame is Blame.MACHINE:
            raise
        raise BaselineFailed(
            f"The baseline image '{service.image.reference}' of '{service.contract.name}' fails its own contract, "
            "so nothing can be compared with it.",
            hint="Name a baseline that passes the suites.",
            evidence={"what it did": str(error)},
        ) from None
    return cold, sorted(requests, key=lambda request: request.whole_s)[len(requests) // 2], stolen
