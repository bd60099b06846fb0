"""What stands for a socket in the command and the environment of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.activation import preview_workload
from harness.cli.main import main
from harness.contract import load
from harness.contract.placeholders import filled, unknown
from harness.core.transports import Listener, Transport
from tests.helpers.contracts import BYTES, GOOD, HEAD, TCP, UNIX, mistakes_of, written

WEB = Listener((Transport.TCP4,), 8080, name="web")
CONTROL = Listener((Transport.UNIX,), path="/home/harness/control", name="control")


@pytest.mark.parametrize(
    ("text", "listeners", "told"),
    [
        ("FPM_SOCKETS=127.0.0.1:{port}=3", [WEB], "FPM_SOCKETS=127.0.0.1:8080=3"),
        ("--fd={fd}", [WEB], "--fd=3"),
        ("{address} as {fdname}", [WEB], "127.0.0.1:8080 as web"),
        (
            "{port:web} {path:control} {address:control}",
            [WEB, CONTROL],
            "8080 /home/harness/control /home/harness/control",
        ),
        ("{port} {path}", [Listener((Transport.TCP6, Transport.TCP4), 443)], "443 "),
        # Of a socket that this machine has no client for, and of nothing at all.
        ("{port:gone} {port}", [WEB, CONTROL], "{port:gone} {port}"),
        ("{host} {} {0} {{port}}", [WEB], "{host} {} {0} {8080}"),
    ],
)
def test_placeholders_are_filled_in(text: str, listeners: list[Listener], told: str) -> None:
    """By the only socket, or by that of the name; all else stays as it is."""
    assert filled(text, listeners) == told


@pytest.mark.parametrize(
    ("sockets", "command", "told"),
    [
        (TCP, "{path}", "image.command[0]: '{path}': the socket 'ListenStream=127.0.0.1:3000' has none"),
        (TCP, "{fdname}", "'{fdname}': the socket 'ListenStream=127.0.0.1:3000' has none"),
        (TCP, "{port:web}", "'{port:web}': no socket has the name 'web'; the names are: none has one"),
        (TCP + UNIX, "{port}", "'{port}' means an only socket, and there are 2: say '{port:NAME}'"),
        (TCP + UNIX, "{fd}", "'{fd}': systemd promises no order of several sockets"),
    ],
)
def test_what_stands_for_nothing_is_told(sockets: str, command: str, told: str, tmp_path: Path) -> None:
    """With the key, before anything is started; in a variable as in a command."""
    assert told in mistakes_of(tmp_path, f'{HEAD}{sockets}{BYTES}[image]\ncommand = ["{command}"]\n')["sockets"]
    (wrong,) = mistakes_of(tmp_path, f'{HEAD}{sockets}{BYTES}[image]\nenvironment = {{ A = "{command}" }}\n').values()
    assert told.replace("image.command[0]", "image.environment.A") in wrong


def test_the_container_is_given_them(tmp_path: Path) -> None:
    """At the addresses that a session has placed."""
    text = '[image]\ncommand = ["serve", "--fd={fd}"]\nenvironment = { WHERE = "{address}" }\n'
    workload = preview_workload(load(written(tmp_path, GOOD + text)), "localhost/a", "/home/harness")
    assert workload.command == ("serve", "--fd=3")
    assert "--env=WHERE=127.0.0.1:3000" in workload.options


def test_what_looks_like_one_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A word that means nothing stays as it is, and is told by the check."""
    assert unknown("{home} {fd} {prot} {port:web} {} {A}") == ["{prot}"]
    file = written(tmp_path, GOOD + '[image]\nreference = "localhost/a"\ncommand = ["--port={prot}"]\n')
    assert main(["contract", "check", str(file)]) == 0
    assert "  note     image.command[0]: {prot} means nothing, and stays as it is\n" in capsys.readouterr().out
