"""The machine that has nothing but Python, on which CI runs the README's commands (`tox -e fresh`)."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.runtime import leaks
from tests.helpers.runs import REPOSITORY
from tests.helpers.sessions import isolated
from tests.machines import bare, fresh, pristine

#: How long the machine of a killed run may take to be gone, in seconds.
GONE_S = 10.0

LOOK = """
stat --format='%n %a' /dev/net/tun /dev/null; echo "home: $(ls -A ~ | tr '\\n' ' ')"; echo "mail: $HOME $(id -u)"
for name in pip pip3 podman git curl sudo; do command -v $name; done
python3 -c 'import ensurepip, venv; print("venv")'; ls -d .git .tox 2>/dev/null
test -f harness-artifacts/look && echo tree
"""


def test_the_commands_are_the_readmes_own() -> None:
    found = fresh.commands((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    names = [command.removeprefix(".ci/tox ") for command in found]
    assert names == ["suites", "tests"]
    assert all(f"testenv:{name}" in tox for name in names)


def test_a_readme_without_commands_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no block of commands"):
        fresh.commands("## Run it\n\nSomehow.\n")


def test_settings_that_name_files_and_folders_are_carried_over(tmp_path: Path) -> None:
    """A file gets a place that no package of the root owns; an index comes with the files beside it."""
    certificate, index = tmp_path / "ca.pem", tmp_path / "index/simple"
    certificate.touch()
    index.mkdir(parents=True)
    paths = pristine.Paths()
    assert paths.moved(os.fspath(certificate)) == "/etc/machine/ca.pem"
    assert paths.moved(f"file://{index} {tmp_path}") == f"file://{index}\n{tmp_path}"
    assert paths.moved("https://example.invalid/simple 180") == "https://example.invalid/simple\n180"
    assert paths.copies == {"/etc/machine/ca.pem": os.fspath(certificate)}
    assert paths.folders == {os.fspath(index.parent), os.fspath(tmp_path)}


def told(folder: Path, tun: str, first: str, again: str) -> tuple[int, list[str]]:
    """Run two scripts on a machine; return its status and what was said."""
    (folder / "look").write_text(first, encoding="utf-8")
    (folder / "again").write_text(again, encoding="utf-8")
    spec = fresh.spec("bookworm", tun, [("sh harness-artifacts/look", "sh harness-artifacts/again")], folder)
    with fresh.started(spec, subprocess.PIPE) as process:
        assert process.stdout is not None
        out = process.stdout.read()  # `communicate` would close the standard input, and so end the machine
    return process.returncode, out.decode().splitlines()


@isolated
@pytest.mark.harness_requires("mmdebstrap")
@pytest.mark.parametrize(("tun", "modes"), [("0600", ["/dev/net/tun 600"]), ("none", [])])
def test_the_machine_is_bare(tmp_path: Path, tun: str, modes: list[str]) -> None:
    status, said = told(tmp_path, tun, LOOK, "true")
    assert status == 0, said
    lines = [line for line in said if not line.startswith(("fresh:", "stat:"))]
    assert lines == [
        *modes,
        *("/dev/null 666", "home: .bashrc .profile socket-activation-harness ", "mail: /root 0", "venv", "tree"),
    ]


@isolated
@pytest.mark.harness_requires("mmdebstrap")
@pytest.mark.parametrize(
    "again", ["touch /var/lib/dpkg/status", "mkdir -p .tox/suites/lib/new-1.0.dist-info", "apt-get update || true"]
)
def test_a_second_run_that_installs_something_is_an_error(tmp_path: Path, again: str) -> None:
    status, said = told(tmp_path, "0600", "true", again)
    assert status == bare.INSTALLED, said
    assert any(re.search(r"status 0, \d+ s, installed /", line) for line in said)


@isolated
@pytest.mark.harness_requires("mmdebstrap")
def test_the_first_status_that_is_not_0_counts(tmp_path: Path) -> None:
    assert told(tmp_path, "0600", "exit 7", "exit 8")[0] == 7


@isolated
@pytest.mark.harness_requires("mmdebstrap")
def test_nothing_is_left_of_a_machine_whose_caller_is_killed(tmp_path: Path) -> None:
    """The kernel closes the caller's end of the pipe; here the test does."""
    (tmp_path / "look").write_text("echo up; exec sleep 600", encoding="utf-8")
    spec = fresh.spec("bookworm", "0600", [("sh harness-artifacts/look", "true")], tmp_path)
    with fresh.started(spec, subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line == b"up\n":
                break
        name = f"harness-{process.pid}-"
        assert [remnant for remnant in leaks.find() if remnant.session.startswith(name)]
        process.stdin.close()
        process.wait(GONE_S)
    wait_until(
        lambda: [remnant for remnant in leaks.find() if remnant.session.startswith(name)],
        lambda found: not found,
        Deadline.after(GONE_S),
        "the machine's end",
    )
