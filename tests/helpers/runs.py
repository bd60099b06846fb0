"""Running pytest as a user does, in a process of its own, and reading what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.core.errors import INFRASTRUCTURE

REPOSITORY = Path(__file__).resolve().parents[2]

#: The contract that has nearly every key.
SETTINGS = REPOSITORY / "tests" / "settings"

ECHO = REPOSITORY / "containers" / "echo"

#: Exit statuses of a run in which tests failed, whoever has to act.
RED = (pytest.ExitCode.TESTS_FAILED, INFRASTRUCTURE)

#: What every inner pytest is given.
OPTIONS = "--harness-guest=never --no-harness-bisect --harness-exhaustive -p no:hypothesispytest"

#: Longest run of one pytest, in seconds; images are built before.
RUN_LIMIT_S = 150.0


@dataclass(frozen=True, slots=True)
class Run:
    """A pytest that has ended."""

    status: int
    #: All that it printed.
    output: str
    #: Name of a test, such as `test_reply[echo-unit-tcp4]` -> `passed`, `failed`, `error` or `skipped`.
    outcomes: Mapping[str, str] = field(default_factory=dict)
    #: Name of a test that did not pass -> what was said of it.
    texts: Mapping[str, str] = field(default_factory=dict)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment for a pytest inside a test: ours without what the outer pytest has put there.

    Not under CI, so that a missing transport skips, and without a guest and a bisection, unless a test asks for one:
    each takes longer than most tests. Without Hypothesis, which no inner test needs and which takes as long to import
    as all else. The harness is found wherever the tests of the inner pytest are.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ours = {"CI": "", "COLUMNS": "240", "PYTHONPATH": os.fspath(REPOSITORY)}
    return inherited | ours | {"PYTEST_ADDOPTS": OPTIONS, **changes}


def run_pytest(folder: Path, *arguments: str, cwd: Path = REPOSITORY, **changes: str) -> Run:
    """Run pytest with `arguments` in `cwd`; `folder` takes its report and its bundles.

    `changes` are variables of its environment.
    """
    report = folder / "report.xml"
    command = [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"),
        *(f"--junitxml={report}", f"--harness-artifacts-dir={folder / 'artifacts'}"),
        *arguments,
    ]
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    if not report.exists():
        return Run(ended.returncode, ended.stdout)
    return Run(ended.returncode, ended.stdout, *read_junit(report))


def run_inner(inner: pytest.Pytester, *arguments: str) -> Run:
    """Run the pytester's own tests in a process of their own, where warnings are errors."""
    report = inner.path / "report.xml"
    options = ("-p", "harness.plugin", "-Werror", "--color=no", f"--junitxml={report}")
    ended = inner.runpytest_subprocess(*options, *arguments, timeout=RUN_LIMIT_S)
    outcomes, texts = read_junit(report) if report.exists() else ({}, {})
    return Run(int(ended.ret), f"{ended.stdout.str()}\n{ended.stderr.str()}", outcomes, texts)


def read_junit(report: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the outcome and the text of every test in a JUnit report."""
    outcomes: dict[str, str] = {}
    texts: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - we wrote it
        name, outcome = case.get("name", ""), "passed"
        for kind, called in (("skipped", "skipped"), ("failure", "failed"), ("error", "error")):
            if (found := case.find(kind)) is not None:
                outcome = called
                texts[name] = found.text or found.get("message") or ""
        outcomes[name] = outcome
    return outcomes, texts
