"""The table of transports agrees with itself, with systemd.socket(5), and with the clients' own spelling."""

from __future__ import annotations

import socket

import pytest

from harness.capabilities.table import TABLE
from harness.core.transports import CID_ANY, CID_LOCAL, DUAL_STACK, ROWS, Directive, Endpoint, Listener, Transport

STREAM, DATAGRAM = Directive.STREAM, Directive.DATAGRAM
PATH = "/home/harness/echo"

#: Transport -> Listen line, socat address, address for connect(2), each written out as one would by hand.
SPELLED = {
    Transport.TCP4: ("ListenStream=127.0.0.1:3000", "tcp4:127.0.0.1:3000", ("127.0.0.1", 3000)),
    Transport.TCP6: ("ListenStream=[::1]:3000", "tcp6:[::1]:3000", ("::1", 3000)),
    Transport.UDP4: ("ListenDatagram=127.0.0.1:3000", "udp4:127.0.0.1:3000", ("127.0.0.1", 3000)),
    Transport.UDP6: ("ListenDatagram=[::1]:3000", "udp6:[::1]:3000", ("::1", 3000)),
    Transport.UNIX: (f"ListenStream={PATH}", f"unix:{PATH}", PATH),
    Transport.VSOCK: ("ListenStream=vsock:4294967295:3000", "VSOCK-CONNECT:1:3000", (1, 3000)),
}

CURL = {
    Transport.TCP4: ("--ipv4", "http://127.0.0.1:3000/page"),
    Transport.TCP6: ("--ipv6", "http://[::1]:3000/page"),
    Transport.UNIX: ("--unix-socket", PATH, "http://localhost/page"),
}


def endpoint(transport: Transport) -> Endpoint:
    """Return an endpoint with the one of port and path that the transport takes."""
    return Endpoint(transport, path=PATH) if transport is Transport.UNIX else Endpoint(transport, 3000)


def listener(transport: Transport) -> Listener:
    """Return the socket behind that endpoint."""
    return Listener((transport,), path=PATH) if transport is Transport.UNIX else Listener((transport,), 3000)


@pytest.mark.parametrize("table", [ROWS, SPELLED], ids=["rows", "spelled"])
def test_every_transport_has_a_row(table: dict[Transport, object]) -> None:
    """In the same order, since that is the order of reports; the table of this test included."""
    assert list(table) == list(Transport)


@pytest.mark.parametrize("transport", Transport)
def test_a_row_takes_a_port_or_a_path(transport: Transport) -> None:
    """All layers agree on which of the two the address has, and none has both."""
    row = ROWS[transport]
    needed = "{path}" if transport is Transport.UNIX else "{port}"
    other = "{port}" if transport is Transport.UNIX else "{path}"
    templates = [row.listen, row.socat, *(["".join(row.curl)] if row.curl else [])]

    assert [template.count(needed) for template in templates] == [1] * len(templates)
    assert not any(other in template for template in templates)


@pytest.mark.parametrize("transport", Transport)
def test_the_name_says_family_and_kind(transport: Transport) -> None:
    """What a row says fits what the transport is called."""
    row = ROWS[transport]
    families = {"4": socket.AF_INET, "6": socket.AF_INET6, "x": socket.AF_UNIX, "k": socket.AF_VSOCK}

    assert row.family is families[transport[-1]]
    assert row.kind is (socket.SOCK_DGRAM if transport.startswith("udp") else socket.SOCK_STREAM)
    assert row.directive is (DATAGRAM if transport.startswith("udp") else STREAM)


@pytest.mark.parametrize("transport", Transport)
def test_a_needed_capability_is_one_that_is_known(transport: Transport) -> None:
    """A name that `harness doctor` does not know could never be asked for; IPv4 and Unix sockets need none."""
    assert ROWS[transport].capability in {"", *(row.name for row in TABLE)}
    assert bool(ROWS[transport].capability) is (transport in ("tcp6", "udp6", "vsock"))


@pytest.mark.parametrize("transport", Transport)
def test_addresses(transport: Transport) -> None:
    """Unit file, socat and connect(2), all from the same row; an endpoint is shown by its socat address."""
    line, socat, native = SPELLED[transport]

    assert listener(transport).line == line
    assert listener(transport).address == line.partition("=")[2]
    assert listener(transport).endpoints == (endpoint(transport),)
    assert endpoint(transport).socat == str(endpoint(transport)) == socat
    assert endpoint(transport).native == native
    assert endpoint(transport).datagram is line.startswith("ListenDatagram")


@pytest.mark.parametrize("transport", Transport)
def test_addresses_for_curl(transport: Transport) -> None:
    """curl(1) takes streams of IP and Unix sockets, by options and an URL; for the others there is nothing."""
    assert endpoint(transport).curl("/page") == CURL.get(transport, ())


def test_a_page_is_not_filled_in() -> None:
    """Braces in the path of a page are the page's own."""
    assert endpoint(Transport.TCP4).curl("/{port}?{x}")[-1] == "http://127.0.0.1:3000/{port}?{x}"


@pytest.mark.parametrize("pair", DUAL_STACK, ids=lambda pair: "-".join(sorted(pair)))
def test_a_dual_stack_socket_is_a_bare_port(pair: frozenset[Transport]) -> None:
    """systemd.socket(5) listens on both families for a bare port; each family has its own clients."""
    kinds = tuple(sorted(pair))
    both = Listener(kinds, 8080)

    assert both.line == f"{both.directive}=8080"
    assert both.endpoints == tuple(Endpoint(kind, 8080) for kind in kinds)
    assert {ROWS[kind].kind for kind in kinds} == {ROWS[kinds[0]].kind}
    assert {ROWS[kind].family for kind in kinds} == {socket.AF_INET, socket.AF_INET6}


@pytest.mark.parametrize("transport", [kind for kind in Transport if kind is not Transport.UNIX])
def test_no_address_leaves_the_machine(transport: Transport) -> None:
    """Clients connect to loopback addresses only; for vsock that is VMADDR_CID_LOCAL and never the host."""
    native = endpoint(transport).native

    assert native[0] in ("127.0.0.1", "::1", CID_LOCAL)
    assert str(native[0]) in endpoint(transport).socat
    assert (CID_LOCAL, CID_ANY) == (1, 2**32 - 1)


@pytest.mark.parametrize(
    "made", [Endpoint(Transport.TCP4, 1), Listener((Transport.TCP4,), 1)], ids=["endpoint", "listener"]
)
def test_an_address_does_not_change(made: Endpoint | Listener) -> None:
    """Endpoints stand in replies and in evidence, long after their session was placed elsewhere."""
    with pytest.raises(AttributeError):
        made.port = 2  # type: ignore[misc]
