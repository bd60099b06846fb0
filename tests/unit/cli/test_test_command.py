"""`sah test`: what it makes of its arguments; tests/live/test_battery_runs.py has what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.contract import BackendTable, EchoProbe, HttpProbe, Promise, load
from harness.core.transports import Transport
from tests.helpers.contracts import GOOD, written


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the command lines that would have been run."""
    seen: list[list[str]] = []

    class Ended:
        returncode = 0

    def run(command: list[str], **_options: object) -> Ended:
        seen.append(command)
        return Ended()

    monkeypatch.setattr("subprocess.run", run)
    return seen


def saved(folder: Path, *arguments: str) -> Path:
    """Run the command for an image, and return the contract that it has written."""
    assert main.main(["test", "quay.io/me/Hello:1", *arguments, f"--save={folder}"]) == 0
    return folder / "contract.toml"


def test_an_image_that_answers_a_page(commands: list[list[str]], tmp_path: Path) -> None:
    contract = load(saved(tmp_path, "--listen=tcp4,tcp6:8080", "--listen=unix:sock", "--http=/health"))
    assert (contract.name, contract.image.reference) == ("hello", "quay.io/me/Hello:1")
    assert contract.transports == (Transport.TCP4, Transport.TCP6, Transport.UNIX)
    probe = contract.probe(Transport.TCP4)
    assert isinstance(probe, HttpProbe)
    assert probe.path == "/health"
    (command,) = commands
    assert f"--harness-contract={tmp_path / 'contract.toml'}" in command


def test_an_image_that_answers_bytes(commands: list[list[str]], tmp_path: Path) -> None:
    contract = load(saved(tmp_path, "--listen=tcp4:3000", r"--send=say \"it\"\n", r'--expect=a "b"\n'))
    probe = contract.probe(Transport.TCP4)
    assert (probe.send, probe.expected) == ('say "it"\n', b'a "b"\n')  # type: ignore[attr-defined]
    assert commands


def test_an_image_that_echoes(commands: list[list[str]], tmp_path: Path) -> None:
    probe = load(saved(tmp_path, "--listen=udp4:3000", "--echo", "--send=x")).probe(Transport.UDP4)
    assert isinstance(probe, EchoProbe)
    assert probe.send == "x"
    assert commands


def test_options_of_the_run(commands: list[list[str]], tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    options = ["--activation=unit", "--activation=launcher", "--exhaustive", "-k", "stop"]
    assert main.main(["test", str(tmp_path), *options]) == 0
    (command,) = commands
    assert f"--harness-contract={file.parent}" in command
    assert "--harness-activation=unit,launcher" in command
    assert command[-3:] == ["--harness-exhaustive", "-k", "stop"]


IMAGE = "localhost/hello"


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("where", "backend"),
    [("80", BackendTable(port=80)), ("/run/web/a.sock", BackendTable(path="/run/web/a.sock"))],
)
def test_an_image_that_takes_no_sockets(where: str, backend: BackendTable, tmp_path: Path) -> None:
    """It says where its program listens; the promise that no proxy keeps is waived, with the reason."""
    contract = load(saved(tmp_path, "--listen=tcp4:8080", "--http=/", f"--backend={where}"))
    assert contract.image.backend == backend
    assert set(contract.promises) == {Promise.NO_REPLY_LOST}


TCP = "--listen=tcp4:3000"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((IMAGE,), "for an image '--listen' is missing"),
        ((IMAGE, TCP), "One of '--http PATH', '--echo', and '--expect TEXT'"),
        ((IMAGE, TCP, "--echo", "--http=/"), "One of '--http PATH'"),
        ((IMAGE, TCP, "--http=/", "--send=x"), "One of '--http PATH'"),
        ((IMAGE, "--listen=tcp4", "--echo"), "'--listen tcp4' is no socket."),
        ((IMAGE, TCP, "--echo", "--backend=a/b"), "image.backend.path: allowed is an absolute path"),
        ((IMAGE, TCP, "--echo", "--backend=0"), "image.backend.port: Input should be greater than or equal to 1"),
        ((IMAGE, "--listen=tcp5:1", "--echo"), "'--listen tcp5:1' is no socket."),
        ((IMAGE, "--listen=tcp4:80", "--echo"), "sockets[0].port: expected a number from 1024 on"),
        ((IMAGE, "--listen=tcp4:x", "--echo"), "a 'tcp4' socket takes 'port' and no 'path'"),
        ((IMAGE, TCP, TCP, "--echo"), "the same address stands twice"),
        ((IMAGE, TCP, r"--expect=\q"), "'--expect' has an escape that TOML does not know"),
        ((IMAGE, TCP, "--http=x"), "probe.path: String should match pattern"),
        (("-x", TCP, "--echo"), ""),
    ],
)
def test_wrong_arguments_are_told(
    arguments: tuple[str, ...], said: str, commands: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main.main(["test", *arguments])
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 2
    assert said in capfd.readouterr().err
    assert commands == []


def test_a_contract_and_options_of_an_image(
    commands: list[list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, GOOD)
    assert main.main(["test", str(tmp_path), "--echo", TCP]) == 2
    assert "is a contract, and --echo, --listen can't be used with it" in capfd.readouterr().err
    assert commands == []


def test_no_contract_is_overwritten(
    commands: list[list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, GOOD)
    assert main.main(["test", IMAGE, TCP, "--echo", f"--save={tmp_path}"]) == 2
    assert "is there already" in capfd.readouterr().err
    assert file.read_text(encoding="utf-8") == GOOD
    assert commands == []
