"""The tables `sockets` of a contract: what systemd listens on, with which settings."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.contract.types import Octal, Some, Table, allowed, shortened
from harness.core.transports import CID_ANY, CID_LOCAL, DUAL_STACK, Listener, Transport

#: Ports below 1024 are for root, see ip_unprivileged_port_start in ip(7).
FIRST_PORT = 1024

_PATH = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}"

_TCP = frozenset({Transport.TCP4, Transport.TCP6})
_UDP = frozenset({Transport.UDP4, Transport.UDP6})
_UNIX = frozenset({Transport.UNIX})
_STREAMS = frozenset({*_TCP, *_UNIX, Transport.VSOCK})

#: The settings that mean nothing for some sockets -> the transports that they are for.
_FOR: dict[str, frozenset[Transport]] = {
    "Backlog": _STREAMS,
    "DeferAcceptSec": _TCP,
    "KeepAlive": _TCP,
    "NoDelay": _TCP,
    "FreeBind": _TCP | _UDP,
    "ReusePort": _TCP | _UDP,
    "Broadcast": _UDP,
    "PassCredentials": _UNIX,
    "SocketMode": _UNIX,
    "DirectoryMode": _UNIX,
    "RemoveOnStop": _UNIX,
}

#: Key of pydantic's context: whether sockets are as systemd has loaded them, and not as a contract says them.
AS_LOADED = "as loaded"


def _as_loaded(given: ValidationInfo) -> bool:
    return bool((given.context or {}).get(AS_LOADED))


_Bytes = Annotated[int, Field(ge=256, le=2**30)]


class SocketOptions(Table):
    """Settings of systemd.socket(5) that a contract may use: those of listening sockets, which run no commands."""

    backlog: Annotated[Annotated[int, Field(ge=1, le=65535)] | None, Field(alias="Backlog")] = None
    defer_accept_s: Annotated[Annotated[int, Field(ge=1, le=600)] | None, Field(alias="DeferAcceptSec")] = None
    keep_alive: Annotated[bool | None, Field(alias="KeepAlive")] = None
    no_delay: Annotated[bool | None, Field(alias="NoDelay")] = None
    free_bind: Annotated[bool | None, Field(alias="FreeBind")] = None
    reuse_port: Annotated[bool | None, Field(alias="ReusePort")] = None
    broadcast: Annotated[bool | None, Field(alias="Broadcast")] = None
    receive_buffer: Annotated[_Bytes | None, Field(alias="ReceiveBuffer")] = None
    send_buffer: Annotated[_Bytes | None, Field(alias="SendBuffer")] = None
    pass_credentials: Annotated[bool | None, Field(alias="PassCredentials")] = None
    socket_mode: Annotated[Octal | None, Field(alias="SocketMode")] = None
    directory_mode: Annotated[Octal | None, Field(alias="DirectoryMode")] = None
    remove_on_stop: Annotated[bool | None, Field(alias="RemoveOnStop")] = None

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """Each setting that was given, with its value as systemd.syntax(7) writes it."""
        given = self.model_dump(by_alias=True, exclude_none=True)
        return tuple(
            (name, ("yes" if value else "no") if isinstance(value, bool) else str(value))
            for name, value in given.items()
        )


class SocketTable(Table):
    """One socket that systemd listens on and hands over, in the order of the file."""

    transports: Annotated[tuple[Transport, ...], Some]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    #: Name of a Unix socket in the session's home folder.
    path: str | None = None
    #: Whether the program in the image looks for the socket by its port.
    fixed_port: bool = False
    #: Whom a vsock socket listens to: every machine's clients, or those of the machine itself.
    cid: Literal["any", "local"] = "any"
    #: FileDescriptorName= of systemd.socket(5); no colon, which separates names in LISTEN_FDNAMES.
    name: Annotated[str, allowed(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,60}", "letters, digits and '_.@-'")] | None = None
    options: SocketOptions = SocketOptions()
    #: Accept= of systemd.socket(5): whether systemd accepts clients, each for an instance of the service.
    accept: bool = False
    #: Whether clients ask here.
    probed: bool = True

    @field_validator("port")
    @classmethod
    def _for_everybody(cls, port: int | None, given: ValidationInfo) -> int | None:
        if port is not None and port < FIRST_PORT and not _as_loaded(given):
            raise ValueError(f"expected a number from {FIRST_PORT} on, got {port}: those below are for root")
        return port

    @field_validator("path")
    @classmethod
    def _in_the_home(cls, path: str | None, given: ValidationInfo) -> str | None:
        if path is not None and not re.fullmatch(_PATH, path) and not _as_loaded(given):
            raise ValueError(f"expected a file name of letters, digits and '_.-', got {shortened(path)}")
        return path

    @field_validator("accept")
    @classmethod
    def _of_units(cls, accept: bool, given: ValidationInfo) -> bool:
        if accept and not _as_loaded(given):
            raise ValueError("an image gets listening sockets; 'Accept=yes' is tested as a folder of unit files")
        return accept

    @model_validator(mode="after")
    def _address_fits(self) -> Self:
        wrong = []
        unix = Transport.UNIX in self.transports
        if len(self.transports) != 1 and (len(self.transports) != 2 or frozenset(self.transports) not in DUAL_STACK):
            wrong.append("one socket serves one transport, or 'tcp4' with 'tcp6', or 'udp4' with 'udp6'")
        if unix and (self.path is None or self.port is not None):
            wrong.append("a 'unix' socket takes 'path' and no 'port'")
        if self.fixed_port and (unix or Transport.VSOCK in self.transports):
            wrong.append("'fixed_port' is for IP sockets")
        if self.cid != "any" and self.transports != (Transport.VSOCK,):
            wrong.append("'cid' is for 'vsock' sockets")
        if not unix and (self.port is None or self.path is not None):
            wrong.append(f"a '{self.transports[0]}' socket takes 'port' and no 'path'")
        for name, _value in self.options.settings:
            if outside := sorted(set(self.transports) - _FOR.get(name, frozenset(Transport))):
                wrong.append(f"'{name}' means nothing for {', '.join(outside)}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def listener(self) -> Listener:
        """The socket as the contract numbers it; a session may have to place it elsewhere."""
        return Listener(
            self.transports,
            self.port or 0,
            self.path or "",
            self.fixed_port,
            CID_LOCAL if self.cid == "local" else CID_ANY,
            self.name or "",
            self.options.settings,
            self.probed,
        )
