"""What the kernel tells of listening sockets, and what a container's processes listen on by themselves."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from harness.activation.inside import own_listeners
from harness.core.transports import Listener, Transport
from harness.session import processes, sockets
from harness.session.session import Session
from tests.helpers.sessions import isolated

ADDRESSES = {Transport.TCP4: "127.0.0.1", Transport.TCP6: "::1", Transport.UDP4: "127.0.0.1", Transport.UDP6: "::1"}


@pytest.mark.parametrize("transport", ADDRESSES)
def test_a_socket_of_ip(transport: Transport, harness_session: Session) -> None:
    row = Listener((transport,)).endpoints[0].row
    with harness_session.socket(row.family, row.kind) as own:
        own.bind((ADDRESSES[transport], 0))
        stream = row.kind == socket.SOCK_STREAM
        if stream:
            own.listen(7)
        listener = Listener((transport,), own.getsockname()[1])
        found = sockets.of(sockets.listening(harness_session), listener)
        assert found is not None
        assert found.inode == os.fstat(own.fileno()).st_ino
        assert (found.waiting, found.backlog) == (0, 7 if stream else None)
        with harness_session.socket(row.family, row.kind) as client:
            client.connect(own.getsockname())
            client.send(b"hello")
            found = sockets.of(sockets.listening(harness_session), listener)
            assert found is not None
            assert found.waiting
    assert sockets.of(sockets.listening(harness_session), listener) is None


def test_a_unix_socket(harness_session: Session, tmp_path: Path) -> None:
    """By its path, with its queue; a client that has not been accepted waits there."""
    path = tmp_path / "s"
    with harness_session.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        own.bind(os.fspath(path))
        own.listen(3)
        with harness_session.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(os.fspath(path))
            found = sockets.of(sockets.listening(harness_session), Listener((Transport.UNIX,), path=os.fspath(path)))
    assert found is not None
    assert (found.waiting, found.backlog) == (1, 3)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
def test_a_connection_is_accepted_or_waits(address: str, harness_session: Session, tmp_path: Path) -> None:
    """By IPv4, by IPv6, by IPv4 at a socket for both, and by a Unix socket; also where it was closed again."""
    family = socket.AF_UNIX if not address else socket.AF_INET6 if ":" in address else socket.AF_INET
    with harness_session.socket(family, socket.SOCK_STREAM) as own:
        if address:
            own.bind(("::" if "ffff" in address else address, 0))
        else:
            own.bind(os.fspath(tmp_path / "s"))
        own.listen()
        where = (address.removeprefix("::ffff:"), own.getsockname()[1]) if address else own.getsockname()
        of_client = socket.AF_INET if "ffff" in address else family
        with (
            harness_session.socket(of_client, socket.SOCK_STREAM) as client,
            harness_session.socket(of_client, socket.SOCK_STREAM) as other,
        ):
            client.connect(where)
            other.connect(where)
            assert not sockets.is_accepted(harness_session, client)
            accepted, _peer = own.accept()
            assert sockets.is_accepted(harness_session, client)
            assert not sockets.is_accepted(harness_session, other)
            accepted.close()
            assert sockets.is_accepted(harness_session, client)


def test_a_connection_whose_other_end_is_not_there_yet(harness_session: Session) -> None:
    """The client is connected, and the kernel shows no other end before its first byte: nobody has accepted."""
    with harness_session.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        own.bind(("127.0.0.1", 0))
        own.listen()
        with harness_session.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect(own.getsockname())
            assert not sockets.is_accepted(harness_session, client)
            client.sendall(b"hello")
            assert not sockets.is_accepted(harness_session, client)
            with own.accept()[0]:
                assert sockets.is_accepted(harness_session, client)


def test_one_socket_for_both_families(harness_session: Session) -> None:
    both = (Transport.TCP4, Transport.TCP6)
    with harness_session.socket(socket.AF_INET6, socket.SOCK_STREAM) as own:
        own.bind(("::", 0))
        own.listen()
        listener = Listener(both, own.getsockname()[1])
        assert sockets.of(sockets.listening(harness_session), listener) is not None


def test_what_a_process_was_not_given() -> None:
    """This one listens at two addresses, of which one was given."""
    pid = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as given, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as own:
        own.bind(("::1", 9999))
        this = {pid: processes._process(pid)}
        inode = os.fstat(given.fileno()).st_ino
        found = [item for item in own_listeners(this, frozenset({inode})) if item.address.port == 9999]
        assert [str(item.address) for item in found] == ["udp [::1]:9999"]
        assert str(found[0]).endswith(") listens on udp [::1]:9999 by itself")
        port = given.getsockname()[1]
        assert f"tcp 127.0.0.1:{port}" in [str(item.address) for item in own_listeners(this, frozenset())]


@isolated
def test_other_networks_are_not_told(harness_session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        listener = Listener((Transport.TCP4,), own.getsockname()[1])
        assert sockets.of(sockets.listening(harness_session), listener) is None
