"""What a container tries to reach outside of itself, and does not; each attempt succeeds without its wall.

The walls are those of containers as activations make them: their options, and behind them the session's namespaces.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from harness.session.session import Session
from tests.hostile.test_hostile import hostile

#: A port and an abstract name that somebody in the session listens on.
PORT, NAME = 4713, "harness-wall"

#: Prints `reached` where a connection is taken.
CONNECT = """
import socket, sys
client = socket.socket(socket.{family})
client.settimeout(3)
client.connect({address!r})
print("reached")
"""

#: Prints `reached` where a process of this name can be seen.
SEES = """
import os
names = [open(f"/proc/{{pid}}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit()]
print("reached" if {name!r} in names else names)
"""

#: Prints `reached` where a signal could be sent to the program's parent, which is conmon outside of the container.
SIGNALS = """
import os
parent = os.getppid()
os.kill(parent, 0) if parent else None
print("reached" if parent else "no parent")
"""

WRITES = """
with open({path!r}, "w") as file:
    file.write({text!r})
print("reached")
"""

READS = """
with open({path!r}, "rb") as file:
    file.read(1)
print("reached")
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a program in a container does, and the option of podman's that takes the wall away."""

    code: str
    without_wall: tuple[str, ...]


HOST_NETWORK = ("--network=host",)

#: What is tried -> how, in a session.
ATTEMPTS: dict[str, Callable[[Session], Attempt]] = {
    "a port of the session": lambda _session: Attempt(
        CONNECT.format(family="AF_INET", address=("127.0.0.1", PORT)), HOST_NETWORK
    ),
    "an abstract socket": lambda _session: Attempt(CONNECT.format(family="AF_UNIX", address=f"\0{NAME}"), HOST_NETWORK),
    "the session's D-Bus": lambda session: Attempt(
        CONNECT.format(family="AF_UNIX", address=f"{session.paths.runtime}/bus"),
        seen_as_it_is(session, session.paths.runtime),
    ),
    "the session's systemd": lambda _session: Attempt(SEES.format(name="systemd"), ("--pid=host",)),
    "conmon by a signal": lambda _session: Attempt(SIGNALS, ("--pid=host", "--user=0")),
    "a file of the home": lambda session: Attempt(
        READS.format(path=f"{session.paths.home}/.config/containers/containers.conf"),
        seen_as_it_is(session, session.paths.home),
    ),
    "the image's own files": lambda _session: Attempt(
        WRITES.format(path="/usr/x", text="x"), ("--read-only=false", "--user=0")
    ),
}


def seen_as_it_is(session: Session, folder: str) -> tuple[str, ...]:
    """Return the options by which a container has a folder of the session, as its account."""
    return f"--volume={folder}:{folder}", "--userns=keep-id", f"--user={session.account.uid}"


@contextlib.contextmanager
def listening(session: Session) -> Iterator[None]:
    """Listen in the session, beside all containers."""
    with session.socket(socket.AF_INET, socket.SOCK_STREAM) as port, session.socket(
        socket.AF_UNIX, socket.SOCK_STREAM
    ) as name:  # fmt: skip
        port.bind(("127.0.0.1", PORT))
        name.bind(f"\0{NAME}")
        port.listen()
        name.listen()
        yield


def tried(session: Session, image: str, code: str, *options: str) -> str:
    """Return what a program in a container printed; the options are those of the contracts, and others."""
    base = ["podman", "run", "--rm", "--pull=never", "--read-only"]
    base += [] if HOST_NETWORK[0] in options else ["--network=none"]
    command = ["/usr/bin/python3", "-I", "-S", "-c", code]
    done = session.run([*base, *options, image, *command], check=False)
    return done.text + done.stderr.decode(errors="replace")


@pytest.mark.parametrize("title", ATTEMPTS)
def test_a_container_reaches_nothing_outside_of_it(title: str, harness_runtime: Runtime) -> None:
    """The control is the same attempt with its wall taken away."""
    session, image = harness_runtime.session(), harness_runtime.image(hostile("none")).reference
    attempt = ATTEMPTS[title](session)
    with listening(session):
        inside = tried(session, image, attempt.code)
        assert "reached" not in inside.split(), inside
        without = tried(session, image, attempt.code, *attempt.without_wall)
    assert "reached" in without.split(), without


def test_the_session_is_a_wall_behind_the_container_s(harness_runtime: Runtime) -> None:
    """Without any wall of its own a container sees the session, and nothing of the machine: not this very process."""
    session, image = harness_runtime.session(), harness_runtime.image(hostile("none")).reference
    names = SEES.format(name="no such process")
    seen = tried(session, image, names, "--pid=host", "--network=host", "--privileged", "--user=0")
    assert "systemd" in seen
    own = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    assert f"'{own}'" not in seen
    secret = READS.format(path=f"/proc/{os.getpid()}/environ")
    assert "reached" not in tried(session, image, secret, "--pid=host", "--privileged", "--user=0").split()


def test_nobody_else_s_process_becomes_the_main_one(harness_runtime: Runtime) -> None:
    """A program that may speak to systemd names a process of the session as its service's: see sd_notify(3)."""
    session = harness_runtime.session()
    contract = hostile("none")
    code = (
        "import os, socket, sys; "
        "told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        "told.connect(os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1)); "
        "told.send(b'MAINPID=1\\nREADY=1'); "
        "sys.argv[1:] = ['none']; "
        "exec(compile(open('/usr/local/lib/server.py').read(), 'server', 'exec'))"
    )
    command = ("/usr/bin/python3", "-I", "-S", "-B", "-c", code)
    image = contract.image.model_copy(update={"command": command, "ready": "container"})
    with harness_runtime.service(contract.model_copy(update={"image": image})) as service:
        service.ask_cold(Transport.TCP4)
        service.wait_active(Transport.TCP4)  # the message has come: it says READY=1 as well, and nobody else does
        (unit,) = service.activated.services
        assert session.manager.properties(unit)["MainPID"] != 1
