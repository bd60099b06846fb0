"""What a container tries to reach outside of itself, and does not; each attempt succeeds without its wall.

The walls are those of containers as every activation makes them: their options, and behind them the session's
namespaces. An ordinary user's containers have the first of them, see tests/live/test_ordinary_user.py.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import Activation, ask_bytes
from harness.core.deadline import Deadline
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from harness.session import factory
from harness.session.session import Session
from tests.hostile.test_hostile import hostile

#: Longest attempt, in seconds.
LIMIT_S = 20.0

#: A port and an abstract name that somebody in the session listens on.
PORT, NAME = 4713, "harness-wall"

PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")

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

#: Prints `reached` where a signal could be sent to a conmon, which is outside of every container.
SIGNALS = """
import os
numbers = [int(pid) for pid in os.listdir("/proc") if pid.isdigit()]
conmons = [pid for pid in numbers if open(f"/proc/{pid}/comm").read() == "conmon\\n"]
os.kill(conmons[0], 0) if conmons else None
print("reached" if conmons else "there is none")
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


#: Prints `reached` where the account's keyring has a key of this name, see keyctl(2); adds it where it is told to.
KEY = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
numbers = {{"x86_64": (248, 250), "aarch64": (217, 219)}}[os.uname().machine]
USER_KEYRING, SEARCH = -4, 10
if {add}:
    found = libc.syscall(numbers[0], b"user", {name!r}.encode(), b"secret", 6, USER_KEYRING)
else:
    found = libc.syscall(numbers[1], SEARCH, USER_KEYRING, b"user", {name!r}.encode(), 0)
print("reached" if found > 0 else os.strerror(ctypes.get_errno()))
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a program in a container does, and the options of podman's that take the wall away.

    Without such options the wall is the container itself, and the control is the same program beside it.
    """

    code: str
    without_wall: tuple[str, ...] = ()


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
    "the store of images": lambda session: Attempt(
        READS.format(path=f"{factory.STORE}/overlay-images/images.json"), seen_as_it_is(session, factory.STORE)
    ),
    "a setting of the kernel": lambda _session: Attempt(
        WRITES.format(path="/proc/sys/net/ipv4/ip_unprivileged_port_start", text="1024"), ("--privileged", "--user=0")
    ),
    "a device's settings": lambda _session: Attempt(
        WRITES.format(path="/sys/class/net/lo/mtu", text="65536"), ("--privileged", "--user=0")
    ),
    "a key of the account": lambda _session: Attempt(KEY.format(name=NAME, add=False)),
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
        added = session.run([*PYTHON, KEY.format(name=NAME, add=True)]).text
        assert added == "reached\n", added
        yield


def tried(session: Session, image: str, code: str, *options: str) -> str:
    """Return what a program in a container printed; the options are those of the contracts, and others."""
    base = ["podman", "run", "--rm", "--pull=never", "--read-only"]
    base += [] if HOST_NETWORK[0] in options else ["--network=none"]
    done = session.run([*base, *options, image, *PYTHON, code], check=False)
    return done.text + done.stderr.decode(errors="replace")


@pytest.mark.parametrize("title", ATTEMPTS)
def test_a_container_reaches_nothing_outside_of_it(title: str, harness_runtime: Runtime) -> None:
    """The control is the same attempt with its wall taken away."""
    session, image = harness_runtime.session(), harness_runtime.image(hostile("none")).reference
    attempt = ATTEMPTS[title](session)
    with listening(session):
        inside = tried(session, image, attempt.code)
        assert "reached" not in inside.split(), inside
        if attempt.without_wall:
            without = tried(session, image, attempt.code, *attempt.without_wall)
        else:
            without = session.run([*PYTHON, attempt.code]).text
    assert "reached" in without.split(), without


@pytest.mark.harness_activations
def test_nor_does_an_activated_one(harness_runtime: Runtime, harness_activation: Activation) -> None:
    """The same attempts by a program that has its socket from systemd; each of them is a request."""
    session, contract = harness_runtime.session(), hostile("runs")
    image = contract.image.model_copy(update={"read_only": True})
    with listening(session), harness_runtime.service(
        contract.model_copy(update={"image": image}), harness_activation.name
    ) as service:  # fmt: skip
        endpoint = service.activated.workload.endpoints[Transport.TCP4]
        said = {
            title: ask_bytes(session, endpoint, make(session).code.encode(), Deadline.after(LIMIT_S)).body.decode()
            for title, make in ATTEMPTS.items()
        }
        control = ask_bytes(session, endpoint, b"print('reached')", Deadline.after(LIMIT_S)).body
    assert control == b"reached\n"
    assert [title for title, text in said.items() if not text or "reached" in text.split()] == [], said


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
