"""The one table of transports: what each layer between a unit file and a client calls the same thing.

A new transport is a new member of `Transport` and a new row in `ROWS`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import StrEnum

#: systemd.socket(5): a socket that listens here takes clients of every CID, see VMADDR_CID_ANY in vsock(7).
CID_ANY = 4294967295

#: VMADDR_CID_LOCAL in vsock(7), the machine itself; no client of this harness connects to any other CID.
CID_LOCAL = 1


class Transport(StrEnum):
    """How a client reaches a socket."""

    TCP4 = "tcp4"
    TCP6 = "tcp6"
    UDP4 = "udp4"
    UDP6 = "udp6"
    UNIX = "unix"
    VSOCK = "vsock"


class Directive(StrEnum):
    """The directive of systemd.socket(5) that a socket is declared with."""

    STREAM = "ListenStream"
    DATAGRAM = "ListenDatagram"


@dataclass(frozen=True, slots=True)
class Row:
    """What is true of a transport whatever its address is; `{port}`, `{path}` and `{cid}` are filled in."""

    family: socket.AddressFamily
    kind: socket.SocketKind
    #: The address for `Listen*=` and for `systemd-socket-activate --listen`.
    listen: str
    #: The address for socat(1).
    socat: str
    #: The options that send curl(1) this way, and the authority of the URL; empty where curl can't go.
    curl: tuple[str, ...] = ()
    #: The capability of the machine without which no client can try.
    capability: str = ""

    @property
    def directive(self) -> Directive:
        """The directive that declares such a socket."""
        return Directive.STREAM if self.kind == socket.SOCK_STREAM else Directive.DATAGRAM


_STREAM, _DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM

ROWS: dict[Transport, Row] = {
    Transport.TCP4: Row(
        socket.AF_INET, _STREAM, "127.0.0.1:{port}", "tcp4:127.0.0.1:{port}", ("--ipv4", "http://127.0.0.1:{port}")
    ),
    Transport.TCP6: Row(
        socket.AF_INET6, _STREAM, "[::1]:{port}", "tcp6:[::1]:{port}", ("--ipv6", "http://[::1]:{port}"),
        capability="ipv6_loopback",
    ),
    Transport.UDP4: Row(socket.AF_INET, _DATAGRAM, "127.0.0.1:{port}", "udp4:127.0.0.1:{port}"),
    Transport.UDP6: Row(
        socket.AF_INET6, _DATAGRAM, "[::1]:{port}", "udp6:[::1]:{port}", capability="ipv6_loopback"
    ),
    Transport.UNIX: Row(
        socket.AF_UNIX, _STREAM, "{path}", "unix:{path}", ("--unix-socket", "{path}", "http://localhost")
    ),
    Transport.VSOCK: Row(
        socket.AF_VSOCK, _STREAM, "vsock:{cid}:{port}", f"VSOCK-CONNECT:{CID_LOCAL}:{{port}}",
        capability="vsock_loopback",
    ),
}  # fmt: skip

#: SD_LISTEN_FDS_START of sd_listen_fds(3): the descriptor of a program's first socket.
FIRST_DESCRIPTOR = 3

#: The pairs that one dual-stack socket can serve (BindIPv6Only=default in systemd.socket(5)).
DUAL_STACK = (frozenset({Transport.TCP4, Transport.TCP6}), frozenset({Transport.UDP4, Transport.UDP6}))

NativeAddress = tuple[str, int] | tuple[int, int] | str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A transport with its address in one session, as a client sees it."""

    transport: Transport
    port: int = 0
    #: The path of a Unix socket, as a process inside the session sees it.
    path: str = ""

    @property
    def row(self) -> Row:
        """What the table says of the transport."""
        return ROWS[self.transport]

    @property
    def datagram(self) -> bool:
        """Whether a reply is one datagram instead of everything up to the end of a stream."""
        return self.row.kind == socket.SOCK_DGRAM

    @property
    def socat(self) -> str:
        """The address for socat(1)."""
        return self._fill(self.row.socat)

    def curl(self, path: str) -> tuple[str, ...]:
        """Return the arguments for curl(1) that fetch `path` here; empty where curl can't."""
        *options, url = self.row.curl or ("",)
        return (*(self._fill(option) for option in options), self._fill(url) + path) if url else ()

    @property
    def placeholders(self) -> dict[str, str]:
        """What the placeholders `host`, `port`, `path` and `address` of a client's arguments stand for here."""
        if self.row.family == socket.AF_UNIX:
            return {"path": self.path, "address": self.path}
        host, port = map(str, self.native)
        address = f"[{host}]:{port}" if self.row.family == socket.AF_INET6 else f"{host}:{port}"
        return {"host": host, "port": port, "address": address}

    @property
    def native(self) -> NativeAddress:
        """The address for connect(2)."""
        match self.row.family:
            case socket.AF_UNIX:
                return self.path
            case socket.AF_VSOCK:
                return (CID_LOCAL, self.port)
            case socket.AF_INET6:
                return ("::1", self.port)
            case _:
                return ("127.0.0.1", self.port)

    def _fill(self, template: str) -> str:
        return template.format(port=self.port, path=self.path)

    def __str__(self) -> str:
        return self.socat


@dataclass(frozen=True, slots=True)
class Listener:
    """One socket that systemd listens on: one line of a socket unit, one or two endpoints."""

    transports: tuple[Transport, ...]
    port: int = 0
    path: str = ""
    #: Whether the program looks for the socket by its port, so that it can't be given another one.
    fixed_port: bool = False
    #: Whom a vsock socket listens to: CID_ANY, or CID_LOCAL for clients of the machine itself only.
    cid: int = CID_ANY
    #: FileDescriptorName= of systemd.socket(5); empty for systemd's own.
    name: str = ""
    #: Further settings of systemd.socket(5), each with its value.
    options: tuple[tuple[str, str], ...] = ()
    #: Whether clients ask here; another socket of the same transport may be handed over only.
    probed: bool = True

    @property
    def directive(self) -> Directive:
        """The directive that declares it."""
        return ROWS[self.transports[0]].directive

    @property
    def address(self) -> str:
        """What stands behind the directive and the launcher's `--listen`; a dual-stack socket is a bare port."""
        if len(self.transports) > 1:
            return str(self.port)
        return ROWS[self.transports[0]].listen.format(port=self.port, path=self.path, cid=self.cid)

    @property
    def line(self) -> str:
        """The line in a `.socket` file."""
        return f"{self.directive}={self.address}"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where clients find it."""
        return tuple(Endpoint(transport, self.port, self.path) for transport in self.transports)
