"""Why a client gets no reply, from what the kernel, systemd and podman show of the container, in one sentence.

Never from the program's own memory: an environment block gets overwritten.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.activation.inside import accepting_processes, inner_pid, own_listeners
from harness.activation.run import end_of, last_notes, noted, run_of
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import HarnessError, WaitTimeout
from harness.core.transports import FIRST_DESCRIPTOR, Listener, Transport
from harness.session import sockets
from harness.session.manager import NoSuchUnit
from harness.session.processes import Process
from harness.session.sockets import KernelSocket

if TYPE_CHECKING:
    from harness.activation.base import Activated

#: For how long a reason has to stand before a client gives up, in seconds: a container may be on its way up, or another
#: one may follow.
STANDS_S = 1.5

#: Machine -> number of a system call in /proc/PID/syscall -> what waits in it.
_WAITS = {
    "x86_64": {"43": "accept()", "288": "accept()", "45": "recv()", "47": "recv()", "0": "read()"},
    "aarch64": {"202": "accept()", "242": "accept()", "207": "recv()", "212": "recv()", "63": "read()"},
}


def diagnose(activated: Activated, transport: Transport) -> str:
    """Return what keeps a service from answering a client over `transport`, as a clause; "" where nothing shows it.

    A client may notice an end before systemd and podman do, so what shows nothing is looked at again for `STANDS_S`.
    """

    def look() -> str:
        with contextlib.suppress(HarnessError):
            return hopeless(activated, transport) or _unaccepted(activated, transport)
        return ""

    with contextlib.suppress(WaitTimeout):
        return wait_until(look, bool, Deadline.after(STANDS_S), "a reason")
    return ""


def hopeless(activated: Activated, transport: Transport) -> str:
    """Return why no reply can come any more, as a clause, or ""."""
    if met := activated.exceeded:
        return met[0]  # and no look at its processes, which may take as long as it has made of them
    inside = accepting_processes(activated, transport)
    if not inside:
        return _ended(activated, transport)
    given = given_sockets(activated, transport)
    listener = listener_of(activated, transport)
    known = given.get(listener)
    # A client that was accepted may wait as long as its reply takes; and who may not look into the processes can't say
    # what they hold.
    if known is None or not known.waiting or not all(process.descriptors for process in inside.values()):
        return ""
    if own := own_listeners(inside, frozenset(item.inode for item in given.values())):
        return f"the program ignores its sockets: {own[0]}"
    if not any(process.holds(known.inode) for process in inside.values()):
        return f"the program has closed {_name(activated, listener)}: no process of the container has it any more"
    return ""


class Hopeless:
    """Tells a client that waits whether its reply can't come any more: the same reason for `STANDS_S`."""

    def __init__(self, activated: Activated, transport: Transport) -> None:
        self._activated = activated
        self._transport = transport
        self._reason = ""
        self._since = time.monotonic()

    def __call__(self) -> str:
        """Return the reason, "" as long as there is hope."""
        with contextlib.suppress(HarnessError):
            reason = hopeless(self._activated, self._transport)
            if reason != self._reason or not reason:
                self._reason, self._since = reason, time.monotonic()
        return self._reason if self._reason and time.monotonic() - self._since >= STANDS_S else ""


def _ended(activated: Activated, transport: Transport) -> str:
    """Return how the program of the last start ended, where systemd starts no other; "" where it still may.

    A start that made no container has no end of a program's.
    """
    # A proxy is inactive until its container is up.
    unit = activated.starter_of(transport)
    if activated.state(unit)["ActiveState"] not in ("failed", "inactive"):
        return ""
    notes = last_notes(activated.session.events(), activated.container_of(transport))
    started = activated.created
    with contextlib.suppress(NoSuchUnit):
        started = max(started, activated.session.manager.properties(unit)["InactiveExitTimestamp"] / 1_000_000)
    if not notes or datetime.fromisoformat(notes["create"]["Time"]).timestamp() < started:
        return ""
    end = end_of(activated, run_of(activated, transport))
    # A program may end as it should, and not be started again.
    limited = activated.state(unit)["Result"] == "start-limit-hit"
    return f"{end}, and systemd calls the unit '{unit}' failed for 'start-limit-hit'" if limited else end


def given_sockets(activated: Activated, transport: Transport) -> dict[Listener, KernelSocket]:
    """Return the sockets of the container behind a transport, as far as the kernel tells of them."""
    found = sockets.listening(activated.session)
    told = {listener: sockets.of(found, listener) for listener in activated.listeners_of(transport)}
    return {listener: known for listener, known in told.items() if known}


def listener_of(activated: Activated, transport: Transport) -> Listener:
    """Return the socket that clients of a transport come by."""
    asked = (listener for listener in activated.workload.listeners if listener.probed)
    return next(listener for listener in asked if transport in listener.transports)


def _name(activated: Activated, listener: Listener) -> str:
    """Return a socket as the program knows it; systemd promises no order of the sockets of several units."""
    transports = "/".join(listener.transports)
    if listener.name:
        return f"the socket '{listener.name}' ({transports})"
    if len(activated.sockets) > 1:
        return f"its socket for {transports}"
    number = FIRST_DESCRIPTOR + activated.listeners_of(listener.transports[0]).index(listener)
    return f"fd {number} ({transports})"


def _unaccepted(activated: Activated, transport: Transport) -> str:
    """Return that a client waits in the queue of its socket, and what the program does meanwhile."""
    given = given_sockets(activated, transport)
    listener = listener_of(activated, transport)
    known = given.get(listener)
    if known is None or not known.waiting:
        return ""
    where = _name(activated, listener)
    inside = accepting_processes(activated, transport)
    ended = noted(activated.session.events(), activated.container_of(transport), "died", activated.created)
    if len(ended) > 1 and not inside:
        status = ended[0].get("ContainerExitCode", 0)
        return f"the program has ended {len(ended)} times, the last time with status {status}"
    for pid, process in inside.items():
        if (limit := _descriptor_limit(pid)) and process.opened >= limit:
            return f"pid {inner_pid(pid)} ({process.name}) has all of its {limit} descriptors open"
        for call, number in _waits(pid):
            link = process.descriptors.get(number, "")
            other = next((item for item, socket in given.items() if link == f"socket:[{socket.inode}]"), None)
            who = f"pid {inner_pid(pid)} ({process.name})"
            if other not in (None, listener):
                return (
                    f"{who} waits in {call} of {_name(activated, other)}, and does not see the client of {where}: "
                    "set 'NonBlocking=yes' in the unit, or let the program wait for all of its sockets"
                )
            if call != "accept()" and link.startswith("socket:[") and other is None:
                return f"{who} waits in {call} for one client, and accepts no other on {where}"
    return f"the program accepts nothing on {where}: a client waits in its queue; {_busy(inside)}"


def _descriptor_limit(pid: int) -> int:
    """Return how many descriptors a process may have, see RLIMIT_NOFILE in getrlimit(2); 0 where nobody may look."""
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "limits").read_text(encoding="ascii").splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
    return 0


def _waits(pid: int) -> list[tuple[str, int]]:
    """Return the system calls that threads of a process wait in, each with its descriptor; [] where nobody may look."""
    names: Mapping[str, str] = _WAITS.get(platform.machine(), {})
    found = []
    with contextlib.suppress(OSError):
        for thread in Path("/proc", str(pid), "task").iterdir():
            number, _, rest = (thread / "syscall").read_text(encoding="ascii").partition(" ")
            if number in names:
                found.append((names[number], int(rest.split()[0], 16)))
    return found


def _busy(inside: Mapping[int, Process]) -> str:
    """Return what the processes of a container do, for the end of a sentence."""
    states = []
    for pid, process in inside.items():
        with contextlib.suppress(OSError):
            state = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            place = Path("/proc", str(pid), "wchan").read_text(encoding="ascii").strip("0")
            doing = f"sleeps in {place}" if place else "runs" if state.split()[0] == "R" else "sleeps"
            states.append(f"pid {inner_pid(pid)} ({process.name}) {doing}")
    return ", ".join(states[:3]) or "the container has no process"
