"""Promises about a service's ends: by SIGTERM, by itself, by SIGKILL; and about what it leaves to the next run."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from itertools import cycle, islice

from harness.activation.diagnosis import given_sockets
from harness.activation.inside import accepting_processes, own_listeners
from harness.activation.run import is_over
from harness.battery import clients
from harness.battery.clients import Load, Steady
from harness.battery.trial import Trial
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import UnitFailed, WaitTimeout
from harness.core.transports import Listener

#: How often a service ends while clients come, and how often where each client is a program: those ask more seldom.
_ENDS, _ENDS_BY_PROGRAMS = 20, 6

#: Replies over each transport between two ends.
_BETWEEN = 2

#: A queue shorter than this can lose clients, see listen(2); a program may well shorten a longer one to so many.
_QUEUE = 128

#: How much longer or earlier than promised an idle service may end, in seconds.
_IDLE_GRACE_S = 5.0

#: Longest time between READY=1 and the first reply, in seconds, and of a reply before it: systemd reads it a bit later.
_READY_S, _EARLY_S = 0.3, 0.1

#: Requests of a start whose output is counted.
_QUIET = Load(20, 4)


def stop(trial: Trial) -> None:
    """SIGTERM ends the program within the contract's limit, and nobody has to kill it."""
    trial.wake()
    run = trial.run
    trial.stop()
    ended = trial.ended(run, "")
    if "status 137" in ended:
        raise trial.broken("the program did not end by SIGTERM and was killed: status 137")


def sockets_unharmed(trial: Trial) -> None:
    """A run leaves its sockets as they were, and the next client wakes the next run."""
    activated = trial.service.activated
    before = _state(trial)
    trial.wake()
    for transport in trial.siblings:
        trial.warm(transport)
    # A launcher's sockets go with it.
    looks = [("while the program runs", _state(trial))]
    trial.stop()
    if activated.listens_on:
        looks.append(("after the program has ended", _state(trial)))
    for when, now in looks:
        for listener, facts in before.items():
            changed = [f"{name} was {facts[name]} and is {now[listener].get(name, 'gone')}" for name in facts
                       if facts[name] != now[listener].get(name)]  # fmt: skip
            if changed:
                raise trial.broken(f"{when}, of the socket '{listener.line}' the {'; the '.join(changed)}")
    trial.wake()
    for transport in trial.siblings[1:]:
        trial.warm(transport)


def _state(trial: Trial) -> dict[Listener, dict[str, object]]:
    """Return what there is to see of each socket of the container from outside."""
    session, activated = trial.service.session, trial.service.activated
    given = given_sockets(activated, trial.transport)
    found: dict[Listener, dict[str, object]] = {}
    for listener in activated.listeners_of(trial.transport):
        known = given.get(listener)
        facts: dict[str, object] = {"state": "listening" if known else "not listening"}
        if known:
            facts["inode"] = known.inode
            if known.backlog is not None:
                facts["queue"] = min(known.backlog, _QUEUE)
        if listener.path:
            try:
                seen = os.lstat(session.outside(listener.path))
                facts["path"] = f"a {'socket' if stat.S_ISSOCK(seen.st_mode) else 'file'} with the inode {seen.st_ino}"
                facts["mode"] = f"{stat.S_IMODE(seen.st_mode):04o}"
            except FileNotFoundError:
                facts["path"] = "gone"
        found[listener] = facts
    return found


def nobody_else_listens(trial: Trial) -> None:
    """Clients come by the sockets of systemd alone."""
    trial.wake()
    for transport in trial.siblings:
        trial.warm(transport)
    activated = trial.service.activated
    given = given_sockets(activated, trial.transport)
    inside = accepting_processes(activated, trial.transport)
    if own := own_listeners(inside, frozenset(known.inode for known in given.values())):
        raise trial.broken("; ".join(map(str, own)))


def crash(trial: Trial) -> None:
    """After a SIGKILL of the main process the next client is answered."""
    trial.wake()
    run, activated = trial.run, trial.service.activated
    container = activated.container_of(trial.transport)
    trial.service.session.run(["podman", "kill", "--signal=KILL", container])
    if not is_over(activated, trial.transport, run):
        raise trial.broken("the container outlives a SIGKILL of its main process")
    wait_until(
        lambda: activated.state(activated.service_of(trial.transport))["ActiveState"],
        lambda state: state in ("failed", "inactive", "active"),
        Deadline.after(trial.service.contract.limits.stop_s),
        "the service to have ended",
    )
    trial.listen_again()
    trial.next("after a SIGKILL of the main process")


def no_reply_lost(trial: Trial) -> None:
    """As many replies as requests, however often the service is stopped and restarted while clients come."""
    trial.wake()
    service, manager = trial.service, trial.service.session.manager
    unit = service.activated.service_of(trial.transport)
    limits = service.contract.limits
    ends = clients.load(trial, Load(_ENDS, 1), Load(_ENDS_BY_PROGRAMS, 1)).requests
    with Steady(service, trial.siblings, limits.first_start_s) as steady:
        for number, end in enumerate(islice(cycle(("stopped", "restarted")), ends), 1):
            _answer(trial, steady, f"before end {number} of {ends}")
            manager.reset_failed()  # and with it the counter of starts, which systemd limits
            deadline = Deadline.after((limits.stop_s + limits.cold_s) * service.timeout_scale)
            try:
                (manager.stop if end == "stopped" else manager.restart)(unit, deadline)
            except (UnitFailed, WaitTimeout) as error:
                raise trial.broken(f"the service could not be {end}: {error.sentence.rstrip('.')}", error) from None
        _answer(trial, steady, f"after {ends} ends")


def _answer(trial: Trial, steady: Steady, when: str) -> None:
    """Wait until every client has got replies of the current run, or one has lost its own."""
    goal = {transport: count + _BETWEEN for transport, count in steady.answered.items()}
    service = trial.service

    def enough() -> bool:
        return bool(steady.lost) or all(steady.answered[item] >= goal[item] for item in goal)

    try:
        wait_until(
            enough, bool, Deadline.after(2 * service.contract.limits.first_start_s * service.timeout_scale), when
        )
    except WaitTimeout as error:
        raise trial.broken(f"{when}, clients without pause get no replies any more", error) from None
    for transport, wrong in steady.lost.items():
        answered = steady.answered[transport]
        raise trial.broken(f"{when}, a client over {transport} lost its reply, the {answered + 1}th: {wrong}")


def idle(trial: Trial) -> None:
    """A service that nobody asks ends by itself when it says, and not while a client is connected."""
    service, activated = trial.service, trial.service.activated
    promised_s = service.contract.limits.idle_exit_s
    assert promised_s is not None
    unit = activated.service_of(trial.transport)
    streams = [item for item in trial.siblings if not activated.workload.endpoints[item].datagram]
    trial.wake()
    began = time.monotonic()
    _await_idle(trial, promised_s, "its last client")
    if (after_s := time.monotonic() - began) < promised_s / 2:
        raise trial.broken(f"the program ended {after_s:.1f} s after its last client, and promises {promised_s:g} s")
    trial.listen_again()
    for transport in streams[:1]:
        trial.wake(transport)
        with (
            clients.connected(service.session, service, transport, service.contract.limits.warm_s),
            contextlib.suppress(WaitTimeout),
        ):
            wait_until(
                lambda: activated.state(unit)["ActiveState"],
                lambda state: state != "active",
                Deadline.after(promised_s * 1.5 + 0.5),
                "an end that must not come",
            )
            raise trial.broken(f"the program ended as idle while a client over {transport} was connected")
        _await_idle(trial, promised_s, "its last client left")
    trial.listen_again()
    trial.next("after it has ended as idle")


def _await_idle(trial: Trial, promised_s: float, after: str) -> None:
    activated = trial.service.activated
    unit = activated.service_of(trial.transport)
    try:
        wait_until(
            lambda: activated.state(unit)["ActiveState"],
            lambda state: state in ("inactive", "failed"),
            Deadline.after((promised_s + _IDLE_GRACE_S) * trial.service.timeout_scale),
            "the service to end as idle",
        )
    except WaitTimeout as error:
        raise trial.broken(f"the program does not end within {error.waited_s:.1f} s after {after}", error) from None


def ready(trial: Trial) -> None:
    """The program says READY=1 when it takes its clients, and not before, as seen twice."""
    wrong = ""
    for _time in range(2):
        reply = trial.wake()
        properties = trial.service.session.manager.properties(trial.service.activated.service_of(trial.transport))
        said = properties["ActiveEnterTimestampMonotonic"] / 1_000_000
        answered = reply.times.first_byte or reply.times.ended
        if answered - said > _READY_S:
            wrong = f"the program says READY=1 {answered - said:.1f} s before it answers a client that waits"
        elif said - answered > _EARLY_S:
            wrong = f"the program answers {said - answered:.1f} s before it says READY=1"
        else:
            return
        trial.stop()
    raise trial.broken(wrong)


def quiet(trial: Trial) -> None:
    """What one start prints is bounded."""
    service = trial.service
    unit = service.activated.service_of(trial.transport)
    before = service.session.output_size(unit)
    trial.wake()
    clients.ask_many(service, trial.siblings, _QUIET, service.contract.limits.warm_s)
    trial.stop()
    printed = service.session.output_size(unit) - before
    limit = service.contract.limits.output_kib
    if printed > limit * 1024:
        raise trial.broken(
            f"one start with {_QUIET.requests} requests printed {printed / 1024:.0f} KiB, and may print {limit} KiB"
        )
