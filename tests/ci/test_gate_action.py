"""The gate action as GitHub runs it: its own steps by its own shell, with real images, and files in place of GitHub."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.contract import load
from harness.images.store import Image
from harness.results import record
from harness.runtime.runtime import Runtime
from tests.helpers import samples
from tests.helpers.runs import ECHO, REPOSITORY, environment
from tools import calibrate

ACTION = REPOSITORY / ".github/actions/gate"

#: One socket, so that few activations tell all.
CONTRACT = """
schema = 1
name = "echo"
image = { reference = "localhost/none" }

[[sockets]]
transports = ["tcp4"]
port = 3000

[probe]
kind = "bytes"
send = "hello\\n"
expect = "hello\\n"
"""

DELAY_S = 0.4

#: Longest run of the action, in seconds; the first one installs the harness.
RUN_LIMIT_S = 280.0


def module() -> ModuleType:
    """Return the action's program."""
    found = importlib.util.spec_from_file_location("gate_action", ACTION / "gate.py")
    assert found is not None
    assert found.loader is not None
    loaded = importlib.util.module_from_spec(found)
    sys.modules[found.name] = loaded
    found.loader.exec_module(loaded)
    return loaded


GATE = module()


@dataclass(frozen=True, slots=True)
class Ended:
    """What GitHub would see of one run of the action."""

    status: int
    log: str
    outputs: Mapping[str, str]
    summary: str

    @property
    def commands(self) -> list[str]:
        """The annotations that GitHub would show: not what stands between stop-commands and its token."""
        found, token = [], ""
        for line in self.log.splitlines():
            if token:
                token = "" if line == f"::{token}::" else token
            elif line.startswith("::stop-commands::"):
                token = line.removeprefix("::stop-commands::")
            elif re.match("::(error|warning) ", line):
                found.append(line)
        return found


def act(runner: Path, workspace: Path, inputs: Mapping[str, str], **changes: str) -> Ended:
    """Run the steps of the action with `inputs`, as a runner does that has its temporary folder at `runner`."""
    action = YAML(typ="safe").load((ACTION / "action.yml").read_text(encoding="utf-8"))
    values = {name: inputs.get(name, given.get("default", "")) for name, given in action["inputs"].items()}
    files = {name: workspace / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV")}
    for file in files.values():
        file.touch()
    github = {name: os.fspath(file) for name, file in files.items()}
    github |= {"GITHUB_ACTION_PATH": os.fspath(ACTION), "RUNNER_TEMP": os.fspath(runner), **changes}
    status, log = 0, ""
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        given = {name: _filled(text, values) for name, text in step.get("env", {}).items()}
        script = workspace / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=workspace,
            env=environment() | github | given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        status, log = ended.returncode, log + ended.stdout
        if status:
            break
    assert files["GITHUB_ENV"].read_text(encoding="utf-8") == ""
    lines = files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines()
    outputs = dict(line.split("=", 1) for line in lines)
    return Ended(status, log, outputs, files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8"))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its inputs; nothing else may stand in an expression of a step."""
    return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: values[found[1]], text)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner's folder for temporary files, where the first run installs the harness."""
    return tmp_path_factory.mktemp("runner")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout of a maintainer's repository."""
    (tmp_path / "contract.toml").write_text(CONTRACT, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def delayed(
    harness_runtime: Runtime, built: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[float], str]:
    """Return the name of echo's image with its program so many seconds late."""
    built("containers/echo")
    folder = tmp_path_factory.mktemp("delayed")
    found: dict[float, str] = {}

    def make(delay_s: float) -> str:
        if delay_s not in found:
            contract = calibrate.delayed(load(ECHO), delay_s, folder)
            found[delay_s] = harness_runtime.store.image(contract, harness_runtime.base).reference
        return found[delay_s]

    return make


# -- for real ---------------------------------------------------------------------------------------------------------

# Where the suites run inside the action, these keep it short; anybody may set them around the action.
SHORT = {"PYTEST_ADDOPTS": "--harness-guest=never --harness-activation=unit"}


@pytest.mark.timeout(600)
def test_pass(runner: Path, workspace: Path, delayed: Callable[[float], str]) -> None:
    """Green: the reports are there, the summary is the job's, nothing is annotated."""
    same = delayed(0.0)
    inputs = {"image": same, "baseline-image": same, "contract": "contract.toml", "max-slowdown": "8"}
    ended = act(runner, workspace, inputs, **SHORT)
    assert (ended.status, ended.outputs["result"]) == (0, "pass"), ended.log
    assert set(ended.outputs) == {"result", "json", "html", "junit", "markdown"}
    assert {Path(ended.outputs[name]).parent for name in ended.outputs.keys() - {"result"}} == {
        workspace / "harness-report"
    }
    found = record.read(Path(ended.outputs["json"]))
    assert found.environment.strict
    assert {one.verdict for one in found.comparisons} == {record.Verdict.PASS}
    assert ended.summary.rstrip() == Path(ended.outputs["markdown"]).read_text(encoding="utf-8").rstrip()
    assert Path(ended.outputs["html"]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert ended.commands == []


@pytest.mark.timeout(600)
def test_regression(runner: Path, workspace: Path, delayed: Callable[[float], str]) -> None:
    """Red, with the numbers beside the run."""
    inputs = {"image": delayed(DELAY_S), "baseline-image": delayed(0.0), "contract": "."}
    ended = act(runner, workspace, inputs, PYTEST_ADDOPTS=f"{SHORT['PYTEST_ADDOPTS']} --harness-gate-limit=40")
    assert (ended.status, ended.outputs["result"]) == (1, "regression"), ended.log
    first, last = ended.commands
    assert first.startswith("::error title=test_not_slower_than_allowed[echo-unit-tcp4]::regression: echo (unit, tcp4)")
    assert last == "::error title=Socket activation gate::The result is 'regression'."


@pytest.mark.timeout(600)
def test_fail(runner: Path, workspace: Path, built: Callable[[str], Image]) -> None:
    """An image that does not answer fails, and is not called slow; a bundle is beside the report."""
    silent = built("tests/broken/exits-zero").reference
    ended = act(runner, workspace, {"image": silent, "contract": "contract.toml", "fail-on": "failure"}, **SHORT)
    assert (ended.status, ended.outputs["result"]) == (1, "fail"), ended.log
    assert any(line.startswith("::error title=test_reply[echo-unit-tcp4]::") for line in ended.commands)
    assert len([path for path in (workspace / "harness-report").iterdir() if path.is_dir()]) >= 1


@pytest.mark.timeout(600)
def test_infrastructure_error(
    runner: Path, workspace: Path, delayed: Callable[[float], str], built: Callable[[str], Image]
) -> None:
    """A baseline that does not answer is no verdict on the image, and fails even where nothing is to fail."""
    silent = built("tests/broken/exits-zero").reference
    inputs = {"image": delayed(0.0), "baseline-image": silent, "contract": "contract.toml", "fail-on": "never"}
    ended = act(runner, workspace, inputs, **SHORT)
    assert (ended.status, ended.outputs["result"]) == (10, "infra-error"), ended.log
    assert Path(ended.outputs["junit"]).exists()
    assert ended.commands[-1].endswith("The result is 'infra-error'.")


def test_a_set_up_that_fails(workspace: Path) -> None:
    """It is annotated with what the command said, and there is a result."""
    # A file in the place of the folder for temporary files.
    runner = workspace / "runner"
    runner.touch()
    ended = act(runner, workspace, {"image": "localhost/x", "contract": "."})
    assert (ended.status, ended.outputs) == (10, {"result": "infra-error"}), ended.log
    [said] = ended.commands
    assert said.startswith("::error title=Socket activation gate::Make a Python environment: the command ended with")
    assert "no verdict" in ended.summary


# -- without images ---------------------------------------------------------------------------------------------------


def test_all_mistakes_of_the_inputs_are_told_before_anything_is_done(workspace: Path) -> None:
    inputs = {"image": "--rm x", "contract": "no.toml", "fail-on": "x", "max-slowdown": "0.9", "strict": "yes"}
    ended = act(workspace / "none", workspace, inputs)
    assert (ended.status, ended.outputs) == (10, {"result": "infra-error"}), ended.log
    [said] = ended.commands
    for name in ("image", "contract", "fail-on", "max-slowdown", "strict"):
        assert f"'{name}'" in said
    assert "::group::" not in ended.log


@pytest.mark.parametrize(
    "text", ["$(touch pwned)", "x; touch pwned", "`touch pwned`", "a\nb", "::set-output name=result::pass", "-e"]
)
def test_an_input_is_no_command(workspace: Path, text: str) -> None:
    """Neither to the shell nor to GitHub."""
    for name in ("image", "contract", "baseline-image", "report-dir", "max-slowdown"):
        ended = act(workspace / "none", workspace, {"image": "", "contract": ".", name: text})
        assert ended.outputs == {"result": "infra-error"}
        assert all(line.startswith(("::error title=", "")) for line in ended.log.splitlines())
    assert not (workspace / "pwned").exists()


def test_an_older_python_is_told_in_an_annotation() -> None:
    """Which ends the program, so that the action's result is the one that stands for none."""
    code = f"import runpy, sys; sys.modules['tomllib'] = None; runpy.run_path({os.fspath(ACTION / 'gate.py')!r})"
    ended = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "::error title=Socket activation gate::The harness takes Python 3.11 or newer.\n"
    outputs = YAML(typ="safe").load((ACTION / "action.yml").read_text(encoding="utf-8"))["outputs"]
    assert outputs["result"]["value"] == "${{ steps.gate.outputs.result || 'infra-error' }}"


def test_what_a_container_prints_is_no_command_to_github(capfd: pytest.CaptureFixture[str]) -> None:
    """A group's token can't be guessed, and ends what began."""
    with GATE._group("x"):
        os.write(1, b"::error::from a container\n")
    lines = capfd.readouterr().out.splitlines()
    token = lines[1].removeprefix("::stop-commands::")
    assert re.fullmatch("[0-9a-f]{32}", token)
    assert lines[2:] == ["::error::from a container", "", f"::{token}::", "::endgroup::"]


def test_an_annotation_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    GATE.annotate("error", "a,b:c\n::d", "50 %\r\n::error::x")
    assert capsys.readouterr().out == "::error title=a%2Cb%3Ac%0A%3A%3Ad::50 %25%0D%0A::error::x\n"


def _test(outcome: str, blame: str = "", name: str = "test_reply[x]", case: object = None) -> dict[str, Any]:
    return {"id": f"suites/test_x.py::{name}", "outcome": outcome, "blame": blame, "case": case}


CASE = {"contract": "echo", "activation": "unit", "transport": "tcp4"}
SLOW = _test("failed", name="test_not_slower_than_allowed[echo-unit-tcp4]", case=CASE)


@pytest.mark.parametrize(
    ("status", "tests", "verdicts", "within", "expected"),
    [
        (0, [_test("passed")], [], True, "pass"),
        (0, [_test("passed")], ["pass", "pass"], True, "pass"),
        (0, [_test("passed"), _test("skipped")], ["pass", "inconclusive"], True, "inconclusive"),
        (1, [SLOW], ["inconclusive"], True, "inconclusive"),
        (1, [SLOW], ["inconclusive", "regression"], True, "regression"),
        (1, [SLOW, _test("failed", "image")], ["regression"], True, "fail"),
        (1, [SLOW, _test("error", "machine")], ["regression"], True, "infra-error"),
        (1, [SLOW, _test("error", "machine"), _test("failed")], ["regression"], True, "fail"),
        (1, [SLOW], ["pass"], False, "fail"),
        (1, [SLOW | {"case": None}], ["regression"], True, "fail"),
        (10, [_test("passed"), _test("error", "input")], [], True, "infra-error"),
        (0, [_test("skipped")], [], True, "infra-error"),
        (2, [_test("passed")], [], True, "infra-error"),
        (10, [_test("passed")], [], True, "infra-error"),
    ],
)
def test_the_result_is_the_worst_of_all(
    status: int, tests: list[dict[str, Any]], verdicts: list[str], within: bool, expected: str
) -> None:
    results = {
        "tests": tests,
        "comparisons": [{"case": CASE, "verdict": verdict} for verdict in verdicts],
        "budgets": [{"within": within}],
    }
    assert GATE.judge(status, results) == expected


def test_the_keys_are_those_of_the_results() -> None:
    """What the program reads without the harness's classes is what they write."""
    results = samples.results().model_dump(mode="json", by_alias=True)
    assert GATE.judge(1, results) == "fail"
    assert {"id", "outcome", "blame", "message", "case"} <= set(results["tests"][0])
    assert set(GATE.OTHERS) < {name.lower() for name in ("MACHINE", "INPUT", "HARNESS", "IMAGE")}


def test_outputs_and_inputs_are_those_of_the_program() -> None:
    """Each input reaches the program, by a variable, and each output comes from it."""
    action = YAML(typ="safe").load((ACTION / "action.yml").read_text(encoding="utf-8"))
    [step] = action["runs"]["steps"]
    given = {f"GATE_{name.upper().replace('-', '_')}": f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
    assert step["env"] == given
    assert "${{" not in step["run"]
    source = (ACTION / "gate.py").read_text(encoding="utf-8")
    read = set(re.findall(r'given\("([A-Z_]+)"', source))
    assert {f"GATE_{name}" for name in read} == set(given)
    assert set(action["outputs"]) == {"result", "json", "html", "junit", "markdown"}
    defaults = GATE.read_inputs({"GATE_IMAGE": "localhost/x", "GATE_CONTRACT": str(ECHO)})
    assert defaults.fail_on == action["inputs"]["fail-on"]["default"]
    assert defaults.max_slowdown == action["inputs"]["max-slowdown"]["default"]
    assert str(defaults.strict).lower() == action["inputs"]["strict"]["default"]
    assert defaults.report.name == action["inputs"]["report-dir"]["default"]
