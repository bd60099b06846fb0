"""What lies beside unit files: files of the home folder and of a Quadlet, secrets; and what is missing of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.battery.promises import attempt
from harness.battery.trial import PromiseBroken, Trial
from harness.contract import Promise
from harness.contract.units import read
from harness.core.errors import UnitsError
from harness.core.transports import Transport
from harness.probes import Supplies
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings
from tests.helpers.runs import REPOSITORY
from tests.helpers.units import of

#: Replies with what it finds, and leaves a file of a user that only podman's namespace has.
PROGRAM = """\
import os, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def text(path): return open(path).read().strip()
open("/data/written", "w").write("x")
with socket.socket(fileno=3) as listener:
    while True:
        client, _peer = listener.accept()
        client.recv(100)
        client.sendall(f"{text('/etc/own/greeting')} {text('/run/secrets/word')} {os.environ['NAME']}".encode())
        client.close()
"""

SOCKET = "[Socket]\nListenStream=127.0.0.1:8010\n"

SERVICE = """\
[Unit]
Requires=own.socket
After=own.socket

[Service]
Type=notify
NotifyAccess=all
EnvironmentFile=%h/own/environment
ExecStart=podman run --detach --rm --replace --name=own --network=none --pull=never --cgroups=no-conmon \\
    --sdnotify=conmon --env=NAME --secret word --volume=%h/own:/etc/own:ro -v %h/data:/data \\
    localhost/echo-one /usr/bin/python3 -I -S -B /etc/own/program.py
ExecStop=podman stop --ignore own
"""

QUADLET = """\
[Unit]
Requires=own.socket
After=own.socket

[Container]
Image=localhost/echo-one
Exec=/usr/bin/python3 -I -S -B /etc/own/program.py
Network=none
Secret=word
Volume=./own:/etc/own:ro
Volume=%h/data:/data
Environment=NAME=me
"""

PROBES = '[probe]\nkind = "bytes"\nsend = "x"\nexpect = "hello sesame me"\n'


def written(folder: Path, name: str, text: str, beside: str) -> Path:
    """Write the units and, in a folder of its own, what the container finds below /etc/own."""
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "echo-one").symlink_to(REPOSITORY / "examples" / "accept" / "images" / "echo-one")
    (folder / beside).mkdir(parents=True)
    (folder / "home" / "data").mkdir(parents=True, mode=0o777)
    (folder / "secrets").mkdir()
    for file, content in {
        "own.socket": SOCKET,
        name: text,
        "probes.toml": PROBES,
        f"{beside}/greeting": "hello\n",
        f"{beside}/environment": "NAME=me\n",
        f"{beside}/program.py": PROGRAM,
        "secrets/word": "sesame",
    }.items():
        (folder / file).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A service whose files are below the home folder."""
    return written(tmp_path / "own", "own.service", SERVICE, "home/own")


def test_a_service_finds_them_and_nothing_is_left(unit: Path, harness_runtime: Runtime) -> None:
    """Also what a container has written into them; a second service finds them as they were."""
    (unit / "own.service").write_text(SERVICE.replace("localhost", "--user=0 localhost"), encoding="utf-8")
    with of(unit, harness_runtime) as own:
        (contract,) = own.contracts.values()
        session = own.session()
        for _again in range(2):
            with own.service(contract) as service:
                attempt(Promise.EVERY_SOCKET, Trial(service, Transport.TCP4))
                assert session.outside(f"{session.paths.home}/data/written").exists()
        assert not {"own", "data"} & {path.name for path in session.outside(session.paths.home).iterdir()}
        assert session.run(["podman", "secret", "ls", "--quiet"]).text == ""


def test_a_quadlet_finds_what_is_beside_it(tmp_path: Path, harness_runtime: Runtime) -> None:
    """A path that begins with a dot is one beside the file."""
    text = QUADLET.replace("Network=none", "Network=none\nUser=0")
    folder = written(tmp_path / "own", "own.container", text, "own")
    with of(folder, harness_runtime.beside("trixie")) as own:
        (contract,) = own.contracts.values()
        with own.service(contract) as service:
            attempt(Promise.EVERY_SOCKET, Trial(service, Transport.TCP4))
        session = own.session()
        assert "own" not in {path.name for path in session.outside(session.paths.quadlets).iterdir()}


def test_a_folder_of_the_machine(unit: Path, tmp_path: Path, harness_runtime: Runtime) -> None:
    """Refused, unless it is allowed; then it is read, and not written."""
    (tmp_path / "served").mkdir()
    (unit / "home" / "own").rename(tmp_path / "served" / "own")
    text = SERVICE.replace("%h/own", f"{tmp_path}/served/own").replace("%h/data", f"{tmp_path}/served")
    (unit / "own.service").write_text(text, encoding="utf-8")
    with pytest.raises(UnitsError, match=r"a container would see '.*/served/own' of the machine"):
        read(unit)
    allowed = Settings(units=(unit,), binds=(tmp_path / "served",))
    with Runtime(allowed, base=harness_runtime.base, store=harness_runtime.store) as own:
        (contract,) = own.contracts.values()
        with own.service(contract) as service, pytest.raises(PromiseBroken, match="Read-only file system"):
            Trial(service, Transport.TCP4).wake()
    quiet = PROGRAM.replace('open("/data/written", "w").write("x")', "")
    (tmp_path / "served" / "own" / "program.py").write_text(quiet, encoding="utf-8")
    with Runtime(allowed, base=harness_runtime.base, store=harness_runtime.store) as own:
        (contract,) = own.contracts.values()
        with own.service(contract) as service:
            Trial(service, Transport.TCP4).wake()


# -- what is missing --------------------------------------------------------------------------------------------------


def mistakes(folder: Path) -> list[tuple[str, str]]:
    """Return what is wrong, with the files."""
    with pytest.raises(UnitsError) as caught:
        read(folder)
    return list(caught.value.mistakes)


def test_all_that_is_missing_is_said_at_once(unit: Path) -> None:
    (unit / "secrets" / "word").unlink()
    (unit / "home" / "data").rmdir()
    (unit / "home" / "own" / "environment").unlink()
    assert mistakes(unit) == [
        ("own.service", "it wants the secret 'word', whose text belongs into 'secrets/word' beside it"),
        ("own.service", "it wants '%h/own/environment', which belongs into 'home/own/environment' beside it"),
        ("own.service", "it wants '%h/data', which belongs into 'home/data' beside it"),
    ]


def test_a_way_out_of_the_home_folder(unit: Path) -> None:
    (unit / "own.service").write_text(SERVICE.replace("%h/data", "%h/../../srv"), encoding="utf-8")
    assert mistakes(unit) == [("own.service", "'%h/../../srv' leads out of the home folder")]


def test_what_a_unit_makes_is_not_missing(unit: Path) -> None:
    """By `mkdir`, or by a socket that systemd makes there."""
    (unit / "home" / "data").rmdir()
    made = SERVICE.replace("ExecStart=", "ExecStartPre=/usr/bin/mkdir -p %h/data\nExecStart=")
    (unit / "own.service").write_text(made, encoding="utf-8")
    assert read(unit).secrets == {"word": "sesame"}
    (unit / "own.service").write_text(SERVICE, encoding="utf-8")
    (unit / "own.socket").write_text(f"{SOCKET}ListenStream=%h/data/own.sock\n", encoding="utf-8")
    assert read(unit)


def test_what_can_t_be_brought(unit: Path) -> None:
    (unit / "home" / "own" / "link").symlink_to("/etc/passwd")
    (unit / "secrets" / "large").write_bytes(bytes(2**16 + 1))
    with (unit / "home" / "data" / "sparse").open("wb") as file:
        file.truncate(2**24 + 1)
    (unit / "secrets" / "nothing").write_text("\n", encoding="utf-8")
    found = ["home/own/link", "home", "secrets/large", "secrets/nothing"]
    assert [where for where, _what in mistakes(unit)] == found


def test_a_secret_is_masked_without_its_newline() -> None:
    """Editors end files with one, and programs strip it."""
    assert Supplies(secrets={"word": "sesame\n"}).masked("open sesame!") == "open {secret:word}!"


def test_a_quadlet_without_what_should_be_beside_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "own", "own.container", QUADLET, "elsewhere")
    assert mistakes(folder) == [("own.container", "it wants './own', and there is none beside it")]
