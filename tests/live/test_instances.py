"""Sockets whose clients systemd accepts: an instance for each, a container for each, and nothing after them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.battery.promises import attempt, promises
from harness.battery.trial import PromiseBroken, Trial
from harness.contract import Promise
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from tests.helpers.runs import REPOSITORY, run_pytest
from tests.helpers.units import served
from tests.live.test_shipped_units import change

EXAMPLE = REPOSITORY / "examples" / "accept"

#: What the image of the example runs, as far as the tests change it.
PYTHON = "/usr/bin/python3 -I -S -B -c"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example."""
    shutil.copytree(EXAMPLE, tmp_path / "accept")
    return tmp_path / "accept"


def tried(folder: Path, runtime: Runtime) -> None:
    """Try the only promise of the only socket."""
    for service in served(folder, runtime):
        attempt(Promise.INSTANCES, Trial(service, Transport.TCP4))


# -- what is sound ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("userland", ["", "trixie"])
def test_the_example(userland: str, harness_runtime: Runtime) -> None:
    """One client and eight at once; no other promise is about such a socket."""
    for service in served(EXAMPLE, harness_runtime.beside(userland) if userland else harness_runtime):
        attempt(Promise.INSTANCES, Trial(service, Transport.TCP4))
        asked = tuple(Transport)
        found = promises(service.contract, harness_runtime.activation("shipped"), asked, frozenset())
        assert [promise for promise, _contract, _transport in found] == [Promise.INSTANCES]


def test_as_many_clients_as_may_come(folder: Path, harness_runtime: Runtime) -> None:
    """systemd refuses more than MaxConnections= says, and nobody comes whom it would refuse."""
    change(folder / "echo.socket", "MaxConnections=16", "MaxConnections=2")
    tried(folder, harness_runtime)


def test_a_connection_as_standard_input(folder: Path, harness_runtime: Runtime) -> None:
    """Podman in the foreground hands on what its own standard input and output are, as inetd's programs take it."""
    change(folder / "echo@.service", "ExecStart=podman run", "StandardInput=socket\nExecStart=podman run --interactive")
    change(folder / "echo@.service", "localhost/echo-one", "localhost/echo-one /bin/cat")
    tried(folder, harness_runtime)


QUADLET = "[Container]\nImage=localhost/echo-one\nNetwork=none\n{name}\n"


def test_a_quadlet_whose_name_systemd_fills_in(folder: Path, harness_runtime: Runtime) -> None:
    """Without it Podman's generator names the container by the instance, which podman itself refuses."""
    (folder / "echo@.service").unlink()
    quadlet, runtime = folder / "echo@.container", harness_runtime.beside("trixie")
    quadlet.write_text(QUADLET.format(name="ContainerName=echo-${INVOCATION_ID}"), encoding="utf-8")
    tried(folder, runtime)
    quadlet.write_text(QUADLET.format(name=""), encoding="utf-8")
    with pytest.raises(PromiseBroken, match="names must match"):
        tried(folder, runtime)


def test_a_client_of_an_api_user(harness_runtime: Runtime) -> None:
    """`ask` says what came back; the instance ends with its client."""
    for service in served(EXAMPLE, harness_runtime):
        assert not service.is_active(Transport.TCP4)
        assert service.ask(Transport.TCP4).body == service.ask(Transport.TCP4).body != b""


def test_other_suites_have_nothing_to_try(tmp_path: Path) -> None:
    """What they promise is of a run: none of their tests is run, and none is in the way of those that are."""
    chosen = ("suites/test_replies.py", "suites/test_timing.py", "suites/test_battery.py", "--harness-strict")
    run = run_pytest(tmp_path, *chosen, f"--harness-units={EXAMPLE}")
    assert run.outcomes == {"test_promise[accept-shipped-tcp4-instances]": "passed"}, run.output


# -- negative controls ------------------------------------------------------------------------------------------------


def one_name(folder: Path) -> None:
    change(folder / "echo@.service", "podman run --rm", "podman run --rm --replace --name=echo")


def name_of_the_instance(folder: Path) -> None:
    change(folder / "echo@.service", "podman run --rm", "podman run --rm --name=echo-%i")


def accepts_itself(folder: Path) -> None:
    code = "import socket; socket.socket(fileno=3).accept()"
    change(folder / "echo@.service", "localhost/echo-one", f'localhost/echo-one {PYTHON} "{code}"')


def outlives_its_client(folder: Path) -> None:
    code = "import socket, time; s = socket.socket(fileno=3); s.sendall(s.recv(65536)); time.sleep(60)"
    change(folder / "echo@.service", "localhost/echo-one", f'localhost/echo-one {PYTHON} "{code}"')


def fails_in_the_end(folder: Path) -> None:
    code = "import socket; s = socket.socket(fileno=3); s.sendall(s.recv(65536)); s.recv(1); exit(3)"
    change(folder / "echo@.service", "localhost/echo-one", f'localhost/echo-one {PYTHON} "{code}"')


def no_standard_input(folder: Path) -> None:
    change(folder / "echo@.service", "ExecStart=podman run", "StandardInput=socket\nExecStart=podman run")
    change(folder / "echo@.service", "localhost/echo-one", "localhost/echo-one /bin/cat")


WRONG: dict[Callable[[Path], None], str] = {
    one_name: r"of 8 clients at once, reply \d over tcp4: expected ",
    name_of_the_instance: r"got nothing.*; it said at last 'Error: .* names must match",
    accepts_itself: r"got nothing.*; it said at last 'OSError: .*Invalid argument'",
    outlives_its_client: r"3 s after 1 client, this is left: 'echo@0-[^']*' \(active\), container [0-9a-f]{12}$",
    fails_in_the_end: r"3 s after 1 client, this is left: 'echo@0-[^']*' \(failed\)$",
    no_standard_input: r"expected .*, got nothing",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_is_said(wrong: Callable[[Path], None], folder: Path, harness_runtime: Runtime) -> None:
    """The control is the example without the change."""
    wrong(folder)
    (folder / "probes.toml").write_text('limits.stop_s = 3.0\n[probe]\nkind = "echo"\n', encoding="utf-8")
    with pytest.raises(PromiseBroken) as caught:
        tried(folder, harness_runtime)
    assert re.search(WRONG[wrong], caught.value.wrong), caught.value.wrong
