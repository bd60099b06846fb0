"""One run of a service: whether the program that answered then is the one that answers now."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import WaitTimeout
from harness.core.transports import Transport
from harness.session.manager import NoSuchUnit

if TYPE_CHECKING:
    from harness.activation.base import Activated

#: Longest wait for what systemd and podman notice of an end that a client has seen already, in seconds.
_NOTE_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run as systemd and podman number it."""

    #: What systemd calls the run, see systemd.exec(5); empty before the first.
    invocation: str
    #: NRestarts= of the service: how often systemd has started it again by itself.
    restarts: int
    #: Id of its container, the newest of that name; empty before the first.
    container: str


def run_of(activated: Activated, transport: Transport) -> Run:
    """Return the run behind a transport: the one that goes on, or the last one."""
    invocation, restarts = b"", 0
    with contextlib.suppress(NoSuchUnit):  # a transient unit that has ended
        unit = activated.service_of(transport)
        invocation, restarts = activated.session.manager.get(unit, "Unit.InvocationID", "Service.NRestarts")
    notes = last_notes(activated.session.events(), activated.container_of(transport))
    return Run(bytes(invocation).hex(), restarts, notes.get("create", {}).get("ID", ""))


def is_over(activated: Activated, transport: Transport, run: Run) -> bool:
    """Whether another run has taken its place, or none: a client may notice the end before systemd and podman do."""
    unit = activated.service_of(transport)

    def look() -> bool:
        state = activated.state(unit)["ActiveState"]
        return state in ("failed", "inactive") or run_of(activated, transport) != run

    with contextlib.suppress(WaitTimeout):
        return wait_until(look, bool, Deadline.after(_NOTE_LIMIT_S), f"the end of '{unit}'")
    return False


def end_of(activated: Activated, run: Run) -> str:
    """Return how the program of a run that is over has ended, as podman notes it, for a sentence."""
    try:
        status = wait_until(
            lambda: _status(activated, run), lambda seen: seen is not None, Deadline.after(_NOTE_LIMIT_S), "podman"
        )
    except WaitTimeout:
        return "the run ended"
    return f"the program ended with status {status}"


def _status(activated: Activated, run: Run) -> int | None:
    """Return with which status podman has noted the end of the run's container, None before that."""
    ends = (event for event in _events(activated.session.events()) if event["Status"] == "died")
    return next((event.get("ContainerExitCode", 0) for event in ends if event["ID"] == run.container), None)


def last_notes(events: str, container: str) -> dict[str, dict[str, Any]]:
    """Return podman's notes since it last created a container of that name: 'create', 'start' ... -> the event.

    Its notes are read and podman is not asked: that would take a process, and a tenth of a second.
    """
    found: dict[str, dict[str, Any]] = {}
    for event in _events(events):
        if (event["Type"], event.get("Name")) == ("container", container):
            found.setdefault(event["Status"], event)
            if "create" in found:
                return found
    return {}


def is_left(events: str, container: str) -> bool:
    """Whether podman's notes tell of a container of that name that it has not removed."""
    notes = last_notes(events, container)
    return "create" in notes and "remove" not in notes


def unremoved(events: str, since: float) -> list[str]:
    """Return the ids of the containers that podman has created since a time, in seconds since 1970, and not removed."""
    created: dict[str, None] = {}
    for event in reversed([*_events(events)]):
        if event["Type"] == "container" and datetime.fromisoformat(event["Time"]).timestamp() >= since:
            if event["Status"] == "create":
                created[event["ID"]] = None
            elif event["Status"] == "remove":
                created.pop(event["ID"], None)
    return [*created]


def noted(events: str, container: str, status: str, since: float) -> list[dict[str, Any]]:
    """Return podman's notes of a status, such as `start` or `died`, of containers of that name, the newest first.

    Those since a time, in seconds since 1970. A count of all would fall where podman drops the older half of its notes,
    which it does at each megabyte.
    """
    wanted = ("container", container, status)
    return [
        event
        for event in _events(events)
        if (event["Type"], event.get("Name"), event["Status"]) == wanted
        and datetime.fromisoformat(event["Time"]).timestamp() >= since
    ]


def _events(text: str) -> Iterator[dict[str, Any]]:
    """Yield podman's notes, the newest first; what follows the last end of a line is still being written."""
    return map(json.loads, reversed(text.split("\n")[:-1]))
