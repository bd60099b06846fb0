"""The plugin that writes results.json at the end of a run, in the process that owns the run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from harness import __version__
from harness.core.errors import INFRASTRUCTURE, Blame, HarnessError, ProbeFailed
from harness.core.text import shown
from harness.core.userland import HOST
from harness.plugin import ATTRIBUTE, params
from harness.plugin.guest import controller
from harness.plugin.settings import SETTINGS
from harness.plugin.terminal import tell
from harness.report.promises import verdicts
from harness.results import record
from harness.results.record import Case, Outcome, Results, Test, Userland
from harness.runtime.environment import environment, versions
from harness.runtime.runtime import Runtime
from harness.timing.verdict import Verdicts

#: What each test found by measuring, where it did.
VERDICTS = pytest.StashKey[Verdicts]()

#: Who has to act on a failure, where the error itself does not say.
BLAME = pytest.StashKey[Blame]()

#: Longest message of a test in the file, in characters; the bundle has all of it.
_MESSAGE = 20_000


def annotate(report: pytest.TestReport, item: pytest.Item, error: object, bundle: str) -> None:
    """Put into a report what the record needs of its test."""
    case, userland = params(item).get("harness_case"), params(item).get("harness_userland", HOST.name)
    verdicts = item.stash.get(VERDICTS, None) if report.when == "call" else None
    claims = [str(mark.args[0]) for mark in item.iter_markers("harness_verifies") if mark.args]
    promise = params(item).get("harness_promise", "") if case else ""
    blame = error.blame if isinstance(error, HarnessError) else item.stash.get(BLAME, None)
    setattr(
        report,
        ATTRIBUTE,
        {
            "case": case.record(userland).model_dump() if case else None,
            "blame": blame.name.lower() if blame and report.failed else "",
            "bundle": bundle,
            "claim": " ".join(claims),
            "promise": str(promise),
            "waived": case.contract.promises.get(promise, "") if case and promise else "",
            "broken": error.wrong if isinstance(error, ProbeFailed) and promise else "",
            "cold": isinstance(error, ProbeFailed) and error.cold,
            "verdicts": verdicts.dump() if verdicts else None,
        },
    )


class Recorder:
    """Collects the reports of a run and writes what they say."""

    def __init__(self, config: pytest.Config, runtimes: Sequence[Runtime]) -> None:
        self._config = config
        self._runtimes = runtimes
        self._runtime = runtimes[0]
        self._started = time.monotonic()
        self._began = datetime.now().astimezone()
        self._tests: dict[str, Test] = {}
        self._verdicts = Verdicts()
        self._settings = config.stash[SETTINGS]
        self._where = f"results in {self._settings.results}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one phase of a test."""
        told: Mapping[str, Any] = getattr(report, ATTRIBUTE, {})
        before = self._tests.get(report.nodeid)
        outcome = _outcome(report, before)
        decides = before is None or outcome is not before.outcome
        self._tests[report.nodeid] = Test(
            id=report.nodeid,
            outcome=outcome,
            duration_s=report.duration + (before.duration_s if before else 0.0),
            case=Case(**told["case"]) if told.get("case") else None,
            message=_message(report) if decides else before.message if before else "",
            blame=told.get("blame", "") if decides else before.blame if before else "",
            bundle=(self._relative(told.get("bundle", "")) or (before.bundle if before else "")),
            claim=told.get("claim", ""),
            promise=told.get("promise", ""),
            broken=told.get("broken", "") if decides else before.broken if before else "",
            waived=told.get("waived", ""),
            cold=bool(told.get("cold")) if decides else bool(before and before.cold),
        )
        if told.get("verdicts"):
            self._verdicts = self._verdicts.with_(Verdicts.load(told["verdicts"]))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file; set the exit status of an infrastructure error where no failure may be the image's."""
        if not self._tests:
            return
        failed = [test for test in self._tests.values() if test.outcome in (Outcome.FAILED, Outcome.ERROR)]
        others = {Blame.MACHINE.name.lower(), Blame.HARNESS.name.lower(), Blame.INPUT.name.lower()}
        only_others = bool(failed) and all(test.blame in others for test in failed)
        if session.exitstatus == pytest.ExitCode.TESTS_FAILED and only_others:
            session.exitstatus = INFRASTRUCTURE
        try:
            record.write(self.results(), self._settings.results)
        except HarnessError as error:
            self._where = error.sentence
            if self._settings.results_asked:
                raise pytest.UsageError(str(error)) from None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show every verdict, and where the results are."""
        if not self._tests:
            return
        if lines := verdicts(self._tests.values()):
            terminalreporter.section("harness battery")
            for line in lines:
                tell(terminalreporter, shown(line))
        sentences = [*self._verdicts.failed, *self._verdicts.inconclusive, *self._verdicts.passed]
        if sentences:
            terminalreporter.section("harness gate")
            for line in sentences:
                tell(terminalreporter, shown(line))
        tell(terminalreporter, shown(f"harness: {self._where}"))

    def results(self) -> Results:
        """Return what is known by now."""
        guest = controller.of(self._config)
        return Results(
            version=__version__,
            started=self._began.isoformat(timespec="seconds"),
            duration_s=time.monotonic() - self._started,
            environment=environment(
                self._runtime.capabilities,
                str(self._runtime.base),
                strict=self._settings.strict,
                guest=guest.name if guest else "",
                userlands={there.name: _userland(there) for there in self._runtimes},
            ),
            tests=tuple(self._tests.values()),
            series=self._verdicts.series,
            comparisons=self._verdicts.comparisons,
            budgets=self._verdicts.budgets,
        )

    def _relative(self, folder: str) -> str:
        return os.path.relpath(folder, self._settings.results.parent) if folder else ""


def _userland(runtime: Runtime) -> Userland:
    left_out = {name: why.detail for name, why in runtime.left_out.items()}
    return Userland(versions=versions(runtime.capabilities), left_out=left_out)


def _outcome(report: pytest.TestReport, before: Test | None) -> Outcome:
    """Return the outcome of a test with one more phase: setup, call or teardown; its first failure is what counts."""
    if before and before.outcome is Outcome.FAILED:
        return Outcome.FAILED
    if report.failed:
        return Outcome.FAILED if report.when == "call" else Outcome.ERROR
    if report.skipped:
        return Outcome.SKIPPED
    return before.outcome if before else Outcome.PASSED


def _message(report: pytest.TestReport) -> str:
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return str(report.longrepr[2])
    text = report.longreprtext
    return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]}\n[cut]"
