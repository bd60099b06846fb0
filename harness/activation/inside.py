"""What goes on inside a container, as the kernel shows it from outside: its processes, and where they listen."""

from __future__ import annotations

import contextlib
import ipaddress
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.activation.run import last_notes
from harness.core.transports import Transport
from harness.session.processes import Process, processes

if TYPE_CHECKING:
    from harness.activation.base import Activated

#: The protocols of /proc/net -> the state of a socket that takes what comes from anybody: TCP_LISTEN, TCP_CLOSE.
_TAKES = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}

#: The first port that the kernel gives to clients by itself, see ip_local_port_range in ip(7).
_FIRST_EPHEMERAL = 32768


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket takes what comes from anybody over IP."""

    inode: int
    #: `tcp` or `udp`.
    protocol: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OwnListener:
    """A socket that a process of a container takes clients by, and that it was not given."""

    process: Process
    #: Number of the process within its container.
    pid: int
    address: Address

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.process.name}) listens on {self.address} by itself"


def accepting_processes(activated: Activated, transport: Transport) -> dict[int, Process]:
    """Return the processes that accept(2) a transport's clients: its container's, or the proxy before it."""
    unit = activated.service_of(transport)
    if unit == activated.starter_of(transport):
        return container_processes(activated, transport)
    main = activated.session.manager.properties(unit)["MainPID"]
    return {pid: process for pid, process in processes(activated.session).items() if pid == main}


def container_processes(activated: Activated, transport: Transport) -> dict[int, Process]:
    """Return the processes of the container behind a transport by their numbers on the machine; {} without one.

    They are the descendants of the conmon(8) that has the newest container of that name.
    """
    notes = last_notes(activated.session.events(), activated.container_of(transport))
    if not notes:
        return {}
    identity = notes["create"]["ID"]
    found = processes(activated.session)
    monitors = {
        pid
        for pid, process in found.items()
        if process.name == "conmon" and f" -c {identity} " in f"{process.command} "
    }
    return {pid: process for pid, process in found.items() if monitors & set(_above(found, pid))}


def _above(found: Mapping[int, Process], pid: int) -> Iterator[int]:
    while (process := found.get(pid)) and process.parent != pid:
        pid = process.parent
        yield pid


def inner_pid(pid: int) -> int:
    """Return the number that a process has in its innermost namespace, see NSpid in proc(5); itself once it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc", str(pid), "status").read_text(encoding="utf-8", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
    return pid


def own_listeners(inside: Mapping[int, Process], given: frozenset[int]) -> list[OwnListener]:
    """Return where the processes listen by IP beside the sockets that they were given, each address once."""
    found: dict[int, OwnListener] = {}
    for pid, process in inside.items():
        for address in addresses(pid):
            if address.inode in process.sockets - given:
                found.setdefault(address.inode, OwnListener(process, inner_pid(pid), address))
    return list(found.values())


def addresses(pid: int) -> Iterator[Address]:
    """Yield every address that takes clients in the network of a process, whoever has its socket."""
    for protocol, state in _TAKES.items():
        try:
            lines = Path("/proc", str(pid), "net", protocol).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] != state:
                continue
            host, _, port = fields[1].partition(":")
            number = int(port, 16)
            if protocol.startswith("tcp") or 0 < number < _FIRST_EPHEMERAL:
                yield Address(int(fields[9]), protocol.rstrip("6"), _host(host), number)


def _host(text: str) -> str:
    """Return an address that the kernel writes as words of its own byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return f"[{address}]" if address.version == 6 else str(address)
