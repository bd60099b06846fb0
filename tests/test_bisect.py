"""The bisection names the first layer that loses a socket, and why; each image and unit here loses it in one place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness import leaks
from harness.__main__ import main
from harness.activation import activations, prepared
from harness.bisect import Bisection, Opener, Probe, Step, bisect
from harness.capabilities import Capabilities, Capability
from harness.contract import Contract, load
from harness.deadline import Deadline
from harness.images import Image
from harness.layers import Layer
from harness.processes import Process
from harness.session.session import Session
from harness.transports import Transport
from harness.witness import Seen, reasons
from tests.runs import ECHO, REPOSITORY, run_pytest
from tests.sessions import isolated

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
def find(user_session: Session, built: Callable[[str], Image]) -> Callable[..., Bisection]:
    """Bisect a contract, or a broken image's by its folder, up to some activations."""

    def found(subject: Contract | str, *names: str) -> Bisection:
        contract = load(BROKEN / subject) if isinstance(subject, str) else subject
        image = built("tests/broken/honest")
        listeners = user_session.place([table.listener for table in contract.sockets])
        workload = prepared(contract, image.reference, listeners, user_session.paths.home)
        uppers: dict[str, Opener] = {
            name: partial(activations()[name].activate, user_session, workload) for name in names
        }
        return bisect(Probe(user_session, contract, Transport.TCP4, Deadline.after(LIMIT_S)), workload, uppers)

    return found


def honest(before: str) -> Contract:
    """Return the contract of the honest program, behind a shell that does something before."""
    contract = load(BROKEN / "honest")
    command = (*BEHIND, f"{before}{HONEST}")
    return contract.model_copy(update={"image": contract.image.model_copy(update={"command": command})})


@pytest.fixture
def unit_folder(user_session: Session) -> Iterator[Callable[[str, str], None]]:
    """Write files into the folder of user units; they go with the test."""
    written = []

    def write(name: str, text: str) -> None:
        path = f"{user_session.paths.units}/{name}"
        user_session.write(path, text)
        written.append(path)

    yield write
    user_session.manager.stop("stranger.service", Deadline.after(LIMIT_S))  # it has the socket that it was given
    for path in written:
        user_session.remove(path)
    user_session.manager.reload()


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
    found = find("shell-wrapper", "launcher", "unit")
    assert found.guilty is Layer.PROGRAM, found
    assert "the first layer that loses the socket is the program in the container" in str(found)
    (why,) = found.steps[-1].seen
    assert why.startswith("process 1 '/bin/sh -c ")
    assert "forks: LISTEN_PID is 1, but the program is process 2 '/usr/bin/python3 " in why
    assert why.endswith("Way out: 'exec' the program in the shell.")


def test_a_shell_that_closes_the_descriptor(find: Callable[..., Bisection]) -> None:
    """The program is the right process, but has no descriptor 3."""
    found = find("closes-descriptor", "launcher", "unit")
    assert found.guilty is Layer.PROGRAM, found
    (why,) = found.steps[-1].seen
    assert why.startswith("process 1 '")
    assert why.endswith("was told LISTEN_FDS=1, but of its descriptors 3 is closed.")


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
    wrapped = "ExecStart=\nExecStart=/bin/sh -c '/usr/bin/podman run --rm --name=honest --network=none IMAGE; true'\n"
    # The image's own command is the contract's, which the drop-in does not know: the shell waits instead.
    text = wrapped.replace("IMAGE", "$(podman images --quiet | head -1) sleep 60")
    unit_folder("honest.service.d/50-test.conf", f"[Service]\nType=exec\n{text}")
    found = find("honest", "launcher", "unit")
    assert found.guilty is Layer.UNIT, found
    assert any("but LISTEN_PID is" in why and "ExecStart= wraps it" in why for why in found.steps[-1].reasons), found


# -- what is made of what was seen -------------------------------------------------------------------------------------

FITS = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
SOCKET = "socket:[7]"


def seen(number: int, told: Mapping[str, str], descriptors: Mapping[int, str], name: str = "program") -> Seen:
    """Return a process of a container."""
    return Seen(Process(100 + number, 1, name, f"/{name}", descriptors), number, told, contained=True)


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ([], []),
        (
            [seen(1, FITS, {3: SOCKET})],
            ["process 1 '/program' was given its sockets, and does not answer over them as the contract says."],
        ),
        (
            [seen(1, FITS, {3: "/dev/null"})],
            ["process 1 '/program' was told LISTEN_FDS=1, but of its descriptors 3 is /dev/null."],
        ),
        (
            [seen(1, {}, {3: SOCKET})],
            ["process 1 '/program' has no LISTEN_FDS in its environment: what started it has cleared that."],
        ),
        (
            [seen(1, FITS, {3: SOCKET}, "tini"), seen(7, FITS, {3: SOCKET})],
            [
                "process 1 '/tini' forks: LISTEN_PID is 1, but the program is process 7 '/program'. "
                "Way out: let it be the first process."
            ],
        ),
        # A server with workers of its own kind.
        (
            [seen(1, FITS, {3: SOCKET}), seen(7, FITS, {3: SOCKET})],
            ["process 1 '/program' was given its sockets, and does not answer over them as the contract says."],
        ),
    ],
)
def test_reasons(inside: list[Seen], why: list[str]) -> None:
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
    assert Bisection("x", steps, {}).sentence == "x: no layer loses the socket, as far as they were tried."


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
    assert output.count("failed its cold probe by socat over tcp4") == 2


def test_no_bisection_that_nobody_asked_for(failing: Callable[..., tuple[list[Path], str]]) -> None:
    files, _output = failing("--no-harness-bisect")
    assert files == []


def test_no_bisection_in_a_session_that_is_kept(failing: Callable[..., tuple[list[Path], str]], tmp_path: Path) -> None:
    """It is to stay as it is; here it ends with the test."""
    files, _output = failing("--harness-bisect", "--harness-keep=on-failure")
    entries = [file.read_text(encoding="utf-8") for file in tmp_path.glob("artifacts/*/enter.txt")]
    kept = {match[1] for entry in entries if (match := re.search(r"(/\S*/harness-\d+-\d+-\d+)/", entry))}
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
    assert main(["bisect", contract, "--activation", "quadlet"]) == 3
    assert "This machine lacks the capability 'quadlet'" in capsys.readouterr().err
