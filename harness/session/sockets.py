"""The listening sockets of a session's network, as the kernel has them: sock_diag(7), what `ss -l` shows."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.errors import SessionError
from harness.core.transports import Listener, Transport
from harness.session.session import Session

#: <linux/netlink.h> and <linux/sock_diag.h>.
_SOCK_DIAG, _BY_FAMILY = 4, 20
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")

#: TCP_ESTABLISHED, TCP_LISTEN, and TCP_CLOSE, which is the state of an UDP socket without a peer; as bits.
_ESTABLISHED, _LISTEN, _CLOSE = 1 << 1, 1 << 10, 1 << 7

#: inet_diag_req_v2 and inet_diag_msg of <linux/inet_diag.h>.
_INET_REQUEST = struct.Struct("=BBBxI2s2s44x")
_INET = struct.Struct("=BBxx2s2s16s16s12xIIIII")

#: A port that is not asked for.
_ANY = b"\0\0"

#: unix_diag_req and unix_diag_msg of <linux/unix_diag.h>; its flags and attributes.
_UNIX_REQUEST = struct.Struct("=BBHIII8x")
_UNIX = struct.Struct("=BBBxI8x")
_SHOW_NAME, _SHOW_PEER, _SHOW_QUEUE = 0x1, 0x4, 0x10
_NAME, _PEER, _QUEUE = 0, 2, 4

#: vsock_diag_msg of <linux/vm_sockets_diag.h>; the request is that of Unix sockets.
_VSOCK = struct.Struct("=BBBBIIIII8x")


@dataclass(frozen=True, slots=True)
class KernelSocket:
    """A socket that listens, or one for datagrams that is bound and takes them from everybody."""

    family: int
    kind: int
    inode: int
    port: int = 0
    #: Path of a Unix socket as it was bound; an abstract one begins with NUL.
    path: str = ""
    #: Clients that wait to be accepted, or bytes of datagrams that wait to be read; None where the kernel doesn't tell.
    waiting: int | None = None
    #: The most clients that may wait, see listen(2); None for datagrams, and where the kernel does not tell.
    backlog: int | None = None


def listening(session: Session) -> list[KernelSocket]:
    """Return the sockets that listen in the session's network; none of a family that the kernel can't tell of.

    Raises SessionError where it tells of none at all.
    """
    with session.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asked:
        return [*_inet(asked), *_unix(asked), *_vsock(asked)]


def of(found: list[KernelSocket], listener: Listener) -> KernelSocket | None:
    """Return the socket of a listener among those found, or None."""
    row = listener.endpoints[0].row
    # One socket for both families is an IPv6 one.
    family = socket.AF_INET6 if len(listener.transports) > 1 else row.family
    by_path = listener.transports[0] is Transport.UNIX
    return next(
        (
            item
            for item in found
            if (item.family, item.kind) == (family, row.kind)
            and (item.path == listener.path if by_path else item.port == listener.port)
        ),
        None,
    )


def is_accepted(session: Session, client: socket.socket) -> bool:
    """Whether somebody has accepted a connection over IP or a Unix socket: only then its other end is a file.

    An other end that the kernel does not show is none: it may have no room for the connection, or wait for its first
    byte, see TCP_DEFER_ACCEPT in tcp(7). Raises OSError where the connection was refused or reset.
    """
    with contextlib.suppress(BlockingIOError):
        # Whoever has sent something, or the end, has accepted.
        client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return True
    with session.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asked:
        if client.family == socket.AF_UNIX:
            own = os.fstat(client.fileno()).st_ino
            request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, _ESTABLISHED, 0, _SHOW_PEER)
            return any(peer for inode, peer in _peers(asked, request) if inode == own)
        here, there = (port.to_bytes(2, "big") for port in (client.getsockname()[1], client.getpeername()[1]))
        return any(
            _INET.unpack_from(data)[10]
            # The other end of an IPv4 client may be a socket for both families.
            for family in (socket.AF_INET, socket.AF_INET6)
            for data in _dump(asked, _INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ESTABLISHED, there, here))
        )


def _peers(asked: socket.socket, request: bytes) -> Iterator[tuple[int, int]]:
    """Yield the inode of each Unix socket and that of its other end, 0 for one that nobody has accepted."""
    for data in _dump(asked, request):
        inode = _UNIX.unpack_from(data)[3]
        told = dict(_attributes(data[_UNIX.size :]))
        if _PEER in told:
            yield inode, int.from_bytes(told[_PEER], sys.byteorder)


def _inet(asked: socket.socket) -> Iterator[KernelSocket]:
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind, protocol, states in (
            (socket.SOCK_STREAM, socket.IPPROTO_TCP, _LISTEN),
            (socket.SOCK_DGRAM, socket.IPPROTO_UDP, _CLOSE),
        ):
            for data in _dump(asked, _INET_REQUEST.pack(family, protocol, 0, states, _ANY, _ANY)):
                told = _INET.unpack_from(data)
                stream = kind == socket.SOCK_STREAM
                port = int.from_bytes(told[2], "big")
                yield KernelSocket(family, kind, told[10], port, waiting=told[7], backlog=told[8] if stream else None)


def _unix(asked: socket.socket) -> Iterator[KernelSocket]:
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, _LISTEN, 0, _SHOW_NAME | _SHOW_QUEUE)
    for data in _dump(asked, request):
        _family, kind, _state, inode = _UNIX.unpack_from(data)
        told = dict(_attributes(data[_UNIX.size :]))
        waiting, backlog = struct.unpack("=II", told[_QUEUE]) if _QUEUE in told else (None, None)
        name = os.fsdecode(told.get(_NAME, b""))
        path = name if name.startswith("\0") else name.rstrip("\0")
        yield KernelSocket(socket.AF_UNIX, kind, inode, path=path, waiting=waiting, backlog=backlog)


def _vsock(asked: socket.socket) -> Iterator[KernelSocket]:
    for data in _dump(asked, _UNIX_REQUEST.pack(socket.AF_VSOCK, 0, 0, _LISTEN, 0, 0)):
        _family, kind, _state, _shutdown, _cid, port, _peer, _peer_port, inode = _VSOCK.unpack_from(data)
        yield KernelSocket(socket.AF_VSOCK, kind, inode, port)


def _dump(asked: socket.socket, request: bytes) -> Iterator[bytes]:
    """Yield what the kernel tells of each socket; nothing for a family that it has no module for."""
    asked.sendall(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST | _DUMP, 0, 0) + request)
    while True:
        data = asked.recv(1 << 18)
        while data:
            length, kind, *_rest = _HEADER.unpack_from(data)
            body = data[_HEADER.size : length]
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -int.from_bytes(body[:4], "little", signed=True)
                if number in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                    return
                raise SessionError(f"The kernel does not tell which sockets listen: {os.strerror(number)}.")
            yield body
            data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
