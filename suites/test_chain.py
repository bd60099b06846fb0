"""The way of the sockets: systemd, Podman, conmon, the OCI runtime, the container; who holds them at each step.

The steps are looked at while they stand still: the OCI runtime that Podman is given here waits before each of its
steps until the test has seen the processes, and then becomes the real one.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import Activated, Activation, Deadline, Process, Session, Transport, processes, wait_until
from suites.administration import STEP_S
from suites.handover import TCP4, Handover, ask, report

#: How long processes that have been told to end may hold the socket, in seconds.
LET_GO_S = 5

#: The container's root is the session's own account, into whose processes an ordinary user may look.
READABLE = "--user=root"

#: It has the name of the real one, by which Podman knows what it can do. Descriptors of its own are closed by its exec.
WAITING_RUNTIME = """\
#!/bin/sh
for argument in "$@"; do
    case $argument in
        create | start) echo "$argument" > {folder}/reached && read -r _ < {folder}/go && break ;;
    esac
done
exec crun "$@"
"""


@dataclass(frozen=True, slots=True)
class WaitingRuntime:
    """The OCI runtime that waits; two named pipes are the way to it."""

    session: Session
    #: Its folder in the session, and the same as seen from outside.
    inside: str
    outside: Path

    @property
    def program(self) -> str:
        """Its path in the session."""
        return f"{self.inside}/crun"

    def stands_before(self, step: str) -> Mapping[int, Process]:
        """Wait until it is about to `create` or to `start`, and return the processes of that moment."""
        # Opened for both, so that opening waits for nobody.
        descriptor = os.open(self.outside / "reached", os.O_RDWR | os.O_NONBLOCK)
        try:
            wait_until(
                lambda: _read(descriptor),
                lambda said: said == f"{step}\n".encode(),
                Deadline.after(STEP_S),
                f"the OCI runtime to be about to '{step}' the container",
            )
        finally:
            os.close(descriptor)
        return wait_until(
            lambda: processes(self.session),
            _conmon_is_on_its_own,
            Deadline.after(STEP_S),
            "the conmon that only forks the one that stays to end",
        )

    def go_on(self) -> None:
        """Let it take its step."""
        wait_until(self._told, bool, Deadline.after(STEP_S), "the OCI runtime to wait for its word")

    def _told(self) -> bool:
        try:
            descriptor = os.open(self.outside / "go", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False  # it does not read yet
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(b"\n")
        return True


def _conmon_is_on_its_own(found: Mapping[int, Process]) -> bool:
    """Whether no conmon is another one's child any more: Podman goes on before the first one has ended."""
    conmons = {pid: process for pid, process in found.items() if process.name == "conmon"}
    return not any(process.parent in conmons for process in conmons.values())


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 100)
    except BlockingIOError:
        return b""


@pytest.fixture
def runtime(harness_session: Session) -> Iterator[WaitingRuntime]:
    """The OCI runtime that waits, in a folder of the session's home."""
    folder = f"{harness_session.paths.home}/waiting-runtime"
    waiting = WaitingRuntime(harness_session, folder, harness_session.outside(folder))
    harness_session.write(waiting.program, WAITING_RUNTIME.format(folder=folder))
    harness_session.run(["chmod", "700", waiting.program])
    harness_session.run(["mkfifo", f"{folder}/reached", f"{folder}/go"])
    yield waiting
    if not harness_session.kept:
        harness_session.run(["rm", "-r", folder])


@contextlib.contextmanager
def first_client(activated: Activated) -> Iterator[None]:
    """Be the client that wakes the container; unless something else is wrong, it must have its reply in the end."""
    replies: list[bytes | Exception] = []

    def be_first() -> None:
        try:
            replies.append(ask(activated.session, activated.workload.endpoints[Transport.TCP4], "hello", activated))
        except Exception as error:  # raised by the thread that waits for this one
            replies.append(error)

    client = threading.Thread(target=be_first, name="first-client")
    client.start()
    try:
        yield
    finally:
        client.join()
    if isinstance(replies[0], Exception):
        raise replies[0]
    assert replies == [b"hello\n"], "the first client's reply"


def inode(activated: Activated) -> int:
    """Return the inode of the one socket that is listened on, as ss(8) tells it."""
    (listener,) = activated.workload.listeners
    asked = ["ss", "--listening", "--tcp", "--numeric", "--extended", "--no-header", f"sport = :{listener.port}"]
    said = activated.session.run(asked).text
    found = re.search(r" ino:(\d+) ", said)
    assert found, f"nobody listens on port {listener.port}: {said!r}"
    return int(found.group(1))


def program(process: Process) -> str:
    """Return the name of a process's program or shell script.

    The kernel's own is another one for a crun that runs from a copy of itself in memory.
    """
    words = [Path(word).name for word in process.command.split(" ")]
    return words[1] if words[0] == "sh" else words[0]


def line(found: Mapping[int, Process], process: Process | None) -> Iterator[str]:
    """Yield the name of a process's program, and of those above it, the nearest first."""
    while process:
        yield program(process)
        process = found.get(process.parent)


def holders(found: Mapping[int, Process], socket: int) -> list[str]:
    """Return the names of the programs that hold a socket, in alphabetical order."""
    return sorted({program(process) for process in found.values() if process.holds(socket)})


def at_rest(activated: Activated) -> list[str]:
    """Return who holds the socket while nobody has come: systemd, or the launcher, which becomes Podman."""
    return ["systemd"] if activated.sockets else []


@pytest.mark.harness_verifies(
    "Podman inherits the sockets from systemd, conmon from Podman, and the OCI runtime from conmon."
)
@pytest.mark.harness_verifies(
    "The container's first process gets the sockets from the OCI runtime, whose process it is."
)
@pytest.mark.harness_requires("crun")
@pytest.mark.harness_activations
def test_each_hands_the_sockets_on(handover: Handover, harness_activation: Activation, runtime: WaitingRuntime) -> None:
    """Before the OCI runtime makes the container, all of them hold the socket; before it starts it, Podman no more."""
    with handover.activated(harness_activation, TCP4, options=[f"--runtime={runtime.program}"]) as activated:
        socket, resting = inode(activated), at_rest(activated)
        with first_client(activated):
            found = runtime.stands_before("create")
            runtime.go_on()
            (maker,) = (process for process in found.values() if program(process) == "crun")
            above = [*line(found, maker)]
            assert above[:3] == ["crun", "conmon", "systemd"], (
                "Podman forks conmon twice, so that it belongs to systemd"
            )
            assert holders(found, socket) == sorted(["conmon", "crun", "podman", *resting]), "as the container is made"

            found = runtime.stands_before("start")
            runtime.go_on()
            first = [process for process in found.values() if program(process) == "crun" and process.holds(socket)]
            assert [program(found[process.parent]) for process in first] == ["conmon"], "the container's first process"
            assert holders(found, socket) == sorted(["conmon", "crun", *resting]), "as the container is started"
        activated.wait_active(Transport.TCP4, Deadline.after(STEP_S))


@pytest.mark.harness_verifies(
    "While the container runs, its process, conmon and systemd hold the sockets, and Podman does not."
)
@pytest.mark.harness_activations
def test_who_holds_the_sockets_of_a_running_container(handover: Handover, harness_activation: Activation) -> None:
    """It is the very socket that systemd listens on: the inode is the same in the container."""
    with handover.activated(harness_activation, TCP4, options=[READABLE]) as activated:
        socket = inode(activated)
        told = report(activated, Transport.TCP4)
        found = processes(activated.session)
        resting = at_rest(activated)
    assert [descriptor.inode for descriptor in told.sockets] == [socket], "the container has another socket"
    assert holders(found, socket) == sorted(["conmon", "python3", *resting]), "while the container runs"


@pytest.mark.harness_verifies(
    "After the stop nobody but systemd holds the sockets, and the next client wakes the service again."
)
@pytest.mark.harness_activations
def test_after_the_stop_only_systemd_holds_them(handover: Handover, harness_activation: Activation) -> None:
    """A process that went on holding them would take clients from the next container."""
    with handover.activated(harness_activation, TCP4, options=[READABLE]) as activated:
        socket, resting = inode(activated), at_rest(activated)
        report(activated, Transport.TCP4)
        activated.stop_service(Deadline.after(STEP_S))
        wait_until(
            lambda: holders(processes(activated.session), socket),
            lambda names: names == resting,
            Deadline.after(LET_GO_S),
            f"the socket to be held by {' and '.join(resting) or 'nobody'} alone",
        )
        report(activated, Transport.TCP4)
