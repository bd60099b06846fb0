"""What the harness itself costs, as ratios against bare commands in the same run; it prints and judges nothing."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import contract, probes
from harness.activation.service import Service
from harness.capabilities.table import Capabilities
from harness.cli.command import Command, say
from harness.contract import BackendTable, Contract, Sends
from harness.core import progress
from harness.core.cache import default_folder
from harness.core.deadline import Deadline
from harness.core.process import base_environment, run
from harness.core.progress import Progress
from harness.core.transports import Transport
from harness.core.userland import HOST, Userland
from harness.guest.engines.base import Mode
from harness.guest.engines.select import choose
from harness.images.bases import Base
from harness.images.store import ImageStore
from harness.probes import Client, native
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings
from harness.session import factory
from harness.session.session import Session
from harness.userlands.store import UserlandStore

#: A cold activation in a shell: the client that the tutorial uses, timed by the shell's own clock.
_SHELL_LOOP = """\
start=$(date +%s%N)
reply=$(printf 'hello\\n' | socat -t 30 - "$1")
end=$(date +%s%N)
[ "$reply" = hello ] && echo $((end - start))
"""


#: An image that keeps every promise, and one that keeps none.
_SOUND, _DEAD = Path("tests/faults"), Path("tests/broken/dies-on-start")

#: The same server as a program that takes its socket, and as one that listens by itself.
_TAKES, _LISTENS = Path("tests/stranger/bytes"), Path("tests/stranger/listens")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result."""

    what: str
    value: str
    against: str = ""


def milliseconds(values: Sequence[float]) -> str:
    """Return the median and the range of `values`, which are in seconds."""
    low, high = min(values) * 1000, max(values) * 1000
    return f"{statistics.median(values) * 1000:7.1f} ms  ({low:.1f} to {high:.1f}, n={len(values)})"


def ratio(ours: Sequence[float], bare: Sequence[float]) -> str:
    """Return the ratio of the medians."""
    return f"{statistics.median(ours) / statistics.median(bare):.3f}"


def measure(folder: Path, progress: Progress, rounds: int) -> Iterator[Row]:
    """Measure everything with the contract in `folder`, which is to have a bytes probe over tcp4."""
    runtime = Runtime(Settings(), progress)
    store, subject = runtime.store, contract.load(folder)
    runtime.image(subject)
    yield from _lookup(store, subject, runtime.base)
    progress("sessions")
    userlands = UserlandStore(default_folder())
    names = dict.fromkeys(one.name for one in userlands.unpacked()) if factory.is_isolated() else {}
    yield from _sessions(store.graph, [HOST, *map(userlands.get, names)], rounds)
    progress("cold activations and warm probes")
    with (
        factory.open_session(store.graph) as session,
        runtime.service(subject, "unit", session=session) as service,
    ):
        yield from _cold(session, service, rounds)
        yield from _warm(session, service, rounds * 50)


def suites(folder: Path, progress: Progress) -> Iterator[Row]:
    """Measure whole runs of the suites in `folder`, with one worker and with two, and the vsock part on its own."""
    pytest = [sys.executable, "-m", "pytest", os.fspath(folder), "-q", "-p", "no:cacheprovider"]
    allowed = ("HARNESS_CACHE", "HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "PYTHONPATH")
    environment = base_environment((*("PATH", "TERM"), *allowed))
    took = {}
    for name, more in (("collection", ["--collect-only"]), ("-n 0", ["-n", "0"]), ("-n 2", ["-n", "2"])):
        progress(f"suites, {name}")
        started = time.monotonic()
        run([*pytest, *more], timeout_s=900, env=environment)
        took[name] = time.monotonic() - started
    yield Row("suites, collection only", f"{took['collection']:7.2f} s")
    yield Row("suites, -n 0", f"{took['-n 0']:7.2f} s")
    plan = choose(Mode.AUTO, None)
    if plan.engine and not Capabilities().has("vsock_loopback"):
        progress(f"vsock in a guest, {plan.name}")
        took["vsock"] = _timed(lambda: run([*pytest, "-n", "0", "-k", "vsock"], timeout_s=900, env=environment))
        yield Row(f"vsock in a guest ({plan.engine.name}), boot to last report", f"{took['vsock']:7.2f} s", plan.name)
    yield Row("suites, -n 2", f"{took['-n 2']:7.2f} s", f"{took['-n 2'] / took['-n 0']:.3f} of -n 0")


def _timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _lookup(store: ImageStore, subject: Contract, base: Base) -> Iterator[Row]:
    took = [_timed(lambda: store.image(subject, base)) for _ in range(20)]
    yield Row("look up a built image", milliseconds(took))


def _sessions(graph: Path, userlands: Sequence[Userland], rounds: int) -> Iterator[Row]:
    """Open and close sessions of each userland by turns."""
    ready: dict[str, list[float]] = {userland.name: [] for userland in userlands}
    gone, prepared = [], []
    for _ in range(rounds):
        for userland in userlands:
            started = time.monotonic()
            with factory.open_pristine_session(graph, userland) as session:
                ready[userland.name].append(time.monotonic() - started)
                unshared = _timed(lambda session=session: session.run(["podman", "unshare", "true"]))  # type: ignore[misc]
                started = time.monotonic()
            if userland.is_host:
                prepared.append(unshared)
                gone.append(time.monotonic() - started)
    own = ready.pop(HOST.name)
    yield Row("session ready", milliseconds(own))
    for name, took in ready.items():
        yield Row(f"session ready, {name}", milliseconds(took), ratio(took, own))
    yield Row("  podman's pause process", milliseconds(prepared))
    yield Row("session gone", milliseconds(gone))


def _cold(session: Session, service: Service, rounds: int) -> Iterator[Row]:
    """Wake the same service by turns with our probes and with a loop in a shell, in the same session."""
    address = service.activated.workload.endpoints[Transport.TCP4].socat
    found: dict[str, list[float]] = {"native": [], "socat": [], "shell": []}
    stops = []
    for _ in range(rounds):
        for client, took in found.items():
            if client == "shell":
                done = session.run(["/bin/sh", "-c", _SHELL_LOOP, "loop", address])
                took.append(int(done.text) / 1e9)
            else:
                took.append(service.ask_cold(Transport.TCP4, Client(client)).times.whole_s)
            service.wait_active(Transport.TCP4)
            stops.append(_timed(service.stop_service))
            session.manager.reset_failed()  # systemd allows five starts in ten seconds
    yield Row("cold activation, a shell loop with socat", milliseconds(found["shell"]))
    yield Row("cold activation, native", milliseconds(found["native"]), ratio(found["native"], found["shell"]))
    yield Row("cold activation, socat", milliseconds(found["socat"]), ratio(found["socat"], found["shell"]))
    yield Row("stop", milliseconds(stops))


def _warm(session: Session, service: Service, rounds: int) -> Iterator[Row]:
    """Ask the running service by turns with the native probe and with a plain socket."""
    service.ask_cold(Transport.TCP4)
    service.wait_active(Transport.TCP4)
    endpoint = service.activated.workload.endpoints[Transport.TCP4]
    promised = service.contract.probe(Transport.TCP4)
    assert isinstance(promised, Sends)
    sent = promised.send.encode()
    ours, bare = [], []
    for _ in range(rounds):
        ours.append(native.ask(session, endpoint, sent, Deadline.after(5)).times.whole_s)
        with session.socket(socket.AF_INET, socket.SOCK_STREAM) as plain:
            bare.append(_timed(lambda plain=plain: _talk(plain, endpoint.port, sent)))  # type: ignore[misc]
    yield Row("warm, a plain socket", milliseconds(bare))
    yield Row("warm, native", milliseconds(ours), ratio(ours, bare))
    socat = [probes.socat.ask(session, endpoint, sent, Deadline.after(5)).times.whole_s for _ in range(10)]
    yield Row("warm, socat", milliseconds(socat), ratio(socat, bare))


def _talk(plain: socket.socket, port: int, sent: bytes) -> None:
    plain.connect(("127.0.0.1", port))
    plain.sendall(sent)
    plain.shutdown(socket.SHUT_WR)
    while plain.recv(65536):
        pass


def batteries(progress: Progress, rounds: int) -> Iterator[Row]:
    """Run the battery as a user does, by turns: of a sound image, by one activation and by all, and of a dead one."""
    subjects = {
        "battery, one activation": (_SOUND, "--activation=unit", 0),
        "battery, all activations": (_SOUND, "--exhaustive", 0),
        "battery of a dead image": (_DEAD, "--activation=unit", 1),
    }
    took: dict[str, list[float]] = {name: [] for name in subjects}
    wrong: dict[str, int] = dict.fromkeys(subjects, 0)
    for number in range(rounds):
        for name, (folder, option, right) in subjects.items():
            progress(f"{name}, {number + 1} of {rounds}; wrong so far: {sum(wrong.values())}")
            started = time.monotonic()
            command = [sys.executable, "-m", "harness", "test", os.fspath(folder), option]
            done = run(command, timeout_s=900, env=dict(os.environ), check=False)
            took[name].append(time.monotonic() - started)
            if done.status != right:
                wrong[name] += 1
                progress(done.text[-2000:])
    for name, values in took.items():
        low, high = min(values), max(values)
        seen = f"{statistics.median(values):7.1f} s  ({low:.1f} to {high:.1f}, n={len(values)})"
        yield Row(name, seen, f"{wrong[name]} of {rounds} wrong")


def proxied(progress: Progress, rounds: int) -> Iterator[Row]:
    """Wake by turns a program that takes its socket, and one behind a proxy, at a port and at a path."""
    listens = contract.load(_LISTENS)
    at_path = BackendTable(path="/run/own/own.sock")
    command = (*listens.image.command[:-2], str(at_path.path), "0")
    image = listens.image.model_copy(update={"backend": at_path, "command": command})
    subjects = {
        "cold, its socket": contract.load(_TAKES),
        "cold, proxied to a port": listens,
        "cold, proxied to a path": listens.model_copy(update={"image": image}),
    }
    took: dict[str, list[float]] = {name: [] for name in subjects}
    with contextlib.ExitStack() as stack:
        runtime = stack.enter_context(Runtime(Settings(), progress))
        services = {}
        for name, subject in subjects.items():
            session = stack.enter_context(runtime.quiet_session())
            services[name] = stack.enter_context(runtime.service(subject, session=session))
        for _ in range(rounds):
            for name, service in services.items():
                took[name].append(service.ask_cold(Transport.TCP4, Client.NATIVE).times.whole_s)
                service.stop_service()
                service.session.manager.reset_failed()  # and with it the counter of starts, which systemd limits
    own = took["cold, its socket"]
    for name, values in took.items():
        yield Row(name, milliseconds(values), ratio(values, own))


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batteries", type=int, metavar="ROUNDS", help="run this many batteries, and nothing else")
    parser.add_argument("--proxied", type=int, metavar="ROUNDS", help="compare cold activations behind a proxy")
    parser.add_argument("--contract", type=Path, default=Path("containers/echo"), help="what to activate")
    parser.add_argument("--suites", type=Path, default=Path("suites"), help="the suites to run as a whole")
    parser.add_argument("--rounds", type=int, default=15, help="how often to measure each thing (default: 15)")


def _bench(options: argparse.Namespace) -> int:
    """Print what the harness itself costs."""
    rows: Iterator[Row] = itertools.chain(
        measure(options.contract, progress.to_stderr, options.rounds),
        suites(options.suites, progress.to_stderr),
    )
    if options.batteries:
        rows = batteries(progress.to_stderr, options.batteries)
    if options.proxied:
        rows = proxied(progress.to_stderr, options.proxied)
    for row in rows:
        say(f"{row.what:42} {row.value:42} {row.against}")
        sys.stdout.flush()
    return 0


COMMANDS = (Command("bench", "measure what the harness itself costs", _bench_arguments, _bench),)
