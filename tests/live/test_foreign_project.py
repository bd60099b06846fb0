"""The harness installed beside a project that has nothing to do with it."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from tests.helpers.venvs import Ended, Environment, build_wheel

#: What other projects have: fixtures and parameters by common names, testinfra's own host, files of their own.
TESTS = """
import pytest

@pytest.fixture
def service(): return "service"

@pytest.fixture
def capabilities(): return {"a", "b"}

@pytest.fixture
def userland(): return "userland"

@pytest.fixture
def findings(): return []

@pytest.fixture
def activation_name(): return "mine"

@pytest.mark.parametrize("case", [1, 2, 3])
def test_case(case): assert case in (1, 2, 3)

def test_fixtures(service, capabilities, userland, findings, activation_name, tmp_path):
    assert (service, len(capabilities), userland, findings, activation_name) == ("service", 2, "userland", [], "mine")

def test_host(host):
    assert type(host.backend).__module__ == "testinfra.backend.local"
    assert host.run("echo hello").stdout == "hello\\n"

def test_red(case=None): assert case
"""

#: One test that asks for something of the harness's.
ONE_OF_OURS = "def test_ours(harness_capabilities): assert harness_capabilities.has('python3') in (True, False)\n"

NEEDS_A_CONTRACT = """
from harness.plugin.fixtures import contract_fixture
mine = contract_fixture("mine")
def test_mine(mine): pass
"""

#: How many interpreters a median is taken of.
STARTS = 5


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment without the harness."""
    return Environment.make(tmp_path_factory.mktemp("bare") / "venv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The same, with the harness's wheel."""
    folder = tmp_path_factory.mktemp("installed")
    made = Environment.make(folder / "venv")
    made.install(build_wheel(folder))
    return made


def project(folder: Path, **files: str) -> Path:
    """Write a project's tests and return its folder."""
    made = folder / "project"
    made.mkdir(parents=True)
    (made / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    for name, text in files.items():
        (made / f"{name}.py").write_text(text, encoding="utf-8")
    return made


def run(environment: Environment, folder: Path, *arguments: str, **changes: str) -> Ended:
    """Run a project's tests with its environment, and nothing that is set here."""
    return environment.run(folder, "-m", "pytest", "--strict-markers", "-Werror", *arguments, **changes)


def compared(ended: Ended) -> list[str]:
    """Return the lines of an output without pytest's list of plugins, and what chance and places have a part in."""
    text = re.sub(r"\d+\.\d+s", "TIME", ended.output)
    text = re.sub(r"/\S*/(project|tmpdir|home|venv)\b", r"\1", text)
    text = re.sub(r"\[gw\d+\]", "[WORKER]", text)
    # Workers end in any order.
    text = re.sub(r"^(test_\w+\.py )?[.F]+(?= )", lambda found: "".join(sorted(found[0])), text, flags=re.MULTILINE)
    return [line for line in text.splitlines() if not line.startswith("plugins: ")]


def files(folder: Path) -> list[str]:
    """Return all that a run has left: in its project, its home and for the moment."""
    return sorted(
        re.sub(r"popen-gw\d+", "popen-WORKER", str(path.relative_to(folder.parent)))
        for path in folder.parent.rglob("*")
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "auto"), ("--collect-only",)], ids=" ".join)
def test_nothing_differs(bare: Environment, installed: Environment, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The same output, the same files, the same programs, the same addresses."""
    without, with_it = (project(tmp_path / name, test_foreign=TESTS) for name in ("without", "with"))
    before, after = run(bare, without, *arguments), run(installed, with_it, *arguments)
    assert "socket-activation-harness" in after.output
    assert "socket-activation-harness" not in before.output
    assert compared(after) == compared(before)
    assert (after.status, after.events) == (before.status, before.events)
    assert before.status == (0 if "--collect-only" in arguments else 1)
    assert files(with_it) == files(without)


def test_the_number_of_workers_is_that_of_xdist(installed: Environment, tmp_path: Path) -> None:
    """Its own variable counts, where the harness acts, too."""
    for name, text in (("foreign", TESTS), ("ours", ONE_OF_OURS)):
        made = project(tmp_path / name, test_foreign=text)
        for more in ((), ("--harness-timeout-scale=2",)):
            ended = run(installed, made, "-n", "auto", *more, PYTEST_XDIST_AUTO_NUM_WORKERS="3")
            assert "3/3 workers" in ended.output


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=" ".join)
def test_what_one_test_of_ours_changes(
    bare: Environment, installed: Environment, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The negative control: the same comparison sees a run in which the harness acts, with xdist and without."""
    without, with_it = (project(tmp_path / name, test_foreign=TESTS) for name in ("without", "with"))
    (with_it / "test_ours.py").write_text(ONE_OF_OURS, encoding="utf-8")
    before, after = run(bare, without, *arguments), run(installed, with_it, *arguments)
    assert any(line.startswith("harness: results in ") for line in compared(after))
    assert any(line.startswith("harness: contracts none") for line in compared(after)) is (not arguments)
    assert set(after.events) > set(before.events)
    assert set(files(with_it)) - set(files(without)) >= {"project/harness-artifacts/results.json"}


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=" ".join)
def test_a_mistake_in_a_test_of_ours_is_one_sentence(
    installed: Environment, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A run that asks for nothing learns of the mistake while it collects, and ends with the status of usage errors."""
    made = project(tmp_path, test_foreign=TESTS, test_ours="def test_ours(harness_case): pass\n")
    ended = run(installed, made, *arguments)
    assert ended.status == pytest.ExitCode.USAGE_ERROR, ended.output
    assert "\nA test takes 'harness_case', but the run has no contract." in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=" ".join)
def test_a_contract_that_is_not_given_is_named(
    installed: Environment, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The tests that need it are deselected, and the run says so."""
    ended = run(installed, project(tmp_path, test_ours=NEEDS_A_CONTRACT), *arguments)
    assert ended.status == pytest.ExitCode.NO_TESTS_COLLECTED, ended.output
    assert "harness: deselected tests that need the contracts mine: not given in this run" in ended.output


def test_options_and_marks_are_there(installed: Environment, tmp_path: Path) -> None:
    """They are what the plugin adds in any run."""
    made = project(tmp_path, test_foreign=TESTS)
    shown = run(installed, made, "--help").output + run(installed, made, "--markers").output
    assert "--harness-contract" in shown
    assert "@pytest.mark.harness_requires(*capabilities)" in shown


def test_fixtures_have_the_prefix(installed: Environment, tmp_path: Path) -> None:
    """None replaces a fixture of anybody else's."""
    shown = run(installed, project(tmp_path), "--fixtures").output
    ours = re.findall(r"^(\w+).* -- .*harness/plugin/\S+:\d+$", shown, flags=re.MULTILINE)
    assert "harness_session" in ours
    assert not [name for name in ours if not name.startswith("harness_") and name != "socket_activated"]


def test_the_import_costs_little(installed: Environment, tmp_path: Path) -> None:
    """At most a third of what pytest's own costs, and nothing that is needed in a run of ours only."""
    made = project(tmp_path)
    ratio = cost(installed, made, "harness.plugin, harness.plugin.fixtures")
    assert ratio < 1 / 3
    # The negative control.
    assert cost(installed, made, "harness.plugin, harness.plugin.run") > 2 * ratio
    loaded = installed.run(
        made, "-c", "import sys, pytest, harness.plugin, harness.plugin.fixtures; print(*sys.modules)"
    )
    assert not {"pydantic", "testinfra", "jeepney", "sh", "xdist"}.intersection(loaded.output.split())


def cost(environment: Environment, folder: Path, modules: str) -> float:
    """Return how long an import takes after that of pytest, as a ratio to that; the median of some starts."""
    measured = (
        "import time; start = time.perf_counter(); import pytest; between = time.perf_counter(); "
        f"import {modules}; print((time.perf_counter() - between) / (between - start))"
    )
    return statistics.median(float(environment.run(folder, "-c", measured).output) for _ in range(STARTS))
