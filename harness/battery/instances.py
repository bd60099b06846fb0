"""The promise about sockets whose clients systemd accepts: an instance of the service for each, and none after them."""

from __future__ import annotations

import time

from harness.activation.run import unremoved
from harness.activation.shipped import Shipped
from harness.battery import clients
from harness.battery.trial import Trial
from harness.contract import Sends
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import WaitTimeout, middle

#: Clients that come together, as far as MaxConnections= lets them.
_CLIENTS = 8


def instances(trial: Trial) -> None:
    """One client and then many at once are answered, by as many instances; when they have gone, nothing is left."""
    shipped = trial.service.activated
    assert isinstance(shipped, Shipped)
    unit = shipped.socket_of(trial.transport)
    began = time.time()
    limits = (_number(trial, unit, name) for name in ("MaxConnections", "MaxConnectionsPerSource"))
    for count in dict.fromkeys((1, min([_CLIENTS, *filter(None, limits)]))):
        _come(trial, unit, count)
        _gone(trial, shipped, unit, count, began)


def _come(trial: Trial, unit: str, count: int) -> None:
    service, seen = trial.service, list[int]()
    before = _number(trial, unit, "NAccepted")
    limit_s = service.contract.limits.first_start_s
    replies = clients.ask_at_once(
        service, trial.transport, count, limit_s, lambda: seen.append(_number(trial, unit, "NConnections"))
    )
    if wrong := clients.wrong(service, replies):
        wrong = wrong if count == 1 else f"of {count} clients at once, {wrong}"
        raise trial.broken("; ".join(filter(None, (wrong, _said(trial)))))
    promised = service.contract.probe(trial.transport)
    # Others may have been left by their instances when the last reply has come.
    stay = isinstance(promised, Sends) and not promised.half_close
    if _number(trial, unit, "NAccepted") - before != count or (stay and seen != [count]):
        raise trial.broken(f"while {count} clients were connected, there were {sum(seen)} instances")


def _gone(trial: Trial, shipped: Shipped, unit: str, count: int, began: float) -> None:
    """Wait until the instances have ended with their clients, and podman has removed their containers."""
    session, limit_s = trial.service.session, trial.service.contract.limits.stop_s * trial.service.timeout_scale

    left: list[str] = []

    def look() -> list[str]:
        left[:] = [f"'{one}' ({shipped.state(one)['ActiveState']})" for one in shipped.instances_of(trial.transport)]
        left.extend(f"container {one[:12]}" for one in unremoved(session.events(), began))
        return left

    try:
        wait_until(look, lambda found: not found, Deadline.after(limit_s), f"the instances of '{unit}' to end")
    except WaitTimeout:
        last = "1 client" if count == 1 else f"the last of {count} clients"
        raise trial.broken(f"{limit_s:g} s after {last}, this is left: {', '.join(left)}") from None


def _number(trial: Trial, unit: str, name: str) -> int:
    (number,) = trial.service.session.manager.get(unit, f"Socket.{name}")
    return int(number)


def _said(trial: Trial) -> str:
    """Return what the service has printed at last, where an instance has failed, for a sentence."""
    activated = trial.service.activated
    if any(activated.state(unit)["ActiveState"] == "failed" for unit in activated.services):
        lines = "".join(map(trial.service.session.output, activated.printing)).strip().splitlines()
        return f"it said at last {middle(lines[-1], 1, 200)!r}" if lines else ""
    return ""
