"""The tutorial's first example, step by step: the echo server container in a systemd service, or in one by Quadlet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

from harness import Client, Deadline, Endpoint, Image, Listener, Runtime, Session, Transport, ask_bytes

pytestmark = pytest.mark.harness_activations("generate", "quadlet")

#: How long the first reply may take, in seconds; the container has to start for it.
COLD_S = 15

#: The sockets of the tutorial's echo.socket, in its order, and its socat address of each.
SOCKETS = {
    "tcp4:127.0.0.1:3000": Listener((Transport.TCP4,), port=3000),
    "udp4:127.0.0.1:3000": Listener((Transport.UDP4,), port=3000),
    "tcp6:[::1]:3000": Listener((Transport.TCP6,), port=3000),
    "udp6:[::1]:3000": Listener((Transport.UDP6,), port=3000),
    "unix:$HOME/echo_stream_sock": Listener((Transport.UNIX,), path="echo_stream_sock"),
    "VSOCK-CONNECT:1:3000": Listener((Transport.VSOCK,), port=3000),
}

ECHO_SOCKET = """\
[Unit]
Description=echo server

[Socket]
{listen}

[Install]
WantedBy=default.target
"""


#: Where Quadlet finds it below the home folder, see podman-systemd.unit(5).
CONTAINER_FILE = ".config/containers/systemd/echo.container"

#: For Quadlet, which the tutorial's newer text has in place of `podman generate systemd`.
ECHO_CONTAINER = """\
[Unit]
Requires=echo.socket
After=echo.socket

[Container]
Image={image}
ContainerName=echo
Network=none
"""


@pytest.fixture
def listeners(harness_session: Session, harness_runtime: Runtime) -> tuple[Listener, ...]:
    """The tutorial's sockets that clients of this machine can reach; its ports, where the network is the session's."""
    wanted = [item for item in SOCKETS.values() if not harness_runtime.lacking.intersection(item.transports)]
    return harness_session.assign_addresses(wanted)


@pytest.fixture
def echo_socket(
    harness_activation_name: str,
    harness_session: Session,
    harness_host: Host,
    echo_image: Image,
    listeners: tuple[Listener, ...],
) -> Iterator[str]:
    """The tutorial up to `systemctl --user start echo.socket`; taken away afterwards. Returns the socket unit."""
    home = harness_session.paths.home
    harness_session.capture("echo.service")
    try:
        if harness_activation_name == "quadlet":
            harness_session.write(f"{home}/{CONTAINER_FILE}", ECHO_CONTAINER.format(image=echo_image.reference))
        else:
            harness_host.check_output(f"podman create --rm --name echo --network none {echo_image.reference}")
            harness_host.check_output("mkdir -p ~/.config/systemd/user")
            harness_host.check_output("podman generate systemd --name --new echo > ~/.config/systemd/user/echo.service")
        # %h is a systemd specifier that expands to the user's home directory.
        text = ECHO_SOCKET.format(listen="\n".join(listener.line for listener in listeners)).replace(home, "%h")
        harness_session.write(f"{home}/.config/systemd/user/echo.socket", text)
        harness_host.check_output("systemctl --user daemon-reload")
        harness_host.check_output("systemctl --user start echo.socket")
        yield text
    finally:
        if not harness_session.kept:
            harness_host.run("systemctl --user disable echo.socket")
            harness_host.run("systemctl --user stop echo.socket echo.service")
            harness_host.run("rm -f ~/.config/systemd/user/echo.socket ~/.config/systemd/user/echo.service")
            harness_host.run(f"rm -f ~/{CONTAINER_FILE}")
            harness_host.run("podman rm --force --ignore echo")
            harness_host.run("systemctl --user daemon-reload")
            harness_host.run("systemctl --user reset-failed")


@pytest.mark.harness_verifies(
    "`podman generate systemd` and a socket unit make a socket-activated service of a container."
)
@pytest.mark.harness_verifies(
    "The echo server replies hello over every socket of its unit: TCP and UDP, IPv4 and IPv6, Unix."
)
def test_echo_answers_on_every_socket(
    harness_session: Session, echo_socket: str, listeners: tuple[Listener, ...]
) -> None:
    """`echo hello | socat - ADDRESS` prints hello, for each address of the tutorial."""
    for listener in listeners:
        (endpoint,) = listener.endpoints
        reply = ask_bytes(harness_session, endpoint, b"hello\n", Deadline.after(COLD_S), Client.SOCAT)
        assert reply.body == b"hello\n", f"{reply.reproducer}\n{harness_session.output('echo.service')}"


@pytest.mark.harness_verifies("A `.container` file for Quadlet and a socket unit make a socket-activated service, too.")
@pytest.mark.harness_activations("quadlet")
def test_a_container_file_becomes_a_service(
    harness_session: Session, harness_host: Host, echo_socket: str, listeners: tuple[Listener, ...]
) -> None:
    """`systemctl --user daemon-reload` is all that it takes: nobody has made a container or a service by hand."""
    assert harness_host.check_output("podman ps --all --quiet") == ""
    shown = harness_host.check_output("systemctl --user show --property=SourcePath --value echo.service")
    assert shown == f"{harness_session.paths.home}/{CONTAINER_FILE}"
    (endpoint,) = listeners[0].endpoints
    reply = ask_bytes(harness_session, endpoint, b"hello\n", Deadline.after(COLD_S), Client.SOCAT)
    assert reply.body == b"hello\n", f"{reply.reproducer}\n{harness_session.output('echo.service')}"


@pytest.mark.harness_verifies("A vsock socket is activated like the others: socat reaches it as VSOCK-CONNECT:1:3000.")
@pytest.mark.harness_requires("vsock_loopback")
def test_the_tutorials_unit_has_six_sockets_with_vsock(
    harness_session: Session, echo_socket: str, listeners: tuple[Listener, ...]
) -> None:
    """All six `Listen` lines on one unit: the sixth, `echo hello | socat - VSOCK-CONNECT:1:3000`, wakes it for all."""
    assert len([line for line in echo_socket.splitlines() if line.startswith("Listen")]) == len(SOCKETS)
    for listener in reversed(listeners):
        (endpoint,) = listener.endpoints
        reply = ask_bytes(harness_session, endpoint, b"hello\n", Deadline.after(COLD_S), Client.SOCAT)
        assert reply.body == b"hello\n", f"{reply.reproducer}\n{harness_session.output('echo.service')}"


@pytest.mark.harness_verifies(
    "systemd listens, and starts the service, which inherits the socket, for the first client."
)
def test_the_first_client_starts_the_service(
    harness_session: Session, harness_host: Host, echo_socket: str, listeners: tuple[Listener, ...]
) -> None:
    """Before the first client the service is inactive and there is no container; after it, both are there."""
    assert harness_host.run("systemctl --user is-active echo.socket").stdout == "active\n"
    assert harness_host.run("systemctl --user is-active echo.service").stdout == "inactive\n"
    assert harness_host.check_output("podman ps --quiet") == ""

    (endpoint,) = listeners[0].endpoints
    reply = ask_bytes(harness_session, endpoint, b"hello\n", Deadline.after(COLD_S), Client.SOCAT)
    assert reply.body == b"hello\n", f"{reply.reproducer}\n{harness_session.output('echo.service')}"

    harness_session.manager.start("echo.service", Deadline.after(COLD_S))  # joins the start that the client caused
    assert harness_host.run("systemctl --user is-active echo.service").stdout == "active\n"
    assert harness_host.check_output("podman ps --format '{{.Names}}'") == "echo"


@pytest.mark.harness_verifies(
    "With --network=none the container has no interface but lo, and its inherited sockets answer."
)
def test_the_container_has_no_network(harness_session: Session, harness_host: Host, echo_socket: str) -> None:
    """`--network none`: the container sees no interface but `lo`, and yet its inherited sockets answer."""
    harness_host.check_output("systemctl --user start echo.service")
    assert harness_host.check_output("podman inspect --format '{{.HostConfig.NetworkMode}}' echo") == "none"
    interfaces = harness_host.check_output("podman exec echo cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


@pytest.mark.harness_verifies("The socket unit can be enabled for every login, by WantedBy=default.target.")
def test_the_socket_unit_can_be_enabled(harness_host: Host, echo_socket: str) -> None:
    """`[Install] WantedBy=default.target`: enabled, the socket listens from the next login on."""
    harness_host.check_output("systemctl --user enable echo.socket")
    assert harness_host.run("systemctl --user is-enabled echo.socket").stdout == "enabled\n"
    assert (
        "echo.socket" in harness_host.check_output("systemctl --user list-dependencies --plain default.target").split()
    )


@pytest.mark.harness_verifies("%h in a socket unit is the user's home directory.")
def test_the_addresses_are_the_tutorials(harness_session: Session, listeners: tuple[Listener, ...]) -> None:
    """The socat addresses are the tutorial's to the letter, but for ports that are not the session's own to choose."""
    placed = {endpoint(item).transport: endpoint(item) for item in listeners}
    for address, item in SOCKETS.items():
        (transport,) = item.transports
        if transport not in placed:
            continue
        # No namespace keeps vsock ports apart, and an ordinary user's session shares the machine's network.
        own_port = harness_session.own_network and transport is not Transport.VSOCK
        port = 3000 if own_port else placed[transport].port
        expected = address.replace("$HOME", harness_session.paths.home).replace(":3000", f":{port}")
        assert placed[transport].socat == expected


def endpoint(listener: Listener) -> Endpoint:
    """Return the one endpoint of a listener."""
    (only,) = listener.endpoints
    return only
