"""The gate for real: two images that differ by a known delay, an image against itself, and a baseline that is broken.

The delay is so long, and what is allowed to an image against itself so much, that no noise turns a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.cli import gate as gate_command
from harness.cli.main import main
from harness.contract import Contract, load
from harness.core.errors import INFRASTRUCTURE
from harness.images.store import Image
from harness.results import record
from harness.results.record import Kind, Role, Verdict
from harness.runtime.runtime import Runtime
from harness.timing import gate
from harness.timing.measure import Plan
from tests.helpers.runs import ECHO, REPOSITORY, Run, run_inner, run_pytest
from tools import calibrate
from tools.__main__ import main as tools_main

DELAY_S = 0.4
SUITE = "suites/test_timing.py"
NAME = "test_not_slower_than_allowed[echo-unit-tcp4]"

#: Longest measurement, in seconds: for eight activations of each image on a busy machine. Warm requests take longer.
LIMIT = "40"
ONE = ("--harness-transports=tcp4", "--harness-activation=unit", "-k", "slower", "-n0")


@pytest.fixture(scope="module")
def delayed(
    harness_runtime: Runtime, built: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[float], Image]:
    """Return echo's image with its program so many seconds late; 0 has the same layers."""
    built("containers/echo")
    folder = tmp_path_factory.mktemp("delayed")
    contracts: dict[float, Contract] = {}

    def make(delay_s: float) -> Image:
        if delay_s not in contracts:
            contracts[delay_s] = calibrate.delayed(load(ECHO), delay_s, folder)
        return harness_runtime.store.image(contracts[delay_s], harness_runtime.base)

    return make


def gated(folder: Path, candidate: str, baseline: str, *arguments: str) -> Run:
    """Run the suite with the gate."""
    given = (f"--harness-image=echo={candidate}", f"--harness-baseline=echo={baseline}")
    return run_pytest(folder, SUITE, *ONE, *given, *arguments)


def test_a_late_program_is_a_regression_after_exec(tmp_path: Path, delayed: Callable[[float], Image]) -> None:
    """Red, with the phase in which the program is late; the results have the samples of both images."""
    ended = gated(tmp_path, delayed(DELAY_S).reference, delayed(0.0).reference, f"--harness-gate-limit={LIMIT}")
    assert (ended.status, ended.outcomes) == (1, {NAME: "failed"}), ended.output
    assert "regression: echo (unit, tcp4), cold: " in ended.texts[NAME]
    assert "most grew 'exec -> reply'" in ended.texts[NAME]
    found = record.read(tmp_path / "artifacts" / record.FILE_NAME)
    cold = next(item for item in found.comparisons if item.kind is Kind.COLD)
    assert (cold.verdict, cold.grown) == (Verdict.REGRESSION, "exec -> reply")
    assert {(item.role, item.kind) for item in found.series} == {(role, kind) for role in Role for kind in Kind}
    assert all(len(item.samples) == cold.count for item in found.series)


def test_an_image_against_itself_is_green(tmp_path: Path, delayed: Callable[[float], Image]) -> None:
    """Green, and the verdicts are shown; over xdist, too."""
    same = delayed(0.0).reference
    ended = gated(tmp_path, same, same, "--harness-max-slowdown=8", "-n2")
    assert (ended.status, ended.outcomes) == (0, {NAME: "passed"}), ended.output
    assert "pass: echo (unit, tcp4), cold: " in ended.output
    assert "pass: echo (unit, tcp4), warm: " in ended.output


UNCLEAR = """
import pytest
from harness.timing.verdict import Verdicts
from tests.helpers.timelines import CASE, measured
from harness.timing import gate
from suites.test_timing import test_not_slower_than_allowed

@pytest.fixture
def harness_verdicts(harness_case):
    compared = gate.compare(CASE, measured(12, 0.0085), gate.Rule(1.05))
    return Verdicts(comparisons=compared)
"""


@pytest.mark.parametrize(
    ("strictness", "outcome"), [("--no-harness-strict", "skipped"), ("--harness-strict", "failed")]
)
def test_no_verdict_is_not_green(inner: pytest.Pytester, strictness: str, outcome: str) -> None:
    """A comparison that can't be decided is skipped with its numbers, and fails a strict run."""
    inner.makepyfile(UNCLEAR)
    given = (f"--harness-contract={ECHO}", "--harness-measure", strictness)
    ended = run_inner(inner, *given, *ONE)
    assert ended.outcomes == {NAME: outcome}, ended.output
    assert "inconclusive: echo (unit, tcp4), cold: " in ended.texts[NAME]
    assert ended.status == (0 if outcome == "skipped" else 1)


def test_a_baseline_that_does_not_answer(
    tmp_path: Path, delayed: Callable[[float], Image], built: Callable[[str], Image]
) -> None:
    """Never a verdict: the baseline is to blame, and the status is not that of a regression."""
    silent = built("tests/broken/exits-zero").reference
    ended = gated(tmp_path, delayed(0.0).reference, silent)
    assert ended.status == INFRASTRUCTURE, ended.output
    assert f"The baseline image '{silent}' of 'echo' fails its own contract" in ended.texts[NAME]
    assert not record.read(tmp_path / "artifacts" / record.FILE_NAME).comparisons


def test_a_candidate_that_does_not_answer(
    tmp_path: Path, delayed: Callable[[float], Image], built: Callable[[str], Image]
) -> None:
    """That is the image's fault."""
    ended = gated(tmp_path, built("tests/broken/exits-zero").reference, delayed(0.0).reference)
    assert ended.status == 1, ended.output


def test_a_budget_that_is_not_kept(tmp_path: Path, delayed: Callable[[float], Image]) -> None:
    """A contract with a budget is measured without a baseline, and the budget is named."""
    text = (ECHO / "contract.toml").read_text(encoding="utf-8")
    contract = tmp_path / "contract.toml"
    contract.write_text(f'{text}\n[budgets]\ncold_ms = 1.0\nwarm_ms = 60000.0\n[image]\nreference = "x"\n')
    given = (f"--harness-contract={contract}", f"--harness-image=echo={delayed(0.0).reference}")
    ended = run_pytest(tmp_path, SUITE, *ONE, *given, "--harness-gate-limit=10")
    assert (ended.status, ended.outcomes) == (1, {NAME: "failed"}), ended.output
    assert "over budget: echo (unit, tcp4), cold: median " in ended.texts[NAME]
    assert "within budget: echo (unit, tcp4), warm: median " in ended.output


def test_nothing_to_measure_is_left_out(tmp_path: Path) -> None:
    """Without a baseline, a budget or --harness-measure there is no such test."""
    listed = run_pytest(tmp_path, SUITE, "--collect-only", "-q", "-n0")
    assert "test_timeline[echo-unit-tcp4]" in listed.output
    assert "test_not_slower" not in listed.output
    measured = run_pytest(tmp_path, SUITE, "--collect-only", "-q", "-n0", "--harness-measure")
    assert NAME in measured.output
    assert "test_not_slower_than_allowed[echo-generate-tcp4]" not in measured.output


def test_an_unknown_baseline(tmp_path: Path) -> None:
    """Said before anything is run."""
    ended = run_pytest(tmp_path, SUITE, "--harness-baseline=ecco=localhost/x", "-n0")
    assert ended.status == pytest.ExitCode.USAGE_ERROR
    assert "--harness-baseline: no contract is named 'ecco'." in ended.output


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, delayed: Callable[[float], Image], capsys: pytest.CaptureFixture[str]) -> None:
    """The same verdicts without pytest, and the same file."""
    late, plain, file = delayed(DELAY_S).reference, delayed(0.0).reference, tmp_path / "r.json"
    given = ["gate", "--contract", str(ECHO), "--transport", "unix", "--baseline", plain, "--results", str(file)]
    assert main([*given, "--candidate", late, "--limit", LIMIT]) == 1
    assert "regression: echo (unit, unix), cold: " in capsys.readouterr().out
    assert {item.case.transport for item in record.read(file).comparisons} == {"unix"}
    assert main([*given, "--candidate", plain, "--max-slowdown", "8"]) == 0
    assert capsys.readouterr().out.count("pass: ") == len(Kind)


def test_a_contract_with_a_client_of_its_own(
    tmp_path: Path, built: Callable[[str], Image], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is timed is the request of the client in its image, of which an endpoint alone knows nothing."""
    # As few samples as a verdict takes: each request is a container.
    monkeypatch.setattr(gate_command, "Plan", partial(Plan, most=gate.FEWEST))
    same, file = built("containers/redis").reference, tmp_path / "r.json"
    given = ["gate", "--contract", str(REPOSITORY / "containers/redis"), "--transport", "unix", "--baseline", same]
    assert main([*given, "--max-slowdown", "8", "--limit", "100", "--results", str(file)]) == 0
    assert capsys.readouterr().out.count("pass: redis (unit, unix), ") == len(Kind)
    found = record.read(file)
    assert {item.case.transport for item in found.series} == {"unix"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--max-slowdown", "0.9"], 2), (["--limit", "0"], 2), (["--contract", "nowhere"], 2), (["--transport", "x"], 2)],
)
def test_the_commands_bad_input(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence and status 2, before anything is started."""
    try:
        found = main(["gate", "--baseline", "localhost/x", *arguments])
    except SystemExit as ended:  # argparse's own way
        found = int(str(ended.code))
    assert found == status
    assert capsys.readouterr().err


def test_calibrate_refuses_a_transport_without_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    """As `gate` does."""
    assert tools_main(["calibrate", "--contract", str(REPOSITORY / "containers/httpd"), "--transport", "unix"]) == 2
    assert capsys.readouterr().err.startswith("The transport 'unix' is not in the contract, ")
