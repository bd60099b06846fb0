"""What arrives in the container: exactly the sockets of the `Listen` lines, in their order, and nothing else.

See sd_listen_fds(3) for the protocol, systemd.socket(5) for the order and the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from harness import Activated, Activation, Deadline, Listener, Session, Transport
from suites.administration import STEP_S, unit_file
from suites.handover import (
    DUAL_STACK,
    NAME,
    PROGRAM,
    TCP4,
    TCP6,
    UDP4,
    UDP6,
    UNIX,
    Handover,
    ask,
    expected,
    mistakes,
    report,
)

#: runc asks systemd for a cgroup only in a login whose uid it finds in the name of a slice; a session has none.
RUNC = ("--runtime=runc", "--cgroup-manager=cgroupfs")

#: Eight sockets, no two of one address and kind, and no kind twice in a row.
EIGHT = (
    TCP4,
    UNIX,
    UDP4,
    Listener((Transport.TCP4,), port=3002),
    Listener((Transport.UDP4,), port=3001),
    Listener((Transport.UNIX,), path="handover_second_sock"),
    Listener((Transport.TCP4,), port=3001),
    Listener((Transport.UDP4,), port=3002),
)

#: Those whose sockets are in socket units, which systemd.socket(5) lets have names and settings.
by_units = pytest.mark.harness_activations("generate", "quadlet", "unit")


@pytest.mark.harness_verifies(
    "The container inherits one socket per Listen line, from descriptor 3 on, and nothing else."
)
@pytest.mark.harness_requires("ipv6_loopback")
@pytest.mark.harness_activations
def test_every_socket_arrives(handover: Handover, harness_activation: Activation) -> None:
    """The image's ENTRYPOINT, a shell that becomes the program, is between."""
    with handover.activated(harness_activation, TCP4, UDP4, TCP6, UDP6, UNIX, DUAL_STACK) as activated:
        assert_handed_over(activated)


@pytest.mark.harness_verifies("The sockets arrive without the image's ENTRYPOINT as well as with it.")
@pytest.mark.harness_activations
def test_without_the_entrypoint(handover: Handover, harness_activation: Activation) -> None:
    """`--entrypoint=`: nothing is between the OCI runtime and the program."""
    with handover.activated(
        harness_activation, TCP4, UDP4, UNIX, options=["--entrypoint="], command=PROGRAM
    ) as activated:
        assert_handed_over(activated)


@pytest.mark.harness_verifies("With --init, LISTEN_PID names the program and not the init process that starts it.")
@pytest.mark.harness_requires("catatonit")
@pytest.mark.harness_activations
def test_with_an_init_process(handover: Handover, harness_activation: Activation) -> None:
    """`podman run --init`: process 1 is catatonit, which has to hand on what was meant for it."""
    with handover.activated(harness_activation, TCP4, UDP4, UNIX, options=["--init"]) as activated:
        assert_handed_over(activated)
        assert report(activated, Transport.TCP4).pid != 1, "the program is process 1, so there was no init process"


@pytest.mark.harness_verifies("Any number of sockets arrives, by either OCI runtime.")
@pytest.mark.parametrize("count", range(1, len(EIGHT) + 1))
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--runtime=crun"], id="crun", marks=pytest.mark.harness_requires("crun")),
        pytest.param(RUNC, id="runc", marks=pytest.mark.harness_requires("runc")),
    ],
)
def test_one_to_eight_sockets(
    handover: Handover, harness_activation: Activation, options: Sequence[str], count: int
) -> None:
    """Each in its place, whatever its kind is and that of its neighbours."""
    with handover.activated(harness_activation, *EIGHT[:count], options=options) as activated:
        assert_handed_over(activated)


@pytest.mark.harness_verifies("The sockets arrive by the OCI runtime runc, however they are activated.")
@pytest.mark.harness_requires("runc")
@pytest.mark.harness_activations("generate", "launcher", "quadlet")
def test_by_runc(handover: Handover, harness_activation: Activation) -> None:
    """`podman --runtime=runc`; the hand-written unit has it with every number of sockets."""
    with handover.activated(harness_activation, TCP4, UDP4, UNIX, options=RUNC) as activated:
        assert_handed_over(activated)


@pytest.mark.harness_verifies("FileDescriptorName= of the socket unit names the sockets in the container.")
@by_units
def test_named_sockets(harness_session: Session, handover: Handover, harness_activation: Activation) -> None:
    """All sockets of a unit have the one name; without it, theirs is the unit's."""
    with (
        harness_session.drop_in(f"{NAME}.socket", "[Socket]\nFileDescriptorName=web\n"),
        handover.activated(harness_activation, TCP4, UNIX) as activated,
    ):
        assert_handed_over(activated, "web", "web")


@pytest.fixture
def two_socket_units(
    harness_session: Session, handover: Handover, harness_activation: Activation
) -> Iterator[Activated]:
    """`handover.service` with the sockets of `handover.socket`, named web, and of `handover-admin.socket`."""
    (admin,) = harness_session.assign_addresses([UNIX])
    admin_socket = f"""\
[Socket]
{admin.line}
FileDescriptorName=admin
Service={NAME}.service
"""
    with (
        harness_session.drop_in(f"{NAME}.socket", "[Socket]\nFileDescriptorName=web\n"),
        handover.activated(harness_activation, TCP4, UDP4) as activated,
        unit_file(harness_session, f"{NAME}-admin.socket", admin_socket),
    ):
        yield activated


@pytest.mark.harness_verifies(
    "A service can have sockets of several socket units, and tells them apart by their names."
)
@by_units
def test_several_socket_units(harness_session: Session, two_socket_units: Activated) -> None:
    """Between units there is no order to rely on; within one, it is that of its lines."""
    told = report(two_socket_units, Transport.TCP4)
    found: dict[str, list[str]] = {}
    for name, descriptor in zip(told.names, told.sockets, strict=True):
        found.setdefault(name, []).append(str(descriptor))
    web = [expected(listener) for listener in two_socket_units.workload.listeners]
    assert found == {"web": web, "admin": [expected(*harness_session.assign_addresses([UNIX]))]}, (
        "the names are on other sockets"
    )


@pytest.mark.harness_verifies(
    "A client of any one of the socket units wakes the service, which then answers on all of them."
)
def test_each_socket_unit_wakes_the_service(harness_session: Session, two_socket_units: Activated) -> None:
    """The first client comes to the second unit."""
    assert not two_socket_units.is_active(Transport.TCP4), "the service was awake before its first client came"
    (admin,) = harness_session.assign_addresses([UNIX])
    for endpoint in (*admin.endpoints, *two_socket_units.workload.endpoints.values()):
        assert ask(harness_session, endpoint, "hello", two_socket_units) == b"hello\n", f"the reply over {endpoint}"
    two_socket_units.wait_active(Transport.TCP4, Deadline.after(STEP_S))


def assert_handed_over(activated: Activated, *names: str) -> None:
    """Ask each container for its report, and compare it with the sockets that are its own."""
    services: dict[str, list[Listener]] = {}
    for listener in activated.workload.listeners:
        services.setdefault(activated.service_of(listener.transports[0]), []).append(listener)
    for service, listeners in services.items():
        told = report(activated, listeners[0].transports[0])
        # Unless it is told names, systemd takes the socket unit's; the launcher takes none.
        given = names or activated.sockets * len(listeners)
        found = "\n".join(mistakes(told, listeners, given))
        assert not found, f"the container of '{service}' was given something else than its sockets:\n{found}"
