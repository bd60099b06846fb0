"""The bisection names the first layer that loses a socket, and why; each image and unit here loses it in one place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness.activation import activations, build_workload
from harness.activation.service import open_services
from harness.bisect import fd_passing
from harness.bisect.bisect import Bisection, Opener, Probe, Step, bisect, failed
from harness.bisect.layers import Layer
from harness.bisect.process_watch import ProcessSnapshot, reasons
from harness.capabilities.table import Capabilities, Capability
from harness.cli.main import main
from harness.contract import Contract, load
from harness.core.deadline import Deadline
from harness.core.errors import INFRASTRUCTURE, ProbeFailed, SessionError
from harness.core.transports import Transport
from harness.images.store import Image
from harness.runtime import leaks
from harness.session.processes import Process
from harness.session.session import Session
from tests.helpers.runs import ECHO, REPOSITORY, run_pytest
from tests.helpers.sessions import isolated

BROKEN = REPOSITORY / "tests" / "broken"

#: What a person may wait for, in seconds; nothing here comes near it.
LIMIT_S = 120.0

#: The honest program behind a shell that does something first.
BEHIND = ("/bin/sh", "-c")
HONEST = "exec /usr/bin/python3 -I -S -B /usr/local/lib/broken.py honest"

STRANGER = """\
[Service]
ExecStart=/bin/sleep 60
"""


@pytest.fixture
def find(harness_session: Session, built: Callable[[str], Image]) -> Callable[..., Bisection]:
    """Bisect a contract, or a broken image's by its folder, up to some activations."""

    def found(subject: Contract | str, *names: str, limit_s: float = LIMIT_S) -> Bisection:
        contract = load(BROKEN / subject) if isinstance(subject, str) else subject
        image = built("tests/broken/honest")
        listeners = harness_session.assign_addresses([table.listener for table in contract.sockets])
        workload = build_workload(contract, image.reference, listeners, harness_session.paths.home)
        uppers: dict[str, Opener] = {
            name: partial(activations()[name].activate, harness_session, workload) for name in names
        }
        return bisect(Probe(harness_session, contract, Transport.TCP4, Deadline.after(limit_s)), workload, uppers)

    return found


def honest(before: str) -> Contract:
    """Return the contract of the honest program, behind a shell that does something before."""
    contract = load(BROKEN / "honest")
    command = (*BEHIND, f"{before}{HONEST}")
    return contract.model_copy(update={"image": contract.image.model_copy(update={"command": command})})


@pytest.fixture
def unit_folder(harness_session: Session) -> Iterator[Callable[[str, str], None]]:
    """Write files into the folder of user units; they go with the test."""
    written = []

    def write(name: str, text: str) -> None:
        path = f"{harness_session.paths.units}/{name}"
        harness_session.write(path, text)
        written.append(path)

    yield write
    harness_session.manager.stop("stranger.service", Deadline.after(LIMIT_S))  # it has the socket that it was given
    for path in written:
        harness_session.remove(path)
    harness_session.manager.reload()


def test_no_layer_loses_the_socket(find: Callable[..., Bisection]) -> None:
    """A healthy image answers in every layer."""
    found = find("honest", "launcher", "generate", "unit")
    assert found.guilty is None, found
    assert [(step.problem, step.left_out) for step in found.steps[1:]] == [("", "")] * 4
    assert found.sentence == "'honest' over tcp4: no layer loses the socket."


@isolated
def test_a_program_answers_without_a_container(find: Callable[..., Bisection]) -> None:
    """It is given the socket in the image's root folder, as the image's user."""
    (program, _) = find(honest("[ $(id -un) = nobody ] && [ $$ != 1 ] || [ $$ = 1 ] || exit; ")).steps
    assert (program.layer, program.said) == (Layer.PROGRAM, "answers")


def test_a_shell_that_forks(find: Callable[..., Bisection]) -> None:
    """LISTEN_PID names the shell; the way out is to exec."""
    # The program ends within a tenth of a second, in which a busy machine may see its shell alone, or nothing.
    tries = (find("shell-wrapper", "launcher", "unit") for _try in range(3))
    found = next(one for one in tries if "forks" in str(one.steps[-1].seen))
    assert found.guilty is Layer.PROGRAM, found
    assert "the first layer that loses the socket is the program in the container" in str(found)
    (why,) = found.steps[-1].seen
    assert why.startswith("process 1 '/bin/sh -c ")
    assert "forks: LISTEN_PID is 1, but process 2 '/" in why
    assert " is its child. " in why
    assert why.endswith("Hint: 'exec' the program in the shell.")


def test_a_shell_that_closes_the_descriptor(find: Callable[..., Bisection]) -> None:
    """The program is the right process, but has no descriptor 3."""
    found = find("closes-descriptor", "launcher", "unit")
    assert found.guilty is Layer.PROGRAM, found
    (why,) = found.steps[-1].seen
    assert why.startswith("process 1 '")
    assert why.endswith("was given its sockets from descriptor 3 on, and has no socket open.")


@isolated
def test_a_program_that_fails_in_a_container_only(find: Callable[..., Bisection]) -> None:
    """It does not want to be process 1: the container's doing, and an init process makes it work."""
    found = find(honest("[ $$ != 1 ] || exit; "))
    assert found.guilty is Layer.CONTAINER, found
    assert found.variants["with an init process (--init)"], found
    assert not found.variants["in the session's network (--network=host)"], found


def test_a_program_that_wants_to_be_root(find: Callable[..., Bisection]) -> None:
    """Of the options, --user makes the difference."""
    found = find(honest('[ "$(id -u)" = 0 ] || exit; '))
    assert found.guilty is Layer.PROGRAM if found.steps[0].problem else Layer.CONTAINER, found
    assert [title for title, works in found.variants.items() if works] == ["as root (--user=root)"]


@isolated
def test_a_program_that_wants_a_network(find: Callable[..., Bisection]) -> None:
    """It answers alone, and of the options --network makes the difference."""
    found = find(honest("[ $(wc -l < /proc/net/unix) -gt 1 ] || exit; "))
    assert found.guilty is Layer.CONTAINER, found
    assert [title for title, works in found.variants.items() if works] == ["in the session's network (--network=host)"]


def test_a_socket_unit_of_another_service(
    find: Callable[..., Bisection], unit_folder: Callable[[str, str], None]
) -> None:
    """`Service=` of the socket unit names a stranger, who gets the socket."""
    unit_folder("stranger.service", STRANGER)
    unit_folder("honest.socket.d/50-test.conf", "[Socket]\nService=stranger.service\n")
    found = find("honest", "launcher", "unit")
    assert found.guilty is Layer.UNIT, found
    assert "'honest.socket' starts stranger.service, and not 'honest.service': see Service=." in found.steps[-1].reasons


def test_a_unit_that_wraps_podman(find: Callable[..., Bisection], unit_folder: Callable[[str, str], None]) -> None:
    """A shell that stays has LISTEN_PID, and podman takes no sockets."""
    wrapped = "ExecStart=\nExecStart=/bin/sh -c 'podman run --rm --name=honest --network=none IMAGE; true'\n"
    # The image's own command is the contract's, which the drop-in does not know: the shell waits instead.
    text = wrapped.replace("IMAGE", "$(podman images --quiet | head -1) sleep 60")
    unit_folder("honest.service.d/50-test.conf", f"[Service]\nType=exec\n{text}")
    found = find("honest", "launcher", "unit")
    assert found.guilty is Layer.UNIT, found
    assert any("but LISTEN_PID is" in why and "ExecStart= wraps it" in why for why in found.steps[-1].reasons), found


def test_an_image_that_is_slow_to_start(find: Callable[..., Bisection]) -> None:
    """Each layer has the time that the contract allows."""
    contract = honest("sleep 6; ")
    found = find(contract.model_copy(update={"limits": contract.limits.model_copy(update={"cold_s": 15.0})}))
    assert found.sentence == "'honest' over tcp4: no layer loses the socket.", found
    assert not any(step.problem for step in found.steps)


def test_a_layer_without_the_time_that_the_contract_allows(find: Callable[..., Bisection]) -> None:
    """Nobody is accused of what there was no time for."""
    contract = honest("sleep 6; ")
    patient = contract.model_copy(update={"limits": contract.limits.model_copy(update={"cold_s": 15.0})})
    found = find(patient, limit_s=3.0)
    assert found.guilty is None, found
    assert found.sentence.startswith("'honest' over tcp4: inconclusive (")
    assert "of 15 s were left, and no right reply came" in found.sentence


@isolated
def test_an_error_of_the_machine_is_no_layers(
    find: Callable[..., Bisection], harness_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that this machine does not have can't be bound by anybody."""

    def bind(*_arguments: object) -> bool:
        raise SessionError("No socket could be bound for 'ListenStream=[::1]:3000': Cannot assign requested address.")

    monkeypatch.setattr(fd_passing, "_bind", bind)
    found = find("honest")
    assert found.guilty is None, found
    assert found.sentence.startswith("'honest' over tcp4: inconclusive (the program without a container: no result: ")


def test_a_server_that_listens_by_itself(find: Callable[..., Bisection]) -> None:
    """Behind a wrapper that stays: to 'exec' the wrapper's last child would not help."""
    own = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 8080)); s.listen(); time.sleep(60)"
    contract = honest(f'/usr/bin/python3 -I -S -c "{own}" & sleep 600; ')
    # It is silent in five layers and variants, each for all of its time.
    found = find(contract.model_copy(update={"limits": contract.limits.model_copy(update={"cold_s": 5.0})}))
    assert found.guilty is Layer.PROGRAM, found
    (why,) = found.steps[-1].seen
    assert why.endswith("listens by itself, on port 8080, and not over the socket that it was given.")


def test_a_service_that_does_not_stop(harness_session: Session, built: Callable[[str], Image]) -> None:
    """Its slow stop takes no time from the layers."""
    contract = load(BROKEN / "ignores-stop")
    promised = contract.probes[0].model_copy(update={"expect": "another reply"})
    contract = contract.model_copy(update={"probes": (promised,)})
    image, way = built("tests/broken/ignores-stop"), activations()["unit"]
    with open_services(harness_session, contract, {"": image}, way, frozenset()) as services:
        service = services[""]
        service.start_listening()
        with pytest.raises(ProbeFailed):
            service.ask_cold(Transport.TCP4)
        found = failed(service, Transport.TCP4, contract.limits.cold_s)
    assert not any(step.left_out for step in found.steps[1:]), found
    assert found.steps[1].problem.endswith(", got 'hello\\n'"), found


# -- what is made of what was seen -------------------------------------------------------------------------------------

SOCKET = "socket:[7]"


def seen(
    number: int, descriptors: Mapping[int, str], name: str = "program", parent: int = 1, ports: tuple[int, ...] = ()
) -> ProcessSnapshot:
    """Return a process of a container; nobody in it has the number 1 outside."""
    process = Process(100 + number, parent, name, f"/{name}", descriptors)
    return ProcessSnapshot(process, number, contained=True, ports=ports)


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ([], []),
        (
            [seen(1, {3: SOCKET})],
            ["process 1 '/program' has its sockets, and does not answer over them as the contract says."],
        ),
        # It may have moved them; and of what nobody can see nothing is said.
        (
            [seen(1, {3: "/dev/null", 9: SOCKET})],
            ["process 1 '/program' has its sockets, and does not answer over them as the contract says."],
        ),
        ([seen(1, {})], []),
        (
            [seen(1, {0: "/dev/null", 3: "/dev/null"})],
            ["process 1 '/program' was given its sockets from descriptor 3 on, and has no socket open."],
        ),
        (
            [seen(1, {3: SOCKET}, "tini"), seen(7, {3: SOCKET}, parent=101)],
            [
                "process 1 '/tini' forks: LISTEN_PID is 1, but process 7 '/program' is its child. "
                "Hint: let the program be the first process."
            ],
        ),
        # A server with workers, of its own kind or not.
        (
            [seen(1, {3: SOCKET}), seen(7, {3: SOCKET}, parent=101), seen(8, {3: SOCKET}, "helper", parent=101)],
            ["process 1 '/program' has its sockets, and does not answer over them as the contract says."],
        ),
        # A wrapper whose server listens by itself: to 'exec' it would not help.
        (
            [
                seen(1, {3: SOCKET}, "sh"),
                seen(2, {3: SOCKET, 4: "socket:[8]"}, "server", parent=101, ports=(80,)),
                seen(3, {3: SOCKET}, "sleep", parent=101),
            ],
            ["process 2 '/server' listens by itself, on port 80, and not over the socket that it was given."],
        ),
    ],
)
def test_reasons(inside: list[ProcessSnapshot], why: list[str]) -> None:
    """What the processes in the container show."""
    assert reasons(inside) == why


def test_without_the_program_alone() -> None:
    """Where it can't be tried alone, what its processes show is still its own; what nobody saw is the container's."""
    alone = Step(Layer.PROGRAM, "alone", left_out="no rights")
    bad = Step(Layer.CONTAINER, "podman run", problem="silence", seen=("closed",))
    assert Bisection("x", (alone, bad), {}).guilty is Layer.PROGRAM
    assert Bisection("x", (alone, Step(Layer.CONTAINER, "podman run", problem="silence")), {}).guilty is Layer.CONTAINER


def test_a_program_that_needs_its_container() -> None:
    """One that fails alone only is not to blame."""
    steps = (Step(Layer.PROGRAM, "alone", problem="silence"), Step(Layer.CONTAINER, "podman run"))
    assert Bisection("x", steps, {}).guilty is None


def test_no_time() -> None:
    """What was not tried is not said to be well."""
    steps = (Step(Layer.PROGRAM, "alone"), Step(Layer.CONTAINER, "podman run", left_out="no time was left"))
    assert Bisection("x", steps, {}).sentence == "x: inconclusive (podman run: no result: no time was left)."
    unknown = (replace(steps[0], problem="expected 'a', got nothing"), steps[1])
    assert Bisection("x", unknown, {}).guilty is None
    assert Bisection("x", unknown, {}).sentence == (
        "x: inconclusive (alone: expected 'a', got nothing; podman run: no result: no time was left)."
    )


# -- in a bundle -------------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(tmp_path: Path, built: Callable[[str], Image]) -> Callable[..., tuple[list[Path], str]]:
    """Run the suite on the image whose shell forks; return the files of its bundles, and what was printed."""
    built("tests/broken/shell-wrapper")

    def run(*options: str) -> tuple[list[Path], str]:
        contract = "--harness-contract=tests/broken/shell-wrapper"
        ended = run_pytest(tmp_path, "suites/test_replies.py", contract, "-k", "unit-tcp4", *options)
        assert ended.outcomes == dict.fromkeys(ended.outcomes, "failed")
        assert len(ended.outcomes) == 2, ended.output
        return sorted((tmp_path / "artifacts").glob("*/bisect.txt")), ended.output

    return run


def test_the_bundle_of_the_first_failure(failing: Callable[..., tuple[list[Path], str]]) -> None:
    """Two tests fail: the first has the layers in its bundle, and their verdict in its report."""
    (file,), output = failing("--harness-bisect")
    verdict = "'shell-wrapper' over tcp4: the first layer that loses the socket is the program in the container."
    assert file.read_text(encoding="utf-8").startswith(f"{verdict}\n")
    assert output.count(verdict) == 1
    assert output.count("\nThe service 'shell-wrapper' (unit) failed its cold probe by socat over tcp4") == 2


def test_no_bisection_that_nobody_asked_for(failing: Callable[..., tuple[list[Path], str]]) -> None:
    files, _output = failing("--no-harness-bisect")
    assert files == []


def test_no_bisection_in_a_session_that_is_kept(failing: Callable[..., tuple[list[Path], str]], tmp_path: Path) -> None:
    """It is to stay as it is; here it ends with the test."""
    files, _output = failing("--harness-bisect", "--harness-keep=on-failure")
    entries = [file.read_text(encoding="utf-8") for file in tmp_path.glob("artifacts/*/enter.txt")]
    kept = {match[1] for entry in entries if (match := re.search(r"(/[^\s:]*/harness-\d+-\d+-\d+)/user/", entry))}
    for cgroup in kept:
        leaks.end(Path(cgroup))
    assert len(kept) == len(entries) == 2
    assert files == []


def test_what_this_machine_cannot_do_is_no_layer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An activation without its program is left out, and refused by name: the image must not be blamed for it."""
    able = Capabilities.get

    def get(self: Capabilities, name: str) -> Capability:
        found = able(self, name)
        return replace(found, present=False) if name == "quadlet" else found

    monkeypatch.setattr(Capabilities, "get", get)
    contract = os.fspath(ECHO)
    assert main(["bisect", contract, "--transport", "tcp4"]) == 0
    assert "quadlet" not in capsys.readouterr().out
    assert main(["bisect", contract, "--activation", "quadlet"]) == INFRASTRUCTURE
    assert "This machine lacks the capability 'quadlet'" in capsys.readouterr().err
