"""The gate action: sets the machine up, tests an image by its contract and against its baseline, and tells GitHub.

It takes its inputs from variables of the environment, so it runs on a laptop, too:

    GATE_IMAGE=localhost/my-echo GATE_CONTRACT=contract.toml python3 .github/actions/gate/gate.py

The exit status is 0 where the result is fine by GATE_FAIL_ON, 1 where it is not, and 10 where there is none. Only
the standard library is used: everything else is what the first step installs.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import tomllib
    from enum import StrEnum
except ImportError:
    sys.exit("::error title=Socket activation gate::The harness takes Python 3.11 or newer.")

#: The harness that this action is a part of.
HARNESS = Path(__file__).resolve().parents[3]

#: What the image is tested by.
SUITES = ("suites/test_replies.py", "suites/test_timing.py")

#: The test that fails where a comparison is no pass; its verdicts say why.
JUDGE = "test_not_slower_than_allowed"

#: Failures on account of these are none of the image's: see `harness.core.errors.Blame`.
OTHERS = ("machine", "input", "harness")

#: Exit status of a run without a verdict on the image, pytest's and our own: see `harness.core.errors.INFRASTRUCTURE`.
INFRASTRUCTURE = 10

#: GitHub shows no more annotations of one step.
MOST_ANNOTATIONS = 10

TITLE = "Socket activation gate"


class Result(StrEnum):
    """What came of it; the names are those of the output `result`."""

    PASS = "pass"  # noqa: S105 -- no password
    INCONCLUSIVE = "inconclusive"
    REGRESSION = "regression"
    FAIL = "fail"
    #: No verdict, and never fine: the machine, the input or the harness is to blame.
    INFRA_ERROR = "infra-error"


#: Input `fail-on` -> the results that fail the step, beside `infra-error`.
FAILS_ON: Mapping[str, tuple[Result, ...]] = {
    "inconclusive": (Result.FAIL, Result.REGRESSION, Result.INCONCLUSIVE),
    "regression": (Result.FAIL, Result.REGRESSION),
    "failure": (Result.FAIL,),
    "never": (),
}


class NoVerdict(Exception):
    """Why there is none, in sentences."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the user asked for."""

    image: str
    #: Empty where the image is compared with none.
    baseline: str
    contract: Path
    fail_on: str
    max_slowdown: str
    strict: bool
    report: Path

    @property
    def options(self) -> list[str]:
        """The same as options of pytest's."""
        name = _name(self.contract)
        return [
            f"--harness-contract={self.contract}",
            f"--harness-image={name}={self.image}",
            *([f"--harness-baseline={name}={self.baseline}"] if self.baseline else []),
            f"--harness-max-slowdown={self.max_slowdown}",
            "--harness-strict" if self.strict else "--no-harness-strict",
            f"--harness-artifacts-dir={self.report}",
        ]


# -- inputs -----------------------------------------------------------------------------------------------------------


def read_inputs(environment: Mapping[str, str]) -> Inputs:
    """Return the inputs, which are empty where they are not given; raise NoVerdict with all mistakes at once."""

    def given(name: str, default: str = "") -> str:
        return environment.get(f"GATE_{name}", "").strip() or default

    contract = Path(given("CONTRACT", "contract.toml")).absolute()
    fail_on, strict = given("FAIL_ON", "regression"), given("STRICT", "true")
    slowdown, image, baseline = given("MAX_SLOWDOWN", "1.10"), given("IMAGE"), given("BASELINE_IMAGE")
    mistakes = []
    if not image:
        mistakes.append("'image' is missing.")
    mistakes += [
        f"'{name}' is no name of an image: '{text}'."
        for name, text in (("image", image), ("baseline-image", baseline))
        if text and not re.fullmatch(r"[A-Za-z0-9][\w./:@-]*", text, re.ASCII)
    ]
    if not contract.exists():
        mistakes.append(f"'contract' names '{contract}', which does not exist.")
    if fail_on not in FAILS_ON:
        mistakes.append(f"'fail-on' is one of {', '.join(FAILS_ON)}, not '{fail_on}'.")
    if strict not in ("true", "false"):
        mistakes.append(f"'strict' is true or false, not '{strict}'.")
    if not re.fullmatch(r"\d+(\.\d+)?", slowdown, re.ASCII) or float(slowdown) <= 1:
        mistakes.append(f"'max-slowdown' is a number above 1, not '{slowdown}'.")
    report = Path(given("REPORT_DIR", "harness-report")).absolute()
    if not str(report).isprintable():
        mistakes.append("'report-dir' has characters that can't be printed.")
    if mistakes:
        raise NoVerdict("\n".join(mistakes))
    return Inputs(image, baseline, contract, fail_on, slowdown, strict == "true", report)


def _name(contract: Path) -> str:
    """Return the name that the contract gives its image; what is wrong with a contract, the harness tells."""
    file = contract / "contract.toml" if contract.is_dir() else contract
    try:
        return str(tomllib.loads(file.read_text(encoding="utf-8")).get("name", "image"))
    except (OSError, ValueError) as error:
        raise NoVerdict(f"The contract '{file}' can't be read: {error}") from None


# -- the steps --------------------------------------------------------------------------------------------------------


def set_up(temporary: Path) -> Path:
    """Install the harness from this checkout and the system packages it takes; return its Python."""
    folder = temporary / "socket-activation-harness"
    python = folder / "bin/python"
    if not python.exists():
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            _run("Make a Python environment", [sys.executable, "-m", "venv", str(folder)])
            _run("Install the harness", [*pip, str(HARNESS)], PIP_CONSTRAINT=str(HARNESS / "constraints.txt"))
        except NoVerdict:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    _run("Prepare the machine", [str(HARNESS / ".ci/prepare")])
    _run("Install the system packages", [str(python), "-m", "harness", "setup"])
    return python


def _run(what: str, command: Sequence[str], **changes: str) -> None:
    """Run one step of the set-up; raise NoVerdict with the end of what it said."""
    with _group(what):
        ended = subprocess.run(
            command,
            cwd=HARNESS,
            env=os.environ | changes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = ended.stdout.decode(errors="replace")
        print(said, end="")
    if ended.returncode != 0:
        tail = "\n".join(said.splitlines()[-20:])
        raise NoVerdict(f"{what}: the command ended with status {ended.returncode}.\n{tail}")


def test(python: Path, inputs: Inputs) -> int:
    """Run the suites; return pytest's exit status, the results are in the folder of the report."""
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-n", "auto", *SUITES, *inputs.options]
    with _group("Test the image"):
        return subprocess.run(command, cwd=HARNESS, stdin=subprocess.DEVNULL, check=False).returncode


def judge(status: int, results: Mapping[str, Any]) -> Result:
    """Return what a run means, by pytest's exit status and the results; the worst of all counts."""
    if status not in (0, 1, INFRASTRUCTURE):
        return Result.INFRA_ERROR
    slow = [one["case"] for one in results["comparisons"] if one["verdict"] != "pass"]
    failed = [
        test
        for test in results["tests"]
        if test["outcome"] in ("failed", "error") and not (JUDGE in test["id"] and test["case"] in slow)
    ]
    verdicts = {one["verdict"] for one in results["comparisons"]}
    if any(test["blame"] not in OTHERS for test in failed) or not all(one["within"] for one in results["budgets"]):
        return Result.FAIL
    if failed or not any(test["outcome"] != "skipped" for test in results["tests"]):
        return Result.INFRA_ERROR
    return next(
        (result for result in (Result.REGRESSION, Result.INCONCLUSIVE) if result in verdicts),
        Result.PASS if status == 0 else Result.INFRA_ERROR,
    )


def write_views(python: Path, report: Path) -> dict[str, Path]:
    """Write the page, the summary and JUnit XML beside the results; return all of them by their output's name."""
    files = {"html": report / "report.html", "markdown": report / "summary.md", "junit": report / "junit.xml"}
    options = [f"--{name}={file}" for name, file in files.items()]
    _run("Write the report", [str(python), "-m", "harness", "report", str(report / "results.json"), *options])
    return {"json": report / "results.json", **files}


# -- GitHub -----------------------------------------------------------------------------------------------------------


def annotate(level: str, title: str, text: str) -> None:
    """Show a sentence beside the run; what has a meaning to GitHub is escaped."""
    for character, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        title, text = title.replace(character, code), text.replace(character, code)
    title = title.replace(":", "%3A").replace(",", "%2C")
    print(f"::{level} title={title}::{text}", flush=True)


@contextmanager
def _group(title: str) -> Iterator[None]:
    """Fold what is printed, and let nothing in it be a command to GitHub: it may come out of the image."""
    token = secrets.token_hex(16)
    print(f"::group::{title}\n::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"\n::{token}::\n::endgroup::", flush=True)


def tell(variable: str, text: str) -> None:
    """Append to the file that GitHub names in a variable; elsewhere there is none."""
    if name := os.environ.get(variable):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(text)


def show(results: Mapping[str, Any], result: Result, level: str) -> None:
    """Annotate what did not go well."""
    bad = [test for test in results["tests"] if test["outcome"] in ("failed", "error")]
    for test in bad[: MOST_ANNOTATIONS - 1]:
        # xdist's line about the worker says nothing here.
        lines = [line for line in test["message"].splitlines() if not re.match(r"\[gw\d+\] ", line)]
        annotate(level, test["id"].rpartition("::")[2], "\n".join(lines[:12]))
    rest = len(bad) - (MOST_ANNOTATIONS - 1)
    annotate(level, TITLE, f"The result is '{result}'." + (f" {rest} more tests failed." if rest > 0 else ""))


# -- all of it --------------------------------------------------------------------------------------------------------


def run() -> int:
    """Do it all, and return the exit status."""
    inputs = read_inputs(os.environ)
    # On a laptop in the checkout: a folder in /tmp could be anybody's.
    python = set_up(Path(os.environ.get("RUNNER_TEMP") or HARNESS / ".tox"))
    file = inputs.report / "results.json"
    file.unlink(missing_ok=True)
    status = test(python, inputs)
    if not file.exists():
        raise NoVerdict(f"No test was run (pytest ended with status {status}); what it says is in the log.")
    results = json.loads(file.read_text(encoding="utf-8"))
    result = judge(status, results)
    files = write_views(python, inputs.report)
    tell("GITHUB_STEP_SUMMARY", files["markdown"].read_text(encoding="utf-8") + "\n")
    tell("GITHUB_OUTPUT", "".join(f"{name}={path}\n" for name, path in {"result": result, **files}.items()))
    fails = result is Result.INFRA_ERROR or result in FAILS_ON[inputs.fail_on]
    if result is not Result.PASS:
        show(results, result, "error" if fails else "warning")
    print(f"result: {result}; report: {files['html']}")
    return INFRASTRUCTURE if result is Result.INFRA_ERROR else int(fails)


def main() -> int:
    """Do it all; tell why, where there is no verdict."""
    try:
        return run()
    except (NoVerdict, OSError) as error:
        annotate("error", TITLE, str(error))
        tell("GITHUB_STEP_SUMMARY", f"## {TITLE}: no verdict\n\nWhy, the annotations and the log tell.\n")
        tell("GITHUB_OUTPUT", f"result={Result.INFRA_ERROR}\n")
        return INFRASTRUCTURE


if __name__ == "__main__":
    sys.exit(main())
