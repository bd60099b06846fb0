"""The command `contract`: what it writes, what it says, and that it starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.activation import generate
from harness.cli.main import main
from harness.contract import FILE_NAME, load
from harness.core.transports import Transport
from tests.helpers.contracts import BYTES, GOOD, HEAD, UNIX, written
from tests.helpers.runs import REPOSITORY

SETTINGS = REPOSITORY / "tests" / "settings"


def test_a_new_contract_is_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It loads as it is, every commented key is one, and the commands for the next step are said."""
    monkeypatch.chdir(tmp_path)
    assert main(["contract", "new", "my-image"]) == 0
    file = Path("my-image", FILE_NAME)
    said = capsys.readouterr().out

    loaded = load(file)
    assert (loaded.name, loaded.image.reference) == ("my-image", "localhost/my-image:latest")
    assert f"python3 -m harness contract check {file}" in said
    text = file.read_text(encoding="utf-8")
    for example in text.split("# [probe]\n")[1:]:
        probe = "[probe]\n" + example.replace("# ", "")
        assert load(written(tmp_path / "example", GOOD.replace(BYTES, probe))).probe(Transport.TCP4)


def test_a_contract_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person's work is worth more than ours."""
    file = written(tmp_path / "a", "mine")

    assert main(["contract", "new", str(tmp_path / "a")]) == 2
    assert file.read_text(encoding="utf-8") == "mine"
    assert f"'{file}' is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Capitals", "a b", "-a", "a" * 33, "a/.."])
def test_names_that_no_contract_can_have(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written."""
    assert main(["contract", "new", "--", str(tmp_path / name)]) == 2
    assert "can't be the name of a contract" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the folder, which is named."""
    (tmp_path / "a").touch()
    assert main(["contract", "new", str(tmp_path / "a")]) == 2
    assert f"'{tmp_path / 'a'}' is there already" in capsys.readouterr().err


def test_what_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, in words, and by which activations it can be tested."""
    assert main(["contract", "check", str(SETTINGS)]) == 0
    said = capsys.readouterr().out

    for part in (
        "image    on debian: ",
        "variable GREETING",
        "volume   data at /data",
        "tmpfs    /scratch",
        "secret   token",
        "option   --cap-drop=all",
        "network  none; ready by conmon",
        "socket   3: tcp4; ListenStream=127.0.0.1:3000; FileDescriptorName=web; Backlog=7; NoDelay=yes",
        "socket   5: tcp4; ListenStream=127.0.0.1:3001; FileDescriptorName=extra; not probed",
        "probe    unix: run /usr/bin/python3 ",
        "by       launcher: systemd-socket-activate(1) has no option for Backlog, NoDelay, SocketMode",
        "by       unit: can be tested",
    ):
        assert part in said


def test_all_mistakes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a status for scripts, and nothing on the standard output."""
    file = written(tmp_path, GOOD.replace("3000", "1").replace('"echo"', '"E"'))
    assert main(["contract", "check", str(file)]) == 2
    said = capsys.readouterr()

    assert "sockets[0].port: " in said.err
    assert "name: " in said.err
    assert said.out == ""


def test_an_image_without_a_containerfile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The most common mistake in a folder that one has just made."""
    assert main(["contract", "check", str(written(tmp_path, GOOD))]) != 0
    assert "has no Containerfile" in capsys.readouterr().err
    assert main(["contract", "check", str(written(tmp_path, GOOD, **{"Containerfile.debian": "FROM x"}))]) == 0
    said = capsys.readouterr().out
    assert "on fedora: none" in said
    assert f"on debian: {tmp_path}/Containerfile.debian" in said


def test_what_would_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every unit, every command, in the order of the activations; no program is started for it."""
    monkeypatch.setattr("subprocess.Popen", None)
    file = written(tmp_path, HEAD + UNIX + BYTES)
    assert main(["contract", "explain", str(file)]) == 0
    said = capsys.readouterr().out

    for part in (
        "## activation generate\n",
        "podman generate systemd --name --new echo > echo.service\n",
        "## activation launcher\n",
        "/usr/bin/systemd-socket-activate --listen=/home/harness/echo ",
        "## activation quadlet\n",
        "# echo.container\n",
        "[Container]\nImage=",
        "## activation unit\n",
        "[Socket]\nListenStream=/home/harness/echo\n",
        "ExecStart=podman run --name=echo ",
        "## clients\n",
        "# unix\nprintf %s a | socat - unix:/home/harness/echo,shut-none\n",
    ):
        assert part in said
    assert [line for line in said.splitlines() if line.startswith("## ")] == [
        "## activation generate", "## activation launcher", "## activation quadlet", "## activation unit", "## clients",
    ]  # fmt: skip


def test_what_can_not_be_done_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """In place of what would be done."""
    assert main(["contract", "explain", str(SETTINGS)]) == 0
    said = capsys.readouterr().out

    assert "## activation launcher\nskipped: systemd-socket-activate(1) has no option for Backlog" in said
    assert "# settings-2.socket\n" in said
    assert "Service=settings.service\nFileDescriptorName=control\nSocketMode=0600\n" in said
    assert "{secret:token}" in said


def test_the_commands_of_generate_are_those_that_are_run() -> None:
    """What is shown comes from the same two functions."""
    assert generate.ACTIVATION._preview is generate.preview
