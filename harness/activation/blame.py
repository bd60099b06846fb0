"""Who has to act when a service fails: the image only once its own program has run, and else whom the words accuse."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from harness.activation.run import last_notes
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, WaitTimeout
from harness.core.hints import Hint, hint, start_hint
from harness.core.transports import Transport
from harness.session.manager import NoSuchUnit

if TYPE_CHECKING:
    from harness.activation.base import Activated

#: Longest wait for podman's note of a start, which may come after the program has run, in seconds.
_NOTE_LIMIT_S = 2.0

#: Exit statuses of `podman run` for what it could not do itself, see podman-run(1).
_PODMAN = range(125, 128)

#: Exit statuses of systemd for what it can't do before it executes a program, see systemd.exec(5).
_SYSTEMD = range(200, 244)


def accuse(activated: Activated, transport: Transport) -> Hint:
    """Return who has to act for a service behind `transport` that did not do what it should, and what may help."""
    unit = activated.service_of(transport)
    is_proxy = unit != activated.starter_of(transport)
    if is_proxy and activated.state(unit)["Result"] == "success":
        unit, is_proxy = activated.starter_of(transport), False
    try:
        properties = activated.session.manager.properties(unit)
    except NoSuchUnit:  # a transient unit that has ended
        properties = {"ExecMainStatus": 0, "Result": "", "InactiveExitTimestamp": activated.created}
    status: int = properties["ExecMainStatus"]
    return decide(
        not is_proxy and _ran(activated, unit, status),
        properties["InactiveExitTimestamp"] > 0,
        status,
        properties["Result"],
        activated.session.output(unit),
        activated.evidence()["systemd --user"],
    )


def decide(ran: bool, tried: bool, status: int, result: str, output: str, log: str) -> Hint:
    """Return who has to act for a service.

    `ran` is whether its program was executed in the container, `tried` whether systemd has started the service at all,
    `status` and `result` are systemd's of the last try, `output` is the unit's own, `log` that of the manager.
    """
    if ran:
        # What a program prints is no evidence against others: it may say anything.
        known = hint(log)
        if result in ("oom-kill", "resources"):
            return Hint("", "Memory or another resource ran out; the manager's log says which limit.", Blame.UNKNOWN)
        return Hint("", known.advice, known.blame or Blame.IMAGE)
    if not tried:
        advice = "No client woke the service: look at its socket units ('systemctl --user status'), not at the image."
        return Hint("", advice, Blame.UNKNOWN)
    known = start_hint(f"{output}\n{log}")
    if known.blame is Blame.UNKNOWN and status in _SYSTEMD:
        advice = f"systemd could not execute podman: status {status}, see 'Process Exit Codes' in systemd.exec(5)."
        return Hint("", advice, Blame.MACHINE if status == 203 else Blame.UNKNOWN)
    return known


def _ran(activated: Activated, unit: str, status: int) -> bool:
    """Return whether the program was executed in the last run of a service, which has ended with `status` if at all."""

    def look() -> tuple[bool, str]:
        notes = _last_notes(activated, activated.containers[unit])
        end = notes.get("died", {}).get("ContainerExitCode", 0)
        # A status that is no program's own, and not that of the last container, is of a later try.
        own = status not in (*_PODMAN, *_SYSTEMD) or "died" not in notes or end == status
        return "start" in notes and own, activated.state(unit)["ActiveState"]

    with contextlib.suppress(WaitTimeout):
        ran, _state = wait_until(
            look,
            lambda seen: seen[0] or seen[1] in ("failed", "inactive"),
            Deadline.after(_NOTE_LIMIT_S),
            "podman's note of a start",
        )
        return ran
    return False


def _last_notes(activated: Activated, container: str) -> dict[str, dict[str, Any]]:
    """Return podman's notes of the last container of that name, if it was created for this service."""
    notes = last_notes(activated.session.events(), container)
    if not notes or datetime.fromisoformat(notes["create"]["Time"]).timestamp() < activated.created:
        return {}
    return notes
