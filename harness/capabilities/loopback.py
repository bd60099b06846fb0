"""How the loopback of a transport is found out: by a connection of this process to itself."""

from __future__ import annotations

import errno
import select
import socket

from harness.capabilities.userspace import attempt, knows_module, missing, why
from harness.core.machine import Found, Machine

#: Time limit of a connection over loopback, in seconds; one that works takes well under a millisecond.
LOOPBACK_LIMIT_S = 0.3

#: VMADDR_CID_LOCAL of vsock(7), which Python 3.11 does not name. No probe connects to any other CID: that is a machine.
VSOCK_LOCAL = 1


def connect_problem(client: socket.socket, address: tuple[object, ...], limit_s: float = LOOPBACK_LIMIT_S) -> str:
    """Connect within `limit_s` seconds; return "" or why it did not work.

    Over vsock every CID but 1 is another machine, so nothing is ever sent to it, whatever the caller asks for.
    """
    if client.family not in (socket.AF_INET, socket.AF_INET6) and address[0] != VSOCK_LOCAL:
        raise ValueError(f"a probe must not connect to CID {address[0]}")
    client.setblocking(False)
    number = client.connect_ex(address)
    if number == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        if not poll.poll(limit_s * 1000):
            return f"timed out after {limit_s:g} s"
        number = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return why(OSError(number, "")) if number else ""


def _loopback(family: int, host: object, any_port: int, named: str) -> Found:
    """Listen on the loopback address `host` and connect to the same, in this process."""
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return missing(f"socket: {why(error)}")
    with listener:
        try:
            listener.bind((host, any_port))
            listener.listen(1)
        except OSError as error:
            return missing(f"bind to {named}: {why(error)}")
        with socket.socket(family, socket.SOCK_STREAM) as client:
            problem = connect_problem(client, (host, listener.getsockname()[1]))
    return missing(f"connect to {named}: {problem}") if problem else Found(True, "", named)


def ipv6_loopback(_machine: Machine) -> Found:
    """Connect over ::1."""
    return _loopback(socket.AF_INET6, "::1", 0, "::1")


def vsock_loopback(machine: Machine) -> Found:
    """Connect over CID 1 of vsock(7); as root, load the kernel's module for that first where it is not loaded.

    The listener binds to CID 1 itself, not to any CID: the kernel refuses that with EADDRNOTAVAIL while no loopback
    transport is loaded, and a connection would then leave for the machine that hosts this one.
    """
    if not hasattr(socket, "AF_VSOCK"):
        return missing("this Python has no AF_VSOCK")
    found = _vsock_loopback()
    if "EADDRNOTAVAIL" not in found.detail:
        return found
    why = "no loopback transport is loaded"
    modprobe = machine.program("modprobe")
    if not knows_module(machine, "vsock_loopback"):
        why = f"{why}, and the kernel '{machine.kernel()}' has no module 'vsock_loopback'"
    elif machine.account.root and modprobe:
        _output, problem = attempt(machine, [modprobe, "vsock_loopback"])
        if not problem:
            return _vsock_loopback()
        why = f"{why}: {problem}"
    return missing(f"{found.detail} ({why})")


def _vsock_loopback() -> Found:
    return _loopback(socket.AF_VSOCK, VSOCK_LOCAL, socket.VMADDR_PORT_ANY, f"CID {VSOCK_LOCAL}")
