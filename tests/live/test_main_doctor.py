"""The command line: `doctor` and `setup`, and how errors become exit statuses."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.capabilities import packages
from harness.capabilities.packages import Installer
from harness.capabilities.table import NEEDED, TABLE, Capabilities
from harness.cli import doctor as doctor_command
from harness.cli import main as cli
from harness.cli.command import Command
from harness.cli.main import main
from harness.core import process
from harness.core.errors import INFRASTRUCTURE, CapabilityMissing, HarnessError, ImageError, UsageError
from harness.core.machine import Machine
from tests.helpers.runs import REPOSITORY

NAMES = {row.name for row in TABLE}


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `doctor` look at a machine that has nothing."""
    monkeypatch.setattr(doctor_command, "Capabilities", lambda: Capabilities(Machine(root=tmp_path)))
    monkeypatch.setenv("COLUMNS", "200")


def doctor(*arguments: str, uid: int | None = None, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the real thing as a user would."""
    env = {**process.base_environment(), "PYTHONPATH": os.fspath(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [python, "-m", "harness", *arguments]
    groups = () if uid is not None else None
    return subprocess.run(
        argv, env=env, user=uid, group=uid, extra_groups=groups, capture_output=True, text=True, timeout=60, check=False
    )


def test_doctor_shows_every_capability_of_this_machine() -> None:
    ended = doctor("doctor")
    here = Capabilities()
    assert ended.returncode == (1 if here.lacking() else 0), ended.stderr
    rows = {
        line.split()[1]: line.split()[0]
        for line in ended.stdout.splitlines()
        if line.startswith("  ") and line[2] != " "
    }
    assert rows.keys() == NAMES
    for name, mark in rows.items():
        assert (mark == "✓") is here.has(name), name
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout, "no colours where nobody looks"


def test_doctor_json_says_the_same() -> None:
    ended = doctor("doctor", "--json")
    document = json.loads(ended.stdout)
    assert document["version"] == 1
    assert document["suites_can_run"] is (ended.returncode == 0)
    assert [one["name"] for one in document["capabilities"]] == [row.name for row in TABLE]
    for one in document["capabilities"]:
        assert one["present"] is Capabilities().has(one["name"])
        assert one["needed"] is any(one["name"] in group for group in NEEDED)
        assert one["enables"]
        assert one["hint"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody without a login session")
def test_doctor_of_a_user_without_a_login_session() -> None:
    nobody = 65534
    # A virtual environment is often in a folder that others may not enter; the harness itself needs no packages here.
    python = shutil.which("python3", path=process.SYSTEM_PATH)
    if python is None:
        pytest.skip("there is no Python for all")
    ended = doctor("doctor", "--json", uid=nobody, python=python)
    if "Permission" in ended.stderr or "No module named harness" in ended.stderr:
        pytest.skip("these files are out of the reach of others")
    found = {one["name"]: one for one in json.loads(ended.stdout)["capabilities"]}
    assert ended.returncode == 1
    assert not found["user_manager"]["present"]
    assert "loginctl enable-linger" in found["user_manager"]["hint"]
    assert found["namespaces"]["detail"].startswith("not needed")
    assert not found["subids"]["present"]
    assert "usermod --add-subuids" in found["subids"]["hint"]


@pytest.mark.usefixtures("bare")
def test_doctor_fails_and_tells_the_way_out_where_something_needed_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "  ✗ podman" in out
    assert "  ✗ runc" in out, "neither runtime is there, so each of them is the way out"
    assert "  · kvm" in out
    assert "found: there is no program 'socat'" in out
    assert "hint: python3 -m harness setup" in out
    last = out.rstrip().splitlines()[-1]
    assert last.startswith("The suites can't run here: systemd, ")
    assert "crun or runc" in last


@pytest.mark.usefixtures("bare")
def test_a_missing_alternative_is_only_an_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "usr/bin/crun"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\necho crun version 1.14.4\n", encoding="utf-8")
    script.chmod(0o755)
    main(["doctor"])
    needed, _, extra = capsys.readouterr().out.partition("Each enables more")
    assert "  ✓ crun " in needed
    assert "1.14.4" in needed
    assert "runc " not in needed.replace("crun ", "")
    assert "  · runc" in extra


@pytest.mark.usefixtures("bare")
def test_doctor_writes_plain_marks_to_a_plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["doctor"])
    out.flush()
    assert b"\x1b[31mx\x1b[0m podman" in raw.getvalue()
    raw.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["doctor"])
    out.flush()
    assert b"  x podman" in raw.getvalue()
    assert b"\x1b" not in raw.getvalue()


def test_setup_says_one_line_where_all_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    if packages.missing():
        pytest.skip("packages are missing here")
    assert main(["setup"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("nothing to install\n", "")


def test_setup_stops_with_the_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=fedora\n", encoding="utf-8")
    dnf = tmp_path / "dnf"
    dnf.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    dnf.chmod(0o755)
    installer = Installer(root=tmp_path, path=os.fspath(tmp_path), uid=1000)
    monkeypatch.setattr(packages, "Installer", lambda: installer)
    assert main(["setup"]) == INFRASTRUCTURE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Hint: Run: su -c 'dnf install --assumeyes --setopt=install_weak_deps=False podman crun " in captured.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("The option 'x' is wrong."), 2),
        (CapabilityMissing("kvm", "no device", "load it"), INFRASTRUCTURE),
        (ImageError("The image 'x' is bad."), 1),
        (HarnessError("The harness is wrong."), 1),
        (KeyboardInterrupt(), 130),
        (ModuleNotFoundError(name="pydantic"), INFRASTRUCTURE),
    ],
)
def test_errors_become_exit_statuses(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_options: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "COMMANDS", (Command("fail", "fails", lambda _parser: None, fails),))
    assert main(["fail"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    other = {
        KeyboardInterrupt: "harness: interrupted",
        ModuleNotFoundError: "The command needs the Python package 'pydantic', which is not installed.\nHint: ",
    }
    assert captured.err.startswith(error.sentence if isinstance(error, HarnessError) else other[type(error)])


@pytest.mark.parametrize("arguments", [["docter"], ["doctor", "--js"]])
def test_a_wrong_command_line_is_the_users(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python3 -m harness" in capsys.readouterr().err


def test_help_shows_the_commands_by_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Also without a command; every command is there, below its group."""
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 0
    groups = {block.partition(":\n")[0]: block for block in capsys.readouterr().out.split("\n\n")}
    for command in cli.COMMANDS:
        assert f"  {command.name} " in groups[command.group], command.name


def test_help_imports_no_package() -> None:
    """Only the command that is meant is imported; `lint` has packages, so the list is one that can have them."""
    program = """
import sys
from harness.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
sys.stderr.write(" ".join({name.partition(".")[0] for name in sys.modules}))
"""
    for arguments, there in ((["--help"], False), (["lint", "--rules"], True)):
        said = process.run([sys.executable, "-c", program, *arguments], timeout_s=30, cwd=str(REPOSITORY))
        assert ("pydantic" in said.stderr.decode().split()) is there


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    """A real bash, which has read what `sah completion bash` prints."""
    printed = process.run([sys.executable, "-m", "harness", "completion", "bash"], timeout_s=30).text
    function = re.findall(r"^complete .*-F (\S+) sah$", printed, re.MULTILINE)[-1]
    script = tmp_path / "completion.bash"
    script.write_text(printed, encoding="utf-8")
    for words, expected in ((("sah", "do"), "doctor"), (("sah", "report", "--ju"), "--junit")):
        typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        line = f'. "{script}"; {typed}; {function}; echo "${{COMPREPLY[*]}}"'
        assert process.run(["bash", "-c", line], timeout_s=10).text.split() == [expected]
