"""What the container can't do, although its inherited sockets answer: reach a network, write, see other users' clients.

Everything it tries leads to the session's own loopback.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from harness import Activated, Activation, Capabilities, Deadline, Endpoint, Listener, Session, Transport, wait_until
from suites.administration import STEP_S, unit_file
from suites.handover import NAME, PROGRAM, REPLY_S, TCP4, TCP6, UDP4, UDP6, UNIX, Handover, ask, dial, read, report

IP_SOCKETS = [
    pytest.param(TCP4, id="tcp4"),
    pytest.param(UDP4, id="udp4"),
    pytest.param(TCP6, id="tcp6", marks=pytest.mark.harness_requires("ipv6_loopback")),
    pytest.param(UDP6, id="udp6", marks=pytest.mark.harness_requires("ipv6_loopback")),
]

LOOPBACKS = [
    pytest.param(socket.AF_INET, "127.0.0.1", id="ipv4"),
    pytest.param(socket.AF_INET6, "::1", id="ipv6", marks=pytest.mark.harness_requires("ipv6_loopback")),
]

#: A name that no server knows, see RFC 6761.
NO_NAME = "harness.invalid"


@contextlib.contextmanager
def neighbour(session: Session, family: int, address: str) -> Iterator[int]:
    """Listen on the session's loopback, where any of its processes could connect; return the port."""
    with session.socket(family, socket.SOCK_STREAM) as listener, session.socket(family, socket.SOCK_STREAM) as client:
        listener.bind((address, 0))
        listener.listen()
        client.settimeout(STEP_S)
        client.connect(listener.getsockname())  # else the container's failure would prove nothing
        yield listener.getsockname()[1]


def fetch(session: Session, endpoint: Endpoint, address: str) -> tuple[bytes, tuple[str | int, ...]]:
    """Ask for a report; return it and the client's own address and port, as getsockname(2) has them."""
    with session.socket(endpoint.row.family, endpoint.row.kind) as client:
        client.settimeout(REPLY_S)
        client.connect((address, endpoint.port))
        client.sendall(b"report\n")
        if endpoint.datagram:
            return client.recv(65536), client.getsockname()[:2]
        client.shutdown(socket.SHUT_WR)
        own = client.getsockname()[:2]
        return b"".join(iter(lambda: client.recv(65536), b"")), own


# -- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.harness_verifies(
    "With --network=none the container has no interface but lo, and its inherited sockets answer."
)
@pytest.mark.harness_requires("ipv6_loopback")
def test_no_interface_but_lo(harness_host: Host, handover: Handover, harness_activation: Activation) -> None:
    """Every socket answers from outside, into a network where nothing is."""
    with handover.activated(harness_activation, TCP4, UDP4, TCP6, UDP6, UNIX) as activated:
        for transport, endpoint in activated.workload.endpoints.items():
            reply = ask(activated.session, endpoint, "hello", activated)
            assert reply == b"hello\n", f"the reply over {transport}"
        activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))
        interfaces = harness_host.check_output(f"podman exec {NAME} cat /proc/net/dev").splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"], "the container's interfaces"


@pytest.mark.harness_verifies(
    "With --network=none the container reaches no server of the machine, not even on its loopback."
)
@pytest.mark.parametrize(("family", "address"), LOOPBACKS)
def test_no_way_out(handover: Handover, harness_activation: Activation, family: int, address: str) -> None:
    """A server that listens on the machine's loopback is not on the container's."""
    with (
        neighbour(handover.session, family, address) as port,
        handover.activated(harness_activation, TCP4) as activated,
    ):
        problem = dial(activated, Transport.TCP4, address, port)
        activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))
    assert problem == "ECONNREFUSED", f"the container reached {address} port {port}, which is outside of it"


@pytest.mark.harness_verifies("With --network=none the container can't resolve a name.")
def test_no_names(handover: Handover, harness_activation: Activation) -> None:
    """There is no way to a name server; one that says that there is no such name would have been reached."""
    with handover.activated(harness_activation, TCP4) as activated:
        problem = dial(activated, Transport.TCP4, NO_NAME, 80)
        activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))
    assert problem == "Temporary failure in name resolution", f"the container resolved the name '{NO_NAME}'"


@pytest.mark.harness_verifies("Over an inherited socket the container sees its client's own address and port.")
@pytest.mark.parametrize("listener", IP_SOCKETS)
def test_the_clients_address_is_preserved(
    handover: Handover, harness_activation: Activation, listener: Listener
) -> None:
    """Nothing is between the client and the socket."""
    with handover.activated(harness_activation, listener) as activated:
        (endpoint,) = activated.workload.endpoints.values()
        document, own = fetch(activated.session, endpoint, str(endpoint.native[0]))
        activated.wait_active(endpoint.transport, Deadline.after(STEP_S))
    assert read(document).peer == own, "the container sees another address than the client's own"


PUBLISHED = """\
[Unit]
Description=the same image, with a port published by Podman and no socket unit

[Service]
Type=notify
NotifyAccess=all
ExecStart=podman run --name={name} --rm --replace --pull=never --detach --cgroups=no-conmon \
--sdnotify=conmon --network=slirp4netns --publish=127.0.0.1:{port}:3000 {image} {command} 3000
ExecStop=podman stop --ignore {name}
ExecStopPost=podman rm --force --ignore {name}
"""


@pytest.mark.harness_verifies(
    "Over a port published through slirp4netns the container does not see its client's address."
)
@pytest.mark.harness_requires("tun")
def test_a_published_port_hides_the_client(
    harness_session: Session, handover: Handover, harness_capabilities: Capabilities
) -> None:
    """What the inherited socket is better than: the container sees an address of slirp4netns's network.

    No capability is required: where Podman has pasta instead, there is nothing to compare with.
    """
    slirp = harness_capabilities.get("slirp4netns")
    if not slirp.present:
        pytest.skip(f"{slirp.detail} to compare with. Hint: {slirp.hint}")
    (published,) = harness_session.assign_addresses([TCP4])
    (endpoint,) = published.endpoints
    command = " ".join(handover.command or PROGRAM)
    text = PUBLISHED.format(name=NAME, port=published.port, image=handover.image.reference, command=command)
    with unit_file(harness_session, f"{NAME}.service", text):
        wait_until(
            lambda: harness_session.output(f"{NAME}.service"),
            lambda said: "listens on port" in said,
            Deadline.after(STEP_S),
            "the container to listen by itself",
        )
        document, own = fetch(harness_session, endpoint, "127.0.0.1")
    seen = read(document).peer
    assert seen[0] != own[0], f"the container sees the client's own address {own[0]} through a published port"


# -- the rest of the machine ------------------------------------------------------------------------------------------


@pytest.mark.harness_verifies(
    "A service that may open no IP socket of its own still answers over those that it inherits."
)
@pytest.mark.harness_known_bug("crun", "1.21", issue="https://github.com/containers/crun/issues/1828")
@pytest.mark.parametrize("more", ["", "NoNewPrivileges=yes\n"], ids=["plain", "no-new-privileges"])
def test_restricted_address_families(handover: Handover, harness_activation: Activation, more: str) -> None:
    """`RestrictAddressFamilies=AF_UNIX AF_NETLINK`; Podman's user namespace has to be there already, see below.

    A session starts with `podman unshare true`: once the service runs with NoNewPrivileges=yes, which the restriction
    implies in a user's manager, newuidmap(1) could not make the namespace any more.
    """
    restricted = f"[Service]\nRestrictAddressFamilies=AF_UNIX AF_NETLINK\n{more}"
    with (
        handover.session.drop_in(f"{NAME}.service", restricted),
        handover.activated(harness_activation, TCP4, UNIX) as activated,
    ):
        for endpoint in activated.workload.endpoints.values():
            assert ask(activated.session, endpoint, "hello", activated) == b"hello\n", f"the reply over {endpoint}"
        problem = dial(activated, Transport.TCP4, "127.0.0.1", 9)
        activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))
    assert problem == "EAFNOSUPPORT", "the container could open an IP socket of its own"


@pytest.mark.harness_verifies("The container answers with a read-only root file system.")
def test_read_only_root(harness_host: Host, handover: Handover, harness_activation: Activation) -> None:
    """`podman run --read-only`: not even the container's root can write."""
    with handover.activated(harness_activation, TCP4, options=["--read-only"]) as activated:
        report(activated, Transport.TCP4)
        written = harness_host.run(f"podman exec --user=root {NAME} touch /written")
    assert "Read-only file system" in written.stderr, "the container's root file system can be written to"


# -- other users ------------------------------------------------------------------------------------------------------


def as_somebody_else(session: Session, path: str, request: bytes) -> tuple[str, str]:
    """Be a client by one of the session's subordinate ids, which has no rights over it; return reply and complaint."""
    somebody = ["podman", "unshare", "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    client = [*somebody, "socat", "-t", str(REPLY_S), "-", f"unix:{path}"]
    ended = session.run(client, stdin=request, check=False)
    return ended.stdout.decode(), ended.stderr.decode()


@contextlib.contextmanager
def socket_for(handover: Handover, activation: Activation, mode: str) -> Iterator[Activated]:
    """Let systemd listen on a Unix socket of a mode, in a folder that everybody may enter."""
    session = handover.session
    path = f"/tmp/{session.name}.sock"  # noqa: S108 - the name is the session's, and the mode is what is tested
    with (
        session.drop_in(f"{NAME}.socket", f"[Socket]\nListenStream={path}\nSocketMode={mode}\nRemoveOnStop=yes\n"),
        handover.activated(activation, TCP4) as activated,
    ):
        yield activated


@pytest.mark.harness_verifies(
    "SocketMode=0600 keeps other users of the machine from the container, and from waking it."
)
def test_the_sockets_mode_keeps_others_out(handover: Handover, harness_activation: Activation) -> None:
    """connect(2) gives EACCES to whoever may not write to the socket, see unix(7)."""
    with socket_for(handover, harness_activation, "0600") as activated:
        reply, complaint = as_somebody_else(activated.session, f"/tmp/{activated.session.name}.sock", b"hello\n")  # noqa: S108
        awake = activated.is_active(Transport.TCP4)
    assert reply == "", "another user was answered over a socket with the mode 0600"
    assert "Permission denied" in complaint, "another user was kept out by something else"
    assert not awake, "another user woke the container"


@pytest.mark.harness_verifies("SocketMode=0666, systemd's default, lets other users of the machine in.")
def test_the_sockets_mode_lets_others_in(handover: Handover, harness_activation: Activation) -> None:
    """The same client, so that it is the mode that kept it out."""
    with socket_for(handover, harness_activation, "0666") as activated:
        reply, complaint = as_somebody_else(activated.session, f"/tmp/{activated.session.name}.sock", b"hello\n")  # noqa: S108
        assert reply == "hello\n", f"the mode 0666 kept another user out: {complaint}"
        activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))
