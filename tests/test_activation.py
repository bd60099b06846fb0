"""Activations in a real session: their unit files are right, a failure names its unit, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from harness.activation import Workload, activations, launcher
from harness.deadline import Deadline, wait_until
from harness.errors import CommandError, UnitFailed, UsageError
from harness.images import Image
from harness.probes import native
from harness.session.session import Session
from harness.transports import Endpoint, Listener, Transport
from tests.sessions import over

NAME = "tested"

#: All but vsock, with a dual-stack socket.
LISTENERS = (
    Listener((Transport.TCP4, Transport.TCP6), 5000),
    Listener((Transport.UDP4,), 5000),
    Listener((Transport.UNIX,), path="tested.sock"),
)


@pytest.fixture
def workload(user_session: Session, image_of: Callable[[str], Image]) -> Workload:
    """The echo image behind sockets of its own."""
    return Workload(NAME, image_of("echo").reference, user_session.place(LISTENERS))


def left(session: Session) -> dict[str, object]:
    """Return what is in the session of the workload."""
    folders = [session.outside(path) for path in (session.paths.units, session.paths.quadlets)]
    ids = session.outside(session.paths.runtime).glob(f"{NAME}*.cid")  # Quadlet's; `podman generate` leaves its own
    containers = session.run(["podman", "ps", "--all", "--format", "{{.Names}}"]).text.split()
    listening = session.run(["ss", "-Hnltux"]).text
    found = {
        "files": sorted(file.name for folder in folders for file in folder.glob(f"{NAME}*")),
        "ids": [file.name for file in ids],
        "containers": [name for name in containers if name.startswith(NAME)],
        "failed": session.manager.failed_units(),
        "loaded": [
            unit[0]
            for unit in session.manager.call("ListUnits")[0]
            if unit[0].startswith(NAME) and unit[3] != "inactive"
        ],
        "listening": [line for line in listening.splitlines() if ":5000 " in line or "tested.sock" in line],
    }
    return {kind: things for kind, things in found.items() if things}


def ask(session: Session, endpoint: Endpoint) -> bytes:
    """Be a client."""
    return native.ask(session, endpoint, b"hello", Deadline.after(20)).body


# -- from the start to the end ----------------------------------------------------------------------------------------


@pytest.mark.activations
def test_a_life(user_session: Session, workload: Workload, way: str) -> None:
    """Asleep until the first client comes, awake for the next, asleep again; then everything is gone."""
    endpoint = workload.endpoints[Transport.TCP4]
    with activations()[way].activate(user_session, workload) as activated:
        states = []
        for _client in range(2):
            states.append(activated.awake(Transport.TCP4))
            assert ask(user_session, endpoint) == b"hello"
            activated.wait_awake(Transport.TCP4, Deadline.after(20))
            states.append(activated.awake(Transport.TCP4))
            activated.rearm(Deadline.after(20))
        states.append(activated.awake(Transport.TCP4))
        assert activated.service_of(Transport.UDP4) in activated.services
        assert left(user_session)

    assert states == [False, True, False, True, False]
    assert left(user_session) == {}


@pytest.mark.activations
def test_listening_wakes_nobody(user_session: Session, workload: Workload, way: str) -> None:
    """Systemd has every socket before any client comes, and no container runs for that."""
    with activations()[way].activate(user_session, workload) as activated:
        assert [activated.awake(transport) for transport in workload.endpoints] == [False] * 4
        listening = user_session.run(["ss", "-Hnltux"]).text
        assert listening.count(":5000 ") == 2
        assert listening.count("/tested.sock ") == 1
        assert user_session.run(["podman", "ps", "--format", "{{.Names}}"]).text.split() == []


# -- unit files -------------------------------------------------------------------------------------------------------


@pytest.mark.activations("generate", "unit")
def test_unit_files_are_right(user_session: Session, workload: Workload, way: str) -> None:
    """systemd itself has nothing to say against them, and they are what the session has."""
    with activations()[way].activate(user_session, workload) as activated:
        paths = [f"{user_session.paths.units}/{name}" for name in activated.files]
        for path, text in zip(paths, activated.files.values(), strict=True):
            assert user_session.run(["cat", path]).text == text
        said = user_session.run(["systemd-analyze", "--user", "verify", *paths], check=False)

    assert (said.status, said.stdout + said.stderr) == (0, b"")
    assert list(activated.files) == [f"{NAME}.socket", f"{NAME}.service"]


def test_verifying_would_find_a_mistake(user_session: Session) -> None:
    """Otherwise the test above would say nothing."""
    path = f"{user_session.paths.units}/wrong.service"
    user_session.write(path, "[Service]\nExecStart=/nowhere/program\nNonsense=1\n")
    said = user_session.run(["systemd-analyze", "--user", "verify", path], check=False)
    user_session.remove(path)

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


@pytest.mark.activations
@over("tcp4", "udp4", "unix")
def test_an_address_in_use(user_session: Session, workload: Workload, way: str, transport: Transport) -> None:
    """The unit that could not listen is named, with systemd's reason; then nothing is left."""
    path, port = ("taken", 0) if transport is Transport.UNIX else ("", 5000)
    (listener,) = user_session.place([Listener((transport,), port, path)])
    alone = replace(workload, listeners=(listener,))
    with (
        taken(user_session, listener),
        pytest.raises(UnitFailed) as caught,
        activations()[way].activate(user_session, alone),
    ):
        pytest.fail("the address was in use")

    kind = "datagram" if transport is Transport.UDP4 else "stream"
    assert caught.value.unit == (f"{NAME}-{kind}.service" if way == "launcher" else f"{NAME}.socket")
    assert f"'{caught.value.unit}' failed" in caught.value.sentence
    assert "Address already in use" in str(caught.value)
    assert left(user_session) == {}


def test_a_launcher_that_cannot_start(
    user_session: Session, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named like any other unit that fails, with systemd's words."""
    monkeypatch.setattr(launcher, "_PROGRAM", "/nowhere/program")
    with pytest.raises(UnitFailed) as caught, activations()["launcher"].activate(user_session, workload):
        pytest.fail("it was started")

    assert caught.value.unit == f"{NAME}-stream.service"
    assert "/nowhere/program: No such file or directory" in str(caught.value)
    assert left(user_session) == {}


def be_a_client_and_raise(way: str, session: Session, workload: Workload) -> None:
    """Wake the service, then fail as a test does."""
    with activations()[way].activate(session, workload):
        assert ask(session, workload.endpoints[Transport.UDP4]) == b"hello"
        raise KeyError("mine")


@pytest.mark.activations
def test_an_error_while_it_runs(user_session: Session, workload: Workload, way: str) -> None:
    """What a test raises goes through, and a container that runs is taken away all the same."""
    with pytest.raises(KeyError, match="mine"):
        be_a_client_and_raise(way, user_session, workload)

    assert left(user_session) == {}


def be_a_client_in_vain(way: str, session: Session, workload: Workload) -> None:
    """Get no reply, and then the reason."""
    with activations()[way].activate(session, workload) as activated:
        assert ask(session, workload.endpoints[Transport.TCP4]) == b""
        unit = activated.service_of(Transport.TCP4)
        # The client may know of the end before systemd does.
        wait_until(
            lambda: activated.state(unit)["Result"], lambda told: told != "success", Deadline.after(20), "a result"
        )
        activated.wait_awake(Transport.TCP4, Deadline.after(20))


@pytest.mark.activations
def test_an_image_that_is_not_there(user_session: Session, workload: Workload, way: str) -> None:
    """Nothing is pulled: it fails when podman is first asked, with podman's words, and nothing is left."""
    image = "localhost/harness-tests/nothing:none"
    with pytest.raises(CommandError if way == "generate" else UnitFailed) as caught:
        be_a_client_in_vain(way, user_session, replace(workload, image=image))

    assert f"{image}: image not known" in str(caught.value)
    assert left(user_session) == {}


@pytest.mark.activations
def test_two_workloads_beside_each_other(user_session: Session, workload: Workload, way: str) -> None:
    """The end of one leaves the other alone."""
    listeners = user_session.place([Listener((Transport.TCP4,), 5001)])
    first, other = replace(workload, name=f"{NAME}-a"), replace(workload, name=f"{NAME}-b", listeners=listeners)
    with activations()[way].activate(user_session, other):
        with activations()[way].activate(user_session, first):
            assert ask(user_session, first.endpoints[Transport.TCP4]) == b"hello"
        assert ask(user_session, other.endpoints[Transport.TCP4]) == b"hello"

    assert left(user_session) == {}


@pytest.mark.activations("generate", "quadlet", "unit")
def test_a_name_that_the_session_has_itself(user_session: Session, workload: Workload, way: str) -> None:
    """The session's own D-Bus is not hidden by a contract of its name, and nothing is written."""
    with (
        pytest.raises(UsageError, match=r"has a unit 'dbus\.socket' of its own, '/.*dbus\.socket'"),
        activations()[way].activate(user_session, replace(workload, name="dbus")),
    ):
        pytest.fail("it was activated")
    assert not user_session.outside(f"{user_session.paths.units}/dbus.socket").exists()
