"""Activations in a real session: their unit files are right, a failure names its unit, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from harness.activation import Workload, activations, launcher
from harness.activation.base import quote
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import CommandError, UnitFailed, UsageError
from harness.core.transports import Endpoint, Listener, Transport
from harness.images.store import Image
from harness.probes import native
from harness.session.session import Session
from tests.helpers.sessions import over
from tests.helpers.workloads import ARGUMENTS, NAME, left

#: All but vsock, with a dual-stack socket.
LISTENERS = (
    Listener((Transport.TCP4, Transport.TCP6), 5000),
    Listener((Transport.UDP4,), 5000),
    Listener((Transport.UNIX,), path="tested.sock"),
)


@pytest.fixture
def workload(harness_session: Session, echo_image: Image) -> Workload:
    """The echo image behind sockets of its own."""
    return Workload(NAME, echo_image.reference, harness_session.assign_addresses(LISTENERS))


def ask(session: Session, endpoint: Endpoint) -> bytes:
    """Be a client."""
    return native.ask(session, endpoint, b"hello", Deadline.after(20)).body


# -- from the start to the end ----------------------------------------------------------------------------------------


@pytest.mark.harness_activations
def test_a_life(harness_session: Session, workload: Workload, harness_activation_name: str) -> None:
    """Asleep until the first client comes, awake for the next, asleep again; then everything is gone."""
    endpoint = workload.endpoints[Transport.TCP4]
    with activations()[harness_activation_name].activate(harness_session, workload) as activated:
        states = []
        for _client in range(2):
            states.append(activated.is_active(Transport.TCP4))
            assert ask(harness_session, endpoint) == b"hello"
            activated.wait_active(Transport.TCP4, Deadline.after(20))
            states.append(activated.is_active(Transport.TCP4))
            activated.stop_service(Deadline.after(20))
        states.append(activated.is_active(Transport.TCP4))
        assert activated.service_of(Transport.UDP4) in activated.services
        assert left(harness_session)

    assert states == [False, True, False, True, False]
    assert left(harness_session) == {}


@pytest.mark.harness_activations
def test_listening_wakes_nobody(harness_session: Session, workload: Workload, harness_activation_name: str) -> None:
    """Systemd has every socket before any client comes, and no container runs for that."""
    with activations()[harness_activation_name].activate(harness_session, workload) as activated:
        assert [activated.is_active(transport) for transport in workload.endpoints] == [False] * 4
        listening = harness_session.run(["ss", "-Hnltux"]).text
        assert listening.count(":5000 ") == 2
        assert listening.count("/tested.sock ") == 1
        assert harness_session.run(["podman", "ps", "--format", "{{.Names}}"]).text.split() == []


# -- unit files -------------------------------------------------------------------------------------------------------


@pytest.mark.harness_activations("generate", "unit")
def test_unit_files_are_right(harness_session: Session, workload: Workload, harness_activation_name: str) -> None:
    """systemd itself has nothing to say against them, and they are what the session has."""
    with activations()[harness_activation_name].activate(harness_session, workload) as activated:
        paths = [f"{harness_session.paths.units}/{name}" for name in activated.files]
        for path, text in zip(paths, activated.files.values(), strict=True):
            assert harness_session.run(["cat", path]).text == text
        said = harness_session.run(["systemd-analyze", "--user", "verify", "--man=no", *paths], check=False)

    assert (said.status, said.stdout + said.stderr) == (0, b"")
    assert list(activated.files) == [f"{NAME}.socket", f"{NAME}.service"]


def test_verifying_would_find_a_mistake(harness_session: Session) -> None:
    """Otherwise the test above would say nothing."""
    path = f"{harness_session.paths.units}/wrong.service"
    harness_session.write(path, "[Service]\nExecStart=/nowhere/program\nNonsense=1\n")
    said = harness_session.run(["systemd-analyze", "--user", "verify", "--man=no", path], check=False)
    harness_session.remove(path)

    assert b"Nonsense" in said.stderr
    assert said.status != 0


# -- failures ---------------------------------------------------------------------------------------------------------


@contextmanager
def taken(session: Session, listener: Listener) -> Iterator[None]:
    """Be in the way of whoever wants to listen there."""
    endpoint = listener.endpoints[0]
    if endpoint.path:
        # A folder: the file of an old socket would be no obstacle, systemd takes its place.
        session.run(["mkdir", "-p", f"{endpoint.path}/x"])
        yield
        session.run(["rm", "-r", endpoint.path])
        return
    with session.socket(endpoint.row.family, endpoint.row.kind) as bound:
        bound.bind(endpoint.native)
        if not endpoint.datagram:
            bound.listen()
        yield


@pytest.mark.harness_activations
@over("tcp4", "udp4", "unix")
def test_an_address_in_use(
    harness_session: Session, workload: Workload, harness_activation_name: str, transport: Transport
) -> None:
    """The unit that could not listen is named, with systemd's reason; then nothing is left."""
    path, port = ("taken", 0) if transport is Transport.UNIX else ("", 5000)
    (listener,) = harness_session.assign_addresses([Listener((transport,), port, path)])
    alone = replace(workload, listeners=(listener,))
    with (
        taken(harness_session, listener),
        pytest.raises(UnitFailed) as caught,
        activations()[harness_activation_name].activate(harness_session, alone),
    ):
        pytest.fail("the address was in use")

    kind = "datagram" if transport is Transport.UDP4 else "stream"
    assert caught.value.unit == (
        f"{NAME}-{kind}.service" if harness_activation_name == "launcher" else f"{NAME}.socket"
    )
    assert f"'{caught.value.unit}' failed" in caught.value.sentence
    assert "Address already in use" in str(caught.value)
    assert left(harness_session) == {}


def test_a_launcher_that_cannot_start(
    harness_session: Session, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named like any other unit that fails, with systemd's words."""
    monkeypatch.setattr(launcher, "_PROGRAM", "/nowhere/program")
    with pytest.raises(UnitFailed) as caught, activations()["launcher"].activate(harness_session, workload):
        pytest.fail("it was started")

    assert caught.value.unit == f"{NAME}-stream.service"
    assert "/nowhere/program: No such file or directory" in str(caught.value)
    assert left(harness_session) == {}


def be_a_client_and_raise(way: str, session: Session, workload: Workload) -> None:
    """Wake the service, then fail as a test does."""
    with activations()[way].activate(session, workload):
        assert ask(session, workload.endpoints[Transport.UDP4]) == b"hello"
        raise KeyError("mine")


@pytest.mark.harness_activations
def test_an_error_while_it_runs(harness_session: Session, workload: Workload, harness_activation_name: str) -> None:
    """What a test raises goes through, and a container that runs is taken away all the same."""
    with pytest.raises(KeyError, match="mine"):
        be_a_client_and_raise(harness_activation_name, harness_session, workload)

    assert left(harness_session) == {}


def be_a_client_in_vain(way: str, session: Session, workload: Workload) -> None:
    """Get no reply, and then the reason."""
    with activations()[way].activate(session, workload) as activated:
        assert ask(session, workload.endpoints[Transport.TCP4]) == b""
        unit = activated.service_of(Transport.TCP4)
        # The client may know of the end before systemd does.
        wait_until(
            lambda: activated.state(unit)["Result"], lambda told: told != "success", Deadline.after(20), "a result"
        )
        activated.wait_active(Transport.TCP4, Deadline.after(20))


@pytest.mark.harness_activations
def test_an_image_that_is_not_there(harness_session: Session, workload: Workload, harness_activation_name: str) -> None:
    """Nothing is pulled: it fails when podman is first asked, with podman's words, and nothing is left."""
    image = "localhost/harness-tests/nothing:none"
    with pytest.raises(CommandError if harness_activation_name == "generate" else UnitFailed) as caught:
        be_a_client_in_vain(harness_activation_name, harness_session, replace(workload, image=image))

    assert f"{image}: image not known" in str(caught.value)
    assert left(harness_session) == {}


@pytest.mark.harness_activations
def test_two_workloads_beside_each_other(
    harness_session: Session, workload: Workload, harness_activation_name: str
) -> None:
    """The end of one leaves the other alone."""
    listeners = harness_session.assign_addresses([Listener((Transport.TCP4,), 5001)])
    first, other = replace(workload, name=f"{NAME}-a"), replace(workload, name=f"{NAME}-b", listeners=listeners)
    with activations()[harness_activation_name].activate(harness_session, other):
        with activations()[harness_activation_name].activate(harness_session, first):
            assert ask(harness_session, first.endpoints[Transport.TCP4]) == b"hello"
        assert ask(harness_session, other.endpoints[Transport.TCP4]) == b"hello"

    assert left(harness_session) == {}


@pytest.mark.harness_activations("generate", "quadlet", "unit")
def test_a_name_that_the_session_has_itself(
    harness_session: Session, workload: Workload, harness_activation_name: str
) -> None:
    """The session's own D-Bus is not hidden by a contract of its name, and nothing is written."""
    with (
        pytest.raises(UsageError, match=r"has a unit 'dbus\.socket' of its own, '/.*dbus\.socket'"),
        activations()[harness_activation_name].activate(harness_session, replace(workload, name="dbus")),
    ):
        pytest.fail("it was activated")
    assert not harness_session.outside(f"{harness_session.paths.units}/dbus.socket").exists()


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_systemd_gives_back_what_was_quoted(harness_session: Session, kind: str) -> None:
    """A real service prints its arguments, each with a NUL behind it: the very same bytes, in its own place."""
    arguments = ["/usr/bin/printf", r"%s\0", "before", ARGUMENTS[kind], "after"]
    path = f"{harness_session.paths.units}/quoted.service"
    line = " ".join(quote(argument) for argument in arguments)
    harness_session.write(path, f"[Service]\nType=oneshot\nExecStart={line}\n")
    harness_session.capture("quoted.service")
    try:
        harness_session.manager.reload()
        harness_session.manager.start("quoted.service", Deadline.after(10))
        # As bytes: reading text makes one thing of all line breaks.
        output = harness_session.outside(f"{harness_session.paths.output}/quoted.service.log").read_bytes()
    finally:
        harness_session.remove(path)
        harness_session.manager.reset_failed()
        harness_session.manager.reload()

    assert output.decode().split("\0")[:-1] == arguments[2:]
