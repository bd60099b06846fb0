"""When each step of an activation happened, all on CLOCK_MONOTONIC.

    connect -> job -> podman -> created -> runtime -> exec -> reply -> end

The client's own marks come from the probe. `job` and `podman` are properties of the service, `runtime` is one of the
scope that the OCI runtime asks systemd to make for the container (org.freedesktop.systemd1(5)). `created` and `exec`
are from podman's own notes of what it does with containers (podman-events(1)), which have real time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from harness import probes
from harness.activation import Activated
from harness.activation.run import last_notes
from harness.activation.service import Service
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import ClockStepped, TimelineError
from harness.core.transports import Transport
from harness.probes import Reply
from harness.session.manager import NoSuchUnit
from harness.session.session import Session

#: The most that real time may move against monotonic time during one activation, in seconds; slewing takes 0.0005.
_STEP_S = 0.002

#: Longest wait for podman's note of a start, which may come after the container has answered, in seconds.
_NOTE_LIMIT_S = 10.0


class Mark(StrEnum):
    """A step of an activation, in the order in which they come."""

    #: The client connects or sends its first datagram.
    CONNECT = "connect"
    #: systemd starts the job of the service.
    JOB = "job"
    #: systemd has forked podman.
    PODMAN = "podman"
    #: podman has put the container into its records; conmon and the OCI runtime come next.
    CREATED = "created"
    #: The OCI runtime has the container's cgroup made.
    RUNTIME = "runtime"
    #: The program in the container is executed.
    EXEC = "exec"
    #: The first byte of the reply is there.
    REPLY = "reply"
    #: The client has all of the reply.
    END = "end"


@dataclass(frozen=True, slots=True)
class Timeline:
    """The marks that are known of one request, in seconds since its first, in the order of time."""

    at: Mapping[Mark, float]
    #: When the unit became active, in the same seconds: a container may answer before podman has told systemd.
    ready_s: float | None = None

    @property
    def whole_s(self) -> float:
        """Seconds from the first mark to the last."""
        return list(self.at.values())[-1]

    @property
    def phases(self) -> dict[str, float]:
        """Name of each phase, such as 'exec -> reply' -> its seconds; they add up to the whole."""
        pairs = itertools.pairwise(self.at.items())
        return {f"{before} -> {after}": end - start for (before, start), (after, end) in pairs}


def build(seen: Mapping[Mark, float], ready: float | None = None) -> Timeline:
    """Return the timeline of marks on one clock, in seconds; raise TimelineError where they are not in their order."""
    marks = [mark for mark in Mark if mark in seen]
    late = [
        f"'{after}' came {(seen[before] - seen[after]) * 1000:.3f} ms before '{before}'"
        for before, after in itertools.pairwise(marks)
        if seen[after] < seen[before]
    ]
    if late:
        raise TimelineError(f"The times of an activation contradict each other: {', '.join(late)}.")
    start = seen[marks[0]]
    return Timeline({mark: seen[mark] - start for mark in marks}, None if ready is None else ready - start)


def cold(service: Service, transport: Transport) -> Timeline:
    """Be the first client, and return when each step of the activation happened.

    Raises ProbeFailed, UnitFailed, TimelineError, ClockStepped.
    """
    offset = clock_offset()
    reply = service.ask_cold(transport, probes.timed(service.contract.probe(transport)))
    service.wait_active(transport)
    return of_activation(service.activated, transport, reply, offset)


def warm(service: Service, transport: Transport) -> Timeline:
    """Ask a service that is active, and return when its reply came; raise ProbeFailed."""
    return build(_client(service.ask_warm(transport, probes.timed(service.contract.probe(transport)))))


def clock_offset() -> float:
    """Return how far real time is ahead of monotonic time, in seconds; podman's records are in real time.

    Of several readings the quickest counts: between the clocks of a slow one, another process had the processor.
    """
    readings = [(time.monotonic(), time.time(), time.monotonic()) for _ in range(5)]
    before, real, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return real - (before + after) / 2


def of_activation(activated: Activated, transport: Transport, reply: Reply, offset: float) -> Timeline:
    """Return the timeline of the activation that `reply` caused, while its container still runs.

    `offset` is the clock's from before the client came; raise ClockStepped when it is another by now.
    """
    session = activated.session
    container = activated.container_of(transport)
    notes = wait_until(
        lambda: last_notes(session.events(), container),
        lambda notes: "start" in notes,
        Deadline.after(_NOTE_LIMIT_S),
        f"podman to note the start of the container '{container}'",
    )
    moved = clock_offset() - offset
    if abs(moved) > _STEP_S:
        raise ClockStepped(moved)
    seen = _client(reply)
    seen[Mark.CREATED] = _time(notes["create"]) - offset
    if (runtime := _scope_start(session, notes["start"]["ID"])) is not None:
        seen[Mark.RUNTIME] = runtime
    # podman notes the start after the OCI runtime has returned; by then a fast program may have answered.
    seen[Mark.EXEC] = min(_time(notes["start"]) - offset, seen.get(Mark.REPLY, seen[Mark.END]))
    if not activated.sockets:
        return build(seen)  # the launcher listens, in a service that systemd has started long before
    service = session.manager.properties(activated.starter_of(transport))
    seen[Mark.JOB] = service["ConditionTimestampMonotonic"] / 1e6
    # Of a command: path, arguments, whether failure is ignored, real time and monotonic time of its start.
    seen[Mark.PODMAN] = service["ExecStart"][-1][4] / 1e6
    return build(seen, service["ActiveEnterTimestampMonotonic"] / 1e6)


def _client(reply: Reply) -> dict[Mark, float]:
    times = reply.times
    found = {Mark.CONNECT: times.started, Mark.REPLY: times.first_byte, Mark.END: times.ended}
    return {mark: at for mark, at in found.items() if at is not None}


def _scope_start(session: Session, container: str) -> float | None:
    """Return when systemd made the container's scope, None where the container is in its service's cgroup."""
    try:
        scope = session.manager.properties(f"libpod-{container}.scope")
    except NoSuchUnit:
        return None
    return float(scope["InactiveExitTimestampMonotonic"]) / 1e6


def _time(event: Mapping[str, Any]) -> float:
    """Return when podman noted an event, RFC 3339 with nanoseconds, in seconds since 1970."""
    return datetime.fromisoformat(event["Time"]).timestamp()
