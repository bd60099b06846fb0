"""A contract's service: what a suite can ask of it, and what is said when it does not keep its promise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.activation import activations
from harness.activation.service import Service, open_services
from harness.contract import BytesProbe, Contract, ExecProbe, load
from harness.contract.model import LimitsTable
from harness.core.deadline import Deadline
from harness.core.errors import SHOWN_LINES, Blame, CapabilityMissing, ProbeFailed, UnitFailed, WaitTimeout
from harness.core.transports import Transport
from harness.images.store import Image
from harness.probes import Client
from harness.session.session import Session
from tests.helpers.contracts import HEAD, TCP, written
from tests.helpers.runs import REPOSITORY

BROKEN = REPOSITORY / "tests" / "broken"
ECHO = REPOSITORY / "containers" / "echo"

TCP4, TCP6, UDP4 = Transport.TCP4, Transport.TCP6, Transport.UDP4

#: No client of these tests goes there.
NEITHER = frozenset({Transport.VSOCK, Transport.TCP6, Transport.UDP6})

Open = Callable[..., contextlib.AbstractContextManager[Service]]


@pytest.fixture
def opened(harness_session: Session, built: Callable[[str], Image]) -> Open:
    """Open the service of a folder with a contract, or of another contract with that folder's image."""

    @contextlib.contextmanager
    def open_it(
        folder: Path, activation: str = "unit", contract: Contract | None = None, timeout_scale: float = 1.0
    ) -> Iterator[Service]:
        image = built(str(folder.relative_to(REPOSITORY)))
        contract = contract or load(folder)
        way = activations()[activation]
        with open_services(harness_session, contract, {"": image}, way, NEITHER, timeout_scale) as services:
            services[""].start_listening()
            yield services[""]

    return open_it


def container_names(session: Session) -> list[str]:
    """Return the names of all containers of a session."""
    return session.run(["podman", "ps", "--all", "--format", "{{.Names}}"]).text.split()


@pytest.mark.harness_activations
def test_cold_warm_and_cold_again(harness_activation_name: str, opened: Open) -> None:
    with opened(ECHO, harness_activation_name) as service:
        assert service.name == "echo"
        assert service.activation == harness_activation_name
        assert not service.is_active(TCP4)
        cold = service.ask_cold(TCP4)
        assert service.is_active(TCP4)
        service.wait_active(TCP4)
        warm = service.ask_warm(TCP4, Client.NATIVE)
        assert [(reply.client, reply.body) for reply in (cold, warm)] == [("socat", b"hello\n"), ("native", b"hello\n")]
        service.stop_service()
        assert not service.is_active(TCP4)
        again = service.ask_cold(TCP4, Client.NATIVE)
        assert service.replies == [cold, warm, again]


@pytest.mark.harness_activations
def test_nothing_is_left_of_a_service(harness_activation_name: str, opened: Open, harness_session: Session) -> None:
    """Not even of one that failed, with its client still waiting."""
    folders = [harness_session.outside(path) for path in (harness_session.paths.units, harness_session.paths.quadlets)]

    def files() -> list[str]:
        return sorted(file.name for folder in folders for file in folder.glob("*.*"))

    before = files()
    with opened(BROKEN / "dies-on-start", harness_activation_name) as service, contextlib.suppress(ProbeFailed):
        if harness_activation_name != "launcher":
            service_file = (
                "dies-on-start.container" if harness_activation_name == "quadlet" else "dies-on-start.service"
            )
            assert set(files()) - set(before) == {"dies-on-start.socket", service_file}
        service.ask_cold(TCP4)
    assert files() == before
    assert container_names(harness_session) == []
    assert harness_session.manager.failed_units() == []
    with opened(ECHO, harness_activation_name) as service:
        service.ask_cold(TCP4)


def test_asking_in_any_state(opened: Open) -> None:
    """Asleep or awake, and within the limit of a cold probe."""
    with opened(ECHO) as service:
        assert service.ask(TCP4).body == b"hello\n"
        service.wait_active(TCP4)
        assert service.ask(TCP4, Client.NATIVE).body == b"hello\n"
    with opened(BROKEN / "ignores-sockets", timeout_scale=0.3) as service, pytest.raises(ProbeFailed) as caught:
        service.ask(TCP4)
    assert "failed its next probe by socat over tcp4: the program ignores its sockets: pid 1" in caught.value.sentence


def test_only_the_sockets_whose_transport_the_machine_has(opened: Open) -> None:
    with opened(ECHO) as service:
        assert set(service.activated.workload.endpoints) == {TCP4, UDP4, Transport.UNIX}
        lines = [line for line in service.activated.files["echo.socket"].splitlines() if line.startswith("Listen")]
        assert [line.partition("=")[0] for line in lines] == ["ListenStream", "ListenDatagram", "ListenStream"]


def test_no_socket_is_left(harness_session: Session, tmp_path: Path) -> None:
    contract = load(written(tmp_path, HEAD + TCP + '[probe]\nkind = "bytes"\nsend = "a"\nexpect = "a"\n'))
    never = Image("echo", "localhost/nobody", "", "", "", 0.0)
    with (
        pytest.raises(CapabilityMissing, match="'tcp4': the contract 'echo' has no other socket") as caught,
        open_services(harness_session, contract, {"": never}, activations()["unit"], frozenset({TCP4})),
    ):
        pytest.fail("there can be no service")
    assert caught.value.blame is Blame.MACHINE


# -- what is said -----------------------------------------------------------------------------------------------------


def test_awake_before_its_first_client(opened: Open) -> None:
    """Whoever started it: here systemd, as a unit's [Install] section might have it."""
    with opened(ECHO) as service:
        unit = service.activated.service_of(TCP4)
        service.session.manager.start(unit, Deadline.after(20))
        with pytest.raises(ProbeFailed) as caught:
            service.ask_cold(TCP4)
    assert caught.value.sentence == "The service 'echo' (unit) was awake before its first client came."
    assert "'ActiveState': 'active'" in caught.value.evidence["units"]
    assert service.replies == [], "nobody was asked"


def test_another_reply_than_promised(opened: Open) -> None:
    contract = load(ECHO).model_copy(update={"probes": (BytesProbe(kind="bytes", send="hello\n", expect="HELLO\n"),)})
    with opened(ECHO, contract=contract, timeout_scale=2.0) as service, pytest.raises(ProbeFailed) as caught:
        service.ask_cold(UDP4, Client.NATIVE)
    sentence, evidence = caught.value.sentence, caught.value.evidence
    assert sentence.startswith("The service 'echo' (unit) failed its cold probe by native over udp4: ")
    assert "expected 'HELLO\\n', got 'hello\\n' (" in sentence
    assert sentence.endswith(" s of 30 s)."), "the limit, with its factor"
    assert evidence["sent"] == "'hello\\n'"
    assert evidence["reproduce"].startswith("(a socket of the harness's own, connected to udp4:127.0.0.1:")
    assert list(evidence)[2:] == ["units", "output of echo.service", "systemd --user"]
    (reply,) = service.replies
    assert reply.body == b"hello\n"


def test_no_page(opened: Open, tmp_path: Path) -> None:
    """An HTTP client at a service that speaks no HTTP."""
    contract = load(written(tmp_path, f'{HEAD}{TCP}[probe]\nkind = "http"\npath = "/a"\ncontains = "title"\n'))
    with opened(ECHO, contract=contract) as service, pytest.raises(ProbeFailed) as caught:
        service.ask_cold(TCP4)
    assert "failed its cold probe by curl over tcp4: expected a page, got nothing: " in caught.value.sentence
    assert caught.value.evidence["sent"].startswith("a request to tcp4:127.0.0.1:")
    assert "curl" in caught.value.evidence["reproduce"]
    assert "/a" in caught.value.evidence["reproduce"]


def exec_probe(*command: str, **changes: object) -> ExecProbe:
    """Return what a contract promises of a client program."""
    return ExecProbe.model_validate({"kind": "exec", "command": command, **changes})


def test_a_client_program_that_fails_is_shown(opened: Open) -> None:
    """Its command line, and both of what it printed: the reason stands in either."""
    contract = load(ECHO).model_copy(update={"probes": (exec_probe("ls", "/etc/hosts", "/never"),)})
    with opened(ECHO, contract=contract) as service, pytest.raises(ProbeFailed) as caught:
        service.ask_cold(TCP4)
    assert 'expected the exit status 0, got 2 and the error "ls: cannot access' in caught.value.sentence
    assert list(caught.value.evidence)[:5] == [
        "sent", "client", "output of the client", "errors of the client", "reproduce",
    ]  # fmt: skip
    assert caught.value.evidence["client"] == "ls /etc/hosts /never"
    assert caught.value.evidence["output of the client"] == "/etc/hosts"
    assert "/never" in caught.value.evidence["errors of the client"]


def test_of_a_long_output_both_ends_are_shown(opened: Open) -> None:
    contract = load(ECHO).model_copy(update={"probes": (exec_probe("seq", "1", "1000", contains="never"),)})
    with opened(ECHO, contract=contract) as service, pytest.raises(ProbeFailed) as caught:
        service.ask_cold(TCP4)
    lines = caught.value.evidence["output of the client"].split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("1", "1000", SHOWN_LINES)
    assert "[976 lines left out]" in lines


def test_a_first_start_has_its_own_limit(opened: Open) -> None:
    """Until the first stop; every other start has that of a cold one."""
    contract = load(BROKEN / "slow")
    limits = LimitsTable(cold_s=1.0, first_s=15.0, stop_s=contract.limits.stop_s)
    with opened(BROKEN / "slow", contract=contract.model_copy(update={"limits": limits})) as service:
        service.ask_cold(TCP4)
        service.wait_active(TCP4)
        service.stop_service()
        with pytest.raises(ProbeFailed) as caught:
            service.ask_cold(TCP4)
    assert caught.value.sentence.endswith(" s of 1 s).")


@pytest.mark.harness_activations
def test_a_run_that_was_replaced(harness_activation_name: str, opened: Open) -> None:
    """Whoever did that: a warm probe has the right reply, of another run than the cold one."""
    with opened(BROKEN / "honest", harness_activation_name) as service:
        service.ask_cold(TCP4)
        service.wait_active(TCP4)
        service.activated.stop_service(Deadline.after(20))  # behind the service's back
        with pytest.raises(ProbeFailed) as caught:
            service.ask_warm(TCP4)
        service.stop_service()
        service.ask_cold(TCP4)
        service.wait_active(TCP4)
        service.ask_warm(TCP4)
    assert caught.value.sentence == (
        f"The service 'honest' ({harness_activation_name}) failed its warm probe by socat over tcp4: "
        "another run answered: the program ended with status 0 after its first reply."
    )


def test_a_warm_probe_of_a_service_that_somebody_started(opened: Open) -> None:
    """There was no cold probe: the run is the one that it finds."""
    with opened(ECHO) as service:
        service.session.manager.start(service.activated.service_of(TCP4), Deadline.after(20))
        service.ask_warm(TCP4)
        service.ask_warm(UDP4)


def test_a_warm_probe_has_its_own_limit(opened: Open) -> None:
    with opened(BROKEN / "answers-once", timeout_scale=0.5) as service:
        service.ask_cold(TCP4)
        with pytest.raises(ProbeFailed) as caught:
            service.ask_warm(TCP4, Client.NATIVE)
    assert "failed its warm probe by native over tcp4: the program accepts nothing on fd 3 " in caught.value.sentence
    assert caught.value.sentence.endswith(" s of 1 s)."), "2 s by the contract, times a half"


def test_the_client_waits_to_the_end_of_its_limit(opened: Open) -> None:
    """The image is silent, so nearly all of the limit of 3 s by the contract, times 0.46, has to pass."""
    with opened(BROKEN / "ignores-sockets", timeout_scale=0.46) as service, pytest.raises(ProbeFailed):
        service.ask_cold(TCP4)
    assert service.replies[0].times.whole_s >= 1.3  # the limit began before the client did
    assert service.replies[0].complaint.startswith("timed out after ")


def test_nobody_wakes_it(opened: Open) -> None:
    with opened(ECHO, timeout_scale=0.02) as service, pytest.raises(WaitTimeout) as caught:
        service.wait_active(TCP4)
    assert caught.value.awaited == "the unit 'echo.service' to be active"
    assert 0.3 <= caught.value.waited_s < 10, "15 s by the contract, times 0.02"
    assert "'inactive'" in str(caught.value)


def test_waiting_for_what_has_failed_ends_at_once(opened: Open) -> None:
    with opened(BROKEN / "dies-on-start") as service:
        with pytest.raises(ProbeFailed):
            service.ask_cold(TCP4)
        deadline = Deadline.after(10)
        with pytest.raises(UnitFailed) as caught:
            service.wait_active(TCP4)
    assert not deadline.expired, "15 s by the contract"
    assert caught.value.blame is Blame.IMAGE
    assert caught.value.unit == "dies-on-start.service"
    assert caught.value.properties["ActiveState"] == "failed"
    assert caught.value.sentence.startswith("The unit 'dies-on-start.service' failed: ActiveState=failed, ")
    assert "broken: dies on start" in caught.value.evidence["output of dies-on-start.service"]


def test_an_image_that_does_not_stop_is_to_blame(opened: Open) -> None:
    with opened(BROKEN / "ignores-stop") as service:
        service.ask_cold(TCP4)
        service.wait_active(TCP4)
        with pytest.raises(WaitTimeout) as caught:
            service.stop_service()
        service.session.run(["podman", "kill", "--signal=KILL", service.name])
    assert caught.value.blame is Blame.IMAGE


def test_the_output_is_that_of_this_service(opened: Open) -> None:
    """Not that of an earlier one of the same name."""
    for _time in range(2):
        with opened(BROKEN / "dies-on-start") as service:
            assert service.session.output("dies-on-start.service") == ""
            with pytest.raises(ProbeFailed):
                service.ask_cold(TCP4)
