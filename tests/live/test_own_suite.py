"""A suite in a repository of one's own: docs/own-suite.md as it stands, and the fixture that it begins with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import Runtime
from harness.contract import load
from harness.core.cache import FOLDER_VARIABLE
from tests.helpers.runs import REPOSITORY
from tests.helpers.venvs import Ended, Environment, build_wheel

DOCUMENT = REPOSITORY / "docs" / "own-suite.md"

#: The files of the suite; the others are the image.
SUITE = ("hello/contract.toml", "test_hello.py")

#: Most lines of the suite, blank ones apart.
MOST_LINES = 15


def files() -> dict[str, str]:
    """Return path -> text of the files that the document shows."""
    shown = re.findall(r"^`([\w/.]+)`:\n\n((?:    .*\n|\n)+)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return {path: re.sub("^    ", "", text, flags=re.MULTILINE).strip("\n") + "\n" for path, text in shown}


def run(folder: Path, texts: dict[str, str], runtime: Runtime) -> Ended:
    """Write the files into an empty folder, and run pytest there where the harness is installed."""
    environment = Environment.make(folder / "venv")
    environment.install(build_wheel(folder))
    project = folder / "project"
    for path, text in texts.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text, encoding="utf-8")
    runtime.image(load(project / "hello"))  # outside of the time limit
    return environment.run(project, "-m", "pytest", "-q", **{FOLDER_VARIABLE: str(runtime.store.folder)})


def test_the_document(harness_runtime: Runtime, tmp_path: Path) -> None:
    """An empty folder, what the document shows, and pytest: green."""
    texts = files()
    assert list(texts) == ["hello/Containerfile", "hello/hello.py", *SUITE]
    assert sum(bool(line.strip()) for path in SUITE for line in texts[path].splitlines()) <= MOST_LINES
    ended = run(tmp_path, texts, harness_runtime)
    assert ended.status == 0, ended.output
    assert "1 passed" in ended.output


def test_another_expectation(harness_runtime: Runtime, tmp_path: Path) -> None:
    """The negative control: the same with another promise is red, and says why."""
    texts = files()
    changed = texts["hello/contract.toml"].replace('expect = "hello\\n"', 'expect = "goodbye\\n"')
    assert changed != texts["hello/contract.toml"]
    ended = run(tmp_path, texts | {"hello/contract.toml": changed}, harness_runtime)
    assert ended.status == pytest.ExitCode.TESTS_FAILED, ended.output
    assert "The service 'hello' (unit) failed its cold probe by socat over tcp4" in ended.output
    assert "goodbye" in ended.output
