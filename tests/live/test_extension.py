"""An activation and a kind of probe of another package, installed beside the harness."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.images.store import Image
from tests.helpers.runs import REPOSITORY, environment, run_pytest

EXTENSION = REPOSITORY / "tests" / "extension"

CONTRACT = """
schema = 1
name = "echo"
[[sockets]]
transports = ["tcp4"]
port = 3000
[probe]
kind = "repeat"
word = "hello"
times = 3
[image]
reference = "localhost/unused"
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH with the harness and the installed package."""
    folder = tmp_path_factory.mktemp("installed")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", f"--target={folder}")
    subprocess.run([sys.executable, "-m", "pip", *install, EXTENSION], check=True)
    return os.pathsep.join([os.fspath(REPOSITORY), os.fspath(folder)])


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A contract whose probe is of the package's kind."""
    file = tmp_path / "contract.toml"
    file.write_text(CONTRACT, encoding="utf-8")
    return file


def command(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the harness."""
    line = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(line, cwd=REPOSITORY, env=environment(**changes), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("image", "outcome"),
    [("containers/echo", "passed"), ("tests/broken/wrong-bytes", "failed")],
    ids=["right", "wrong"],
)
def test_the_suites_use_both(
    path: str, contract: Path, tmp_path: Path, built: Callable[[str], Image], image: str, outcome: str
) -> None:
    """Green for an image that keeps the contract; red for one that does not, in the words of the package's probe."""
    given = (f"--harness-contract={contract}", f"--harness-image=echo={built(image).reference}")
    ended = run_pytest(
        tmp_path, "suites/test_replies.py", "-k", "test_reply[", *given, "--harness-activation=nice", PYTHONPATH=path
    )
    name = "test_reply[echo-nice-tcp4]"
    assert ended.outcomes == {name: outcome}, ended.output
    if outcome == "failed":
        assert "expected 3 times 'hello', got " in ended.texts[name]
        assert "Nice=5" in (next((tmp_path / "artifacts").rglob("echo.service"))).read_text(encoding="utf-8")


def test_the_commands_show_both(path: str, contract: Path) -> None:
    """The activation's unit, and the client's command."""
    shown = command("contract", "explain", os.fspath(contract), PYTHONPATH=path)
    assert "\n## activation nice\n" in shown.stdout, shown.stderr
    assert "\nNice=5\n" in shown.stdout
    assert "\nsocat - TCP4:127.0.0.1:3000" in shown.stdout.replace("tcp4:", "TCP4:")


def test_mistakes_in_the_table_are_told_like_others(path: str, contract: Path) -> None:
    """With the keys of the package's table."""
    contract.write_text(CONTRACT.replace("word =", "words ="), encoding="utf-8")
    shown = command("contract", "check", os.fspath(contract), PYTHONPATH=path)
    assert shown.returncode != 0
    assert "probe.word: required key is missing" in shown.stderr
    assert "probe.words: unknown key; known are transports, socket, kind, word, times" in shown.stderr


def test_without_the_package_neither_is_known(contract: Path, tmp_path: Path) -> None:
    """The negative control: an unknown kind and an unknown activation are errors that name the known ones."""
    given = ("suites/test_replies.py", f"--harness-contract={contract}")
    kind = run_pytest(tmp_path, *given)
    assert kind.status == pytest.ExitCode.USAGE_ERROR
    assert "unknown kind 'repeat'; known are bytes, connect, echo, exec, http" in kind.output
    activation = run_pytest(tmp_path, *given, "--harness-activation=nice")
    assert activation.status == pytest.ExitCode.USAGE_ERROR
    assert "unknown: nice; known are generate, launcher, quadlet, unit" in activation.output


def test_the_document_shows_the_package() -> None:
    """All of it, as it is installed here."""
    document = (REPOSITORY / "docs" / "extensions.md").read_text(encoding="utf-8")
    for file in sorted(EXTENSION.iterdir()):
        if file.is_file():
            assert textwrap.indent(file.read_text(encoding="utf-8"), "    ") in document


def test_an_extension_that_can_not_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    """Of a run and of a command, and not a stack; it names the package."""
    package = tmp_path / "other_package-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1\n", encoding="utf-8")
    (package / "entry_points.txt").write_text("[harness.activations]\nnice = math:pie\n", encoding="utf-8")
    path = os.pathsep.join([os.fspath(REPOSITORY), os.fspath(tmp_path)])
    told = "The entry point 'nice' of the package 'other-package' in the group 'harness.activations' can't be loaded: "
    ended = run_pytest(tmp_path, "suites/test_replies.py", PYTHONPATH=path)
    assert (ended.status, told in ended.output) == (pytest.ExitCode.USAGE_ERROR, True), ended.output
    shown = command("gate", "--help", PYTHONPATH=path)
    assert shown.returncode == 2
    assert shown.stderr.startswith(told)
    for text in (ended.output, shown.stderr):
        assert "Traceback" not in text
