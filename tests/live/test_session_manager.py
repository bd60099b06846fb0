"""Talking to the session's `systemd --user`: states, jobs that fail or take too long, unknown units, its end."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from jeepney import Message

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, SessionError, UnitFailed, WaitTimeout
from harness.core.transports import Endpoint, Transport
from harness.probes import native
from harness.runtime.runtime import Runtime
from harness.session.manager import Manager, NoSuchUnit
from harness.session.session import Session
from tests.helpers.sessions import opened

LIMIT_S = 10.0


def soon() -> Deadline:
    """Return a deadline that no test should reach."""
    return Deadline.after(LIMIT_S)


@pytest.fixture
def manager(harness_session: Session) -> Manager:
    """The manager of the shared session."""
    return harness_session.manager


@pytest.fixture
def unit(harness_session: Session) -> Iterator[Callable[[str], str]]:
    """Write the service `tested.service` with the lines of its [Service] section; it is gone after the test."""
    name = "tested.service"
    path = f"{harness_session.paths.units}/{name}"

    def write(lines: str) -> str:
        harness_session.write(path, f"[Service]\n{lines}\n")
        harness_session.manager.reload()
        return name

    yield write
    harness_session.manager.stop(name, soon())
    harness_session.remove(path)
    harness_session.manager.reset_failed()
    harness_session.manager.reload()


# -- starting and stopping --------------------------------------------------------------------------------------------


def test_a_service_from_start_to_end(manager: Manager, unit: Callable[[str], str]) -> None:
    """Each call comes back when its job is done."""
    name = unit("ExecStart=/bin/sleep 100")
    assert manager.state(name) == {"ActiveState": "inactive", "SubState": "dead", "Result": "success"}
    manager.start(name, soon())
    assert manager.state(name) == {"ActiveState": "active", "SubState": "running", "Result": "success"}
    assert manager.properties(name)["MainPID"] > 1
    manager.start(name, soon())
    manager.stop(name, soon())
    assert manager.state(name)["ActiveState"] == "inactive"
    manager.stop(name, soon())


def test_a_reload_reads_the_files_again(manager: Manager, harness_session: Session, unit: Callable[[str], str]) -> None:
    """A unit that runs is what its file said when it was read, until the reload."""
    name = unit("ExecStart=/bin/sleep 100")
    manager.start(name, soon())
    harness_session.write(f"{harness_session.paths.units}/{name}", "[Service]\nExecStart=/bin/sleep 200\n")
    before = manager.properties(name)["ExecStart"][0][1]
    manager.reload()

    assert (before, manager.properties(name)["ExecStart"][0][1]) == (["/bin/sleep", "100"], ["/bin/sleep", "200"])


def test_a_unit_that_fails(manager: Manager, unit: Callable[[str], str]) -> None:
    """The error has the job's result and systemd's own words; the failure is there until it is forgotten."""
    name = unit("Type=oneshot\nExecStart=/bin/false")
    with pytest.raises(UnitFailed) as caught:
        manager.start(name, soon())

    assert caught.value.unit == name
    assert caught.value.properties == {
        "job": "failed",
        "ActiveState": "failed",
        "SubState": "failed",
        "Result": "exit-code",
    }
    assert caught.value.blame is Blame.UNKNOWN
    assert name in manager.failed_units()
    manager.reset_failed()
    assert name not in manager.failed_units()


def test_a_start_that_takes_too_long(manager: Manager, unit: Callable[[str], str]) -> None:
    """The wait ends at the deadline and says in which state the unit is."""
    name = unit("Type=oneshot\nExecStart=/bin/sleep 100")
    started = time.monotonic()
    with pytest.raises(WaitTimeout) as caught:
        manager.start(name, Deadline.after(0.3))

    assert 0.3 <= time.monotonic() - started < LIMIT_S / 2
    assert caught.value.awaited == f"the job of '{name}'"
    assert isinstance(caught.value.seen, dict)
    assert caught.value.seen["ActiveState"] == "activating"


def test_a_result_left_over_is_nobody_elses(manager: Manager, unit: Callable[[str], str]) -> None:
    """The end of a job that was given up on does not end the wait for the next one."""
    name = unit("Type=oneshot\nExecStart=/bin/sleep 0.5")
    with pytest.raises(WaitTimeout):
        manager.start(name, Deadline.after(0.05))
    wait_until(lambda: manager.state(name)["SubState"], lambda state: state == "dead", soon(), "the end")
    unit("Type=oneshot\nExecStart=/bin/false")
    with pytest.raises(UnitFailed):
        manager.start(name, soon())


def test_a_signal(manager: Manager, unit: Callable[[str], str]) -> None:
    """It reaches every process of the unit."""
    name = unit("ExecStart=/bin/sleep 100")
    manager.start(name, soon())
    manager.kill(name, signal.SIGKILL)
    state = wait_until(lambda: manager.state(name), lambda seen: seen["ActiveState"] == "failed", soon(), "the end")

    assert state["Result"] == "signal"


def test_a_unit_without_a_file(manager: Manager, harness_session: Session) -> None:
    """It is made with its properties, and gone with its process."""
    properties = {
        "Type": ("s", "exec"),
        "ExecStart": ("a(sasb)", [("/bin/sh", ["/bin/sh", "-c", "echo it runs; exec sleep 100"], False)]),
    }
    name = "transient.service"
    harness_session.capture(name)
    manager.start_transient(name, list(properties.items()), soon())

    assert manager.state(name)["ActiveState"] == "active"
    wait_until(lambda: harness_session.output(name), lambda said: said == "it runs\n", soon(), "its output")
    with pytest.raises(SessionError, match="already"):
        manager.start_transient(name, list(properties.items()), soon())
    manager.stop(name, soon())
    with pytest.raises(NoSuchUnit, match=name):
        manager.state(name)


# -- what is not there ------------------------------------------------------------------------------------------------


def test_a_unit_that_nobody_knows(manager: Manager) -> None:
    """Starting or killing it is an error of its own; stopping it is done already."""
    with pytest.raises(NoSuchUnit, match=r"Unit unknown\.service not found"):
        manager.start("unknown.service", soon())
    with pytest.raises(NoSuchUnit):
        manager.kill("unknown.service", signal.SIGTERM)
    manager.stop("unknown.service", soon())


@pytest.mark.parametrize("ask", [Manager.properties, Manager.state], ids=["properties", "state"])
def test_what_nobody_knows_has_no_state(manager: Manager, ask: Callable[[Manager, str], object]) -> None:
    """A misspelt name must not look like a unit at rest."""
    with pytest.raises(NoSuchUnit):
        ask(manager, "unknown.service")


@pytest.mark.parametrize("name", ["no ending", "a/b.service"])
def test_what_is_no_unit_at_all(manager: Manager, name: str) -> None:
    """systemd's own words, and the connection still stands."""
    with pytest.raises(SessionError, match=r"systemd refused a call: .*not valid"):
        manager.properties(name)
    assert manager.state("basic.target")["ActiveState"] == "active"


def test_a_call_that_nobody_knows(manager: Manager) -> None:
    """Likewise."""
    with pytest.raises(SessionError, match="UnknownMethod"):
        manager.call("Nonsense")


@pytest.mark.parametrize(("name", "key"), [("basic.target", "Wants"), ("dbus.socket", "Listen")])
def test_properties_of_each_type(manager: Manager, name: str, key: str) -> None:
    """Those of all units and those of the unit's own type."""
    found = manager.properties(name)

    assert (found["Id"], found["ActiveState"]) == (name, "active")
    assert key in found
    assert manager.state(name).keys() == {"ActiveState", "SubState", *({"Result"} & found.keys())}


# -- its end ----------------------------------------------------------------------------------------------------------


def test_a_manager_that_has_ended(harness_runtime: Runtime) -> None:
    """A call into a session that is no more says so."""
    with opened(harness_runtime.store) as session:
        session.run(["systemctl", "--user", "exit"], check=False)
        time.sleep(0.3)
        with pytest.raises(SessionError, match="has ended"):
            session.manager.state("basic.target")


def test_a_manager_that_ends_during_a_call(harness_runtime: Runtime) -> None:
    """The wait ends with it."""
    with opened(harness_runtime.store) as session:
        session.write(f"{session.paths.units}/end.service", "[Service]\nType=oneshot\nExecStart=/bin/kill -9 $PPID\n")
        session.write(
            f"{session.paths.units}/end.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'kill -9 $$PPID'\n"
        )
        session.manager.reload()
        with pytest.raises(SessionError, match="the session has ended"):
            session.manager.start("end.service", soon())


# -- several at once --------------------------------------------------------------------------------------------------

#: A service with two sockets, in the order in which they are stopped.
NEEDY = ("needy-1.socket", "needy-2.socket", "needy.service")


def stop_in_turn(manager: Manager) -> None:
    """Stop one unit after the other, as a person might."""
    for name in NEEDY:
        with contextlib.suppress(UnitFailed):
            manager.stop(name, soon())


@pytest.mark.parametrize("in_turn", [False, True], ids=["together", "control"])
def test_units_that_stop_together_do_not_wake_each_other(
    harness_session: Session, manager: Manager, *, in_turn: bool
) -> None:
    """A client waits in the queue of each socket; in the control the second one's starts what has just been stopped."""
    paths = harness_session.paths
    texts = {name: f"[Socket]\nListenStream=%h/{name}\nService={NEEDY[2]}\n" for name in NEEDY[:2]}
    needs = "\n".join(f"Requires={name}\nAfter={name}" for name in NEEDY[:2])
    texts[NEEDY[2]] = f"[Unit]\n{needs}\n[Service]\nExecStart=/bin/sleep 100\n"
    for name, text in texts.items():
        harness_session.write(f"{paths.units}/{name}", text)
    try:
        manager.reload()
        for name in NEEDY[:2]:
            manager.start(name, soon())
        with contextlib.ExitStack() as stack:
            for name in NEEDY[:2]:
                client = stack.enter_context(harness_session.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.connect(
                    native.address_of(harness_session, Endpoint(Transport.UNIX, path=f"{paths.home}/{name}"))
                )
            wait_until(lambda: manager.state(NEEDY[2])["ActiveState"], lambda state: state == "active", soon(), "it")
            stop_in_turn(manager) if in_turn else manager.stop_together(NEEDY, soon())
            left = {name: manager.state(name) for name in NEEDY if manager.state(name)["ActiveState"] != "inactive"}
            assert bool(left) is in_turn, left
    finally:
        manager.stop_together(NEEDY, soon())
        for name in texts:
            harness_session.remove(f"{paths.units}/{name}")
        manager.reset_failed()
        manager.reload()


def test_an_interrupted_answer_leaves_the_next_one_whole(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C amid an answer: what cleans up after it asks again, and must not read the rest of that one."""

    def interrupted(_data: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Message, "from_buffer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            manager.failed_units()
    assert manager.state("basic.target")["ActiveState"] == "active"
