"""What the tutorial says of speed: the native network over an inherited socket, the delay of the first client, pulls.

Everything is compared within one run, turn by turn; only what noise can't turn is asserted, all else is told.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping

import pytest

from harness import (
    Activated,
    Activation,
    Deadline,
    Endpoint,
    Image,
    Listener,
    ProbeFailed,
    Runtime,
    Session,
    Transport,
    Workload,
    ask_bytes,
    wait_until,
)
from suites.administration import STEP_S, unit_file
from suites.handover import REPLY_S, UNIX, Handover, ask
from suites.wire import COMMAND, Figures, measure

pytestmark = pytest.mark.harness_benchmark

NAME = "wire"

#: Turns of each kind of start; their medians are compared.
TURNS = 5

#: How many times as much as through slirp4netns the inherited socket carries at least, and how many times as fast its
#: round trips are; it was 2.5 and 2.1 and more where it was measured, also on a busy machine.
MORE = 1.5

#: The same of round trips compared with those over Podman's own relay; it was 2.4 and more.
FASTER_THAN_RELAY = 1.25

#: By how much the first client of a running service is answered faster; it was 500 times and more.
FASTER = 3

#: The inherited socket, the machine's own loopback, two published ports: one whose traffic passes through slirp4netns,
#: and one that Podman's own relay hands on, as it does by default (port_handler= in podman-run(1)).
INHERITED, LOOPBACK, PASSED, PUBLISHED = (Listener((Transport.TCP4,), port=3000 + number) for number in range(4))

WITHOUT_SOCKET = """\
[Unit]
Description=the same container, which listens by itself

[Service]
Type=notify
NotifyAccess=all
ExecStart={run}
ExecStop=podman stop --ignore {name}
ExecStopPost=podman rm --force --ignore {name}
"""

#: Tells a person and the report what was measured.
Tell = Callable[[str, object], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Tell:
    """Put a figure into the report, and before whoever watches."""

    def told(name: str, figure: object) -> None:
        # As record_property does, which warns of a schema that no tool insists on.
        request.node.user_properties.append((name, str(figure)))
        with capsys.disabled():
            print(f"\n    {name}: {figure}", end="")  # noqa: T201 - a suite that measures prints

    return told


# -- the network ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def inherited(session: Session, image: Image, activation: Activation) -> Iterator[Endpoint]:
    """Serve over a socket that systemd hands over; the first request wakes the container."""
    workload = Workload(NAME, image.reference, session.assign_addresses([INHERITED]), COMMAND)
    with activation.activate(session, workload) as activated:
        (endpoint,) = activated.workload.endpoints.values()
        ask(session, endpoint, "hello", activated)
        activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))
        yield endpoint


@contextlib.contextmanager
def listening(session: Session, image: Image, network: str, listener: Listener, port: int = 0) -> Iterator[Endpoint]:
    """Serve by a container that listens by itself, on `port` of its own network where Podman publishes that."""
    name = f"{NAME}-{listener.port}"
    (placed,) = session.assign_addresses([listener])
    options = ["--detach", "--cgroups=no-conmon", "--sdnotify=conmon"]
    options += [f"--publish=127.0.0.1:{placed.port}:{port}"] if port else []
    command = (*COMMAND, str(port or placed.port))
    workload = Workload(name, image.reference, (), command, options=(f"--network={network}",))
    run = workload.exec_start(*options)
    with unit_file(session, f"{name}.service", WITHOUT_SOCKET.format(run=run, name=name)):
        wait_until(
            lambda: session.output(f"{name}.service"),
            lambda said: "wire: listens" in said,
            Deadline.after(STEP_S),
            f"the container '{name}' to listen",
        )
        (endpoint,) = placed.endpoints
        yield endpoint


@pytest.mark.harness_verifies(
    "Traffic over an inherited socket does not pass through slirp4netns, and is the faster for it."
)
@pytest.mark.harness_requires("tun")
def test_faster_than_a_published_port(
    harness_session: Session, echo_image: Image, harness_activation: Activation, harness_runtime: Runtime, tell: Tell
) -> None:
    """The ratio to the host's own loopback is told, not asserted: within 5 % is the goal, and within the noise."""
    compared_with(harness_runtime, "slirp4netns")
    with (
        inherited(harness_session, echo_image, harness_activation) as socket,
        listening(harness_session, echo_image, "host", LOOPBACK) as plain,
        listening(harness_session, echo_image, "slirp4netns:port_handler=slirp4netns", PASSED, 3000) as passed,
        listening(harness_session, echo_image, "slirp4netns", PUBLISHED, 3000) as port,
    ):
        ways = {"inherited": socket, "loopback": plain, "slirp4netns": passed, "published": port}
        found = measure(harness_session, ways)
    for name, figures in found.items():
        tell(name, figures)
    for other in list(found)[1:]:
        told_ratios(tell, found, other)
    assert found["inherited"].speed >= MORE * found["slirp4netns"].speed, (
        f"the inherited socket carries less than {MORE} times what goes through slirp4netns: {shown(found)}"
    )
    assert found["slirp4netns"].delay >= MORE * found["inherited"].delay, (
        f"a round trip through slirp4netns takes less than {MORE} times one over the inherited socket: {shown(found)}"
    )
    assert found["published"].delay >= FASTER_THAN_RELAY * found["inherited"].delay, (
        f"a round trip over a published port takes less than {FASTER_THAN_RELAY} times one over the inherited socket: "
        f"{shown(found)}"
    )


@pytest.mark.harness_requires("tun")
def test_beside_a_port_published_through_pasta(
    harness_session: Session, echo_image: Image, harness_activation: Activation, harness_runtime: Runtime, tell: Tell
) -> None:
    """Told, not asserted: pasta hands local connections on within the kernel, see splice(2)."""
    compared_with(harness_runtime, "pasta")
    version = harness_runtime.capabilities.get("podman").version
    if tuple(map(int, version.split(".")[:2])) < (4, 4):
        pytest.skip(f"Podman {version} knows no --network=pasta; 4.4 does")
    with (
        inherited(harness_session, echo_image, harness_activation) as socket,
        listening(harness_session, echo_image, "pasta", PUBLISHED, 3000) as port,
    ):
        found = measure(harness_session, {"inherited": socket, "pasta": port})
    for name, figures in found.items():
        tell(name, figures)
    told_ratios(tell, found, "pasta")


def compared_with(runtime: Runtime, name: str) -> None:
    """Skip where there is nothing to compare with: distributions have the one or the other."""
    if not runtime.capabilities.has(name):
        pytest.skip(f"there is no program '{name}' to compare with")


def told_ratios(tell: Tell, found: Mapping[str, Figures], other: str) -> None:
    """Tell how the inherited socket compares with another way."""
    inherited, against = found["inherited"], found[other]
    tell(f"throughput, inherited / {other}", f"{inherited.speed / against.speed:.2f}")
    tell(f"round trip, inherited / {other}", f"{inherited.delay / against.delay:.2f}")


def shown(found: Mapping[str, Figures]) -> str:
    """Return the figures for a message."""
    return "; ".join(f"{name}: {figures}" for name, figures in found.items())


# -- the start --------------------------------------------------------------------------------------------------------


def first_reply_ms(activated: Activated) -> float:
    """Be the next client, and return how long its reply took, in milliseconds."""
    reply = ask_bytes(
        activated.session, activated.workload.endpoints[Transport.TCP4], b"hello\n", Deadline.after(REPLY_S)
    )
    if reply.body != b"hello\n":
        raise ProbeFailed(f"The reply was {reply.body!r}: {reply.complaint}.", evidence=activated.evidence())
    activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))
    return reply.times.whole_s * 1000


def started_reply_ms(activated: Activated) -> float:
    """Start the service explicitly and, once its program answers over another socket, be its first client over TCP."""
    activated.session.manager.start(activated.services[0], Deadline.after(STEP_S))
    ask(activated.session, activated.workload.endpoints[Transport.UNIX], "hello", activated)
    return first_reply_ms(activated)


@pytest.fixture
def many_starts(harness_session: Session) -> Iterator[None]:
    """The service may be started more often than systemd allows by default, see StartLimitBurst= in systemd.unit(5)."""
    with harness_session.drop_in("handover.service", "[Unit]\nStartLimitBurst=1000\n"):
        yield


@pytest.mark.harness_verifies(
    "The first connection is delayed by the start of the container, unless the service was started."
)
def test_an_explicit_start_takes_the_delay_away(
    many_starts: None, handover: Handover, harness_activation: Activation, tell: Tell
) -> None:
    """`systemctl --user start`: turn by turn, the first client of a sleeping service and that of a started one."""
    cold, started = [], []
    with handover.activated(harness_activation, INHERITED, UNIX) as activated:
        for _turn in range(TURNS):
            cold.append(first_reply_ms(activated))
            activated.stop_service(Deadline.after(STEP_S))
            started.append(started_reply_ms(activated))
            activated.stop_service(Deadline.after(STEP_S))
    tell("first reply, the client starts the service", milliseconds(cold))
    tell("first reply, the service was started", milliseconds(started))
    assert statistics.median(cold) >= FASTER * statistics.median(started), (
        f"the first client of a started service waits as long: {milliseconds(started)} against {milliseconds(cold)}"
    )


@pytest.mark.harness_verifies("A container answers with --pull=never as well as by the default pull policy.")
def test_pull_never_beside_missing(
    many_starts: None, handover: Handover, harness_activation: Activation, tell: Tell
) -> None:
    """Both answer; what `missing`, the default, costs where the image is there is told, and is within the noise."""
    found: dict[str, list[float]] = {"never": [], "missing": []}
    for _turn in range(TURNS):
        for policy, replies in found.items():
            with handover.activated(harness_activation, INHERITED, options=[f"--pull={policy}"]) as activated:
                replies.append(first_reply_ms(activated))
    for policy, replies in found.items():
        tell(f"first reply with --pull={policy}", milliseconds(replies))


def milliseconds(times: list[float]) -> str:
    """Return a median for a person."""
    return f"{statistics.median(times):.1f} ms (median of {len(times)})"
