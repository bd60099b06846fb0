"""What a failure leaves: a text that a stranger understands, a bundle, a session: a plugin beside `harness.plugin`."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from harness.activation.service import Service
from harness.battery.trial import Trial
from harness.core.errors import HarnessError, ProbeFailed
from harness.core.text import shown
from harness.plugin import bisect_failure, bundle, params, recorder
from harness.plugin.parametrize import runtime_of
from harness.plugin.settings import SETTINGS, Keep
from harness.plugin.terminal import tell
from harness.runtime.runtime import Runtime

#: Title of the section of a report that tells how to enter the session of its test.
_KEPT = "harness session kept"

#: When the test began, in seconds since 1970.
_BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error of ours as its own text, and leave a bundle while the service still lives."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, HarnessError) and report.failed:
        report.longrepr = _shown(item, call, error)
    elif report.failed and (text := report.longreprtext) != shown(text):
        report.longrepr = shown(text)
    report.sections = [(title, shown(text)) for title, text in report.sections]
    case = params(item).get("harness_case")
    if isinstance(error, ProbeFailed) and error.cold and case:
        runtime_of(item).cold_failures[case.contract.name, case.activation, case.label] = error.wrong
    began = item.stash.setdefault(_BEGAN, call.start)
    runtime = runtime_of(item)
    bundled = _leave_bundle(runtime, item, report, error, began) if report.failed else ""
    recorder.annotate(report, item, error, bundled)
    if report.when == "call" or report.failed:
        _keep(item.config.stash[SETTINGS].keep, runtime, report)
    return report


def _shown(item: pytest.Item, call: pytest.CallInfo[None], error: HarnessError) -> Any:
    """Return what pytest shows of an error: the line of the test, as one can click on it, and the error's own text.

    The sentence is where pytest has an exception's message: in the last lines of a run, `--tb=line` and JUnit XML.
    """
    assert call.excinfo is not None
    path, line, _name = item.location
    for entry in call.excinfo.traceback:
        if entry.path == item.path:
            line = entry.lineno
    text = f"{path}:{(line or 0) + 1}: in {item.name}\n{error}\n"
    shown: Any = call.excinfo.getrepr(style="native")
    shown.reprtraceback.reprentries = [type(shown.reprtraceback.reprentries[0])([text])]
    if shown.reprcrash is None:
        return text
    shown.reprcrash.path, shown.reprcrash.lineno, shown.reprcrash.message = path, (line or 0) + 1, error.sentence
    return shown


def _leave_bundle(
    runtime: Runtime, item: pytest.Item, report: pytest.TestReport, error: BaseException | None, began: float
) -> str:
    """Write the bundle and return its folder, "" where there is none."""
    arguments: dict[str, object] = getattr(item, "funcargs", {})
    found = (value.service if isinstance(value, Trial) else value for value in arguments.values())
    service = next((value for value in found if isinstance(value, Service)), None)
    session, settings = runtime.live_session, item.config.stash[SETTINGS]
    if session is None:
        return ""
    folder = bundle.folder_for(settings.artifacts, item.nodeid)
    try:
        names = bundle.write(folder, session, service, began)
        wanted = settings.bisect and settings.keep is Keep.NEVER
        if service and wanted and (said := bisect_failure.write(folder, runtime, service, error)):
            report.sections.append(("harness bisect", f"{said} More is in '{folder / bisect_failure.FILE_NAME}'."))
    except OSError as error:
        report.sections.append(("harness bundle", f"None could be written to '{folder}': {error.strerror}."))
        return ""
    report.sections.append(("harness bundle", f"{folder}: {', '.join(names)}"))
    return os.fspath(folder)


def _keep(keep: Keep, runtime: Runtime, report: pytest.TestReport) -> None:
    """Keep the session, if that was asked for, before the test's fixtures take away what is in it."""
    wanted = keep is Keep.ALWAYS or (keep is Keep.ON_FAILURE and report.failed)
    if wanted and (entry := runtime.keep_session()):
        report.sections.append((_KEPT, entry))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to enter the sessions of tests that passed; those of failed ones are shown with the failure."""
    for report in terminalreporter.getreports("passed"):
        for title, text in report.sections:
            if title == _KEPT:
                tell(terminalreporter, shown(f"{title} by {report.nodeid}: {text}"))
