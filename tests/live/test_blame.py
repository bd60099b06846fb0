"""Who has to act when a service fails, by what podman, the OCI runtime and systemd really say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from harness.activation import Activated, Workload, activations, build_workload
from harness.activation.service import open_services
from harness.contract import load
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, CommandError, ProbeFailed, UnitFailed
from harness.core.transports import Transport
from harness.images.store import Image
from harness.probes import native
from harness.session.session import Session
from suites.administration import unit_file
from tests.helpers.runs import REPOSITORY

HONEST = REPOSITORY / "tests" / "broken" / "honest"
TCP4 = Transport.TCP4
ACTIVATIONS = activations()
LIMIT_S = 20.0

#: Without these a failing start is tried again and again by its waiting client, and the unit is never at rest.
ONCE = "[Unit]\nStartLimitBurst=1\nStartLimitIntervalSec=60\n"


def workload(session: Session, image: str, *command: str, options: tuple[str, ...] = ()) -> Workload:
    """Return the honest program's service, with another image, command or options."""
    contract = load(HONEST)
    placed = session.assign_addresses([table.listener for table in contract.sockets])
    made = build_workload(contract, image, placed, session.paths.home)
    return replace(made, command=command or made.command, options=(*made.options, *options))


@contextlib.contextmanager
def opened(session: Session, text: str, activation: str, made: Workload) -> Iterator[Activated]:
    """Activate a workload whose service has a drop-in."""
    with session.drop_in("honest.service", text), ACTIVATIONS[activation].activate(session, made) as activated:
        yield activated


def fail(activated: Activated) -> UnitFailed:
    """Be a client of a service that fails, and return the error."""
    native.ask(activated.session, activated.workload.endpoints[TCP4], b"hello\n", Deadline.after(2))
    unit = activated.service_of(TCP4)
    wait_until(
        lambda: activated.state(unit)["ActiveState"], "failed".__eq__, Deadline.after(LIMIT_S), f"'{unit}' to fail"
    )
    with pytest.raises(UnitFailed) as caught:
        activated.wait_active(TCP4, Deadline.after(LIMIT_S))
    return caught.value


@pytest.mark.harness_activations("unit", "quadlet")
@pytest.mark.parametrize(
    ("command", "options", "blame", "words"),
    [
        (("/bin/sh", "-c", "echo I give up; exit 7"), (), Blame.IMAGE, "I give up"),
        # The program's own status and words are not podman's.
        (("/bin/sh", "-c", "echo /dev/net/tun: no; exit 126"), (), Blame.IMAGE, "/dev/net/tun: no"),
        (("/no/such/program",), (), Blame.IMAGE, "/no/such/program"),
        (("/etc/passwd",), (), Blame.IMAGE, "ermission denied"),
        ((), ("--user=nobody-knows",), Blame.IMAGE, "nobody-knows"),
        ((), ("--no-such-option",), Blame.INPUT, "unknown flag"),
        ((), ("--runtime=/no/such/runtime",), Blame.MACHINE, "/no/such/runtime"),
        ((), ("--volume=/no/such/folder:/x",), Blame.UNKNOWN, "/no/such/folder"),
    ],
    ids=["gives up", "quotes podman", "no program", "not executable", "no user", "no option", "no runtime", "unknown"],
)
def test_who_has_to_act(
    harness_session: Session,
    built: Callable[[str], Image],
    harness_activation_name: str,
    command: tuple[str, ...],
    options: tuple[str, ...],
    blame: Blame,
    words: str,
) -> None:
    """The image only where its own program ran, or can't; podman's own words are in the evidence."""
    made = workload(harness_session, built("tests/broken/honest").reference, *command, options=options)
    with opened(harness_session, ONCE, harness_activation_name, made) as activated:
        error = fail(activated)
    assert words in error.evidence["output of honest.service"]
    assert error.blame is blame, error


@pytest.mark.parametrize("command", ["exit 7", "echo /dev/net/tun: no; exit 126"])
def test_a_program_that_is_restarted(harness_session: Session, built: Callable[[str], Image], command: str) -> None:
    """The generated unit has Restart=on-failure: the last start is systemd's refusal, the last run the program's."""
    made = workload(harness_session, built("tests/broken/honest").reference, "/bin/sh", "-c", command)
    with opened(harness_session, ONCE, "generate", made) as activated:
        error = fail(activated)
    assert error.blame is Blame.IMAGE, error


def test_podman_refuses_to_create_the_container(harness_session: Session, built: Callable[[str], Image]) -> None:
    """`podman create` says it before there is a unit."""
    image = built("tests/broken/honest").reference
    for made, blame in (
        (workload(harness_session, image, options=("--no-such-option",)), Blame.INPUT),
        (workload(harness_session, "localhost/harness-tests/never-was:latest"), Blame.IMAGE),
        (workload(harness_session, image, options=("--runtime=/no/such/runtime",)), Blame.MACHINE),
    ):
        with pytest.raises(CommandError) as caught, ACTIVATIONS["generate"].activate(harness_session, made):
            pytest.fail("there can be no such unit")
        assert caught.value.blame is blame, caught.value


def test_podman_is_somewhere_else(harness_session: Session, built: Callable[[str], Image]) -> None:
    """systemd's status 203/EXEC is not the program's."""
    made = workload(harness_session, built("tests/broken/honest").reference)
    elsewhere = f"{ONCE}[Service]\nExecStart=\nExecStart=/no/such/podman run\n"
    with opened(harness_session, elsewhere, "unit", made) as activated:
        error = fail(activated)
    assert error.blame is Blame.MACHINE, error
    assert "ExecStart=" in error.hint


@pytest.mark.parametrize(
    ("line", "blame", "words"),
    [
        ("ListenStream=127.0.0.1:3999\nListenStream=127.0.0.1:3999", Blame.UNKNOWN, "Address already in use"),
        ("ListenStream=[2001:db8::1]:3999", Blame.MACHINE, "Cannot assign requested address"),
    ],
    ids=["a line twice", "no such address"],
)
def test_a_socket_that_systemd_can_not_make(
    harness_session: Session, built: Callable[[str], Image], line: str, blame: Blame, words: str
) -> None:
    """The image has not been asked yet."""
    made = workload(harness_session, built("tests/broken/honest").reference)
    with (
        harness_session.drop_in("honest.socket", f"[Socket]\n{line}\n"),
        pytest.raises(UnitFailed) as caught,
        ACTIVATIONS["unit"].activate(harness_session, made),
    ):
        pytest.fail("it can't listen")
    assert words in caught.value.evidence["systemd --user"]
    assert caught.value.blame is blame, caught.value
    assert caught.value.hint


def test_a_socket_that_was_edited_and_reloaded(harness_session: Session, built: Callable[[str], Image]) -> None:
    """systemd listens where it did before, until the socket is started again: the client wakes nobody."""
    image = built("tests/broken/honest")
    moved = "[Socket]\nListenStream=\nListenStream=127.0.0.1:3998\n"
    with open_services(harness_session, load(HONEST), {"": image}, ACTIVATIONS["unit"], frozenset()) as services:
        services[""].start_listening()
        with harness_session.drop_in("honest.socket", moved), pytest.raises(ProbeFailed) as caught:
            services[""].ask_cold(TCP4)
    assert caught.value.blame is Blame.UNKNOWN, caught.value
    assert "socket units" in caught.value.hint


def test_a_unit_of_ones_own(harness_session: Session) -> None:
    """What it has printed is in the error, and accuses whom it accuses."""
    text = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo \"Error: {}\"; exit 126'\n"
    for words, blame in (
        ("open(/dev/net/tun): Permission denied", Blame.MACHINE),
        ("no", Blame.UNKNOWN),
    ):
        with pytest.raises(UnitFailed) as caught, unit_file(harness_session, "own.service", text.format(words)):
            pytest.fail("it can't start")
        assert caught.value.evidence["output of own.service"] == f"Error: {words}\n"
        assert f"    Error: {words}\n" in str(caught.value)
        assert caught.value.blame is blame
        harness_session.manager.reset_failed()
