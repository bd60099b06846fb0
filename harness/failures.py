"""What a failure leaves: a text that a stranger understands, a bundle, a session: a plugin beside `harness.plugin`."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from harness import bisect_failure, bundle, recorder
from harness.cases import runtime_of
from harness.errors import HarnessError
from harness.options import Keep
from harness.runtime import Runtime
from harness.service import Service

#: Title of the section of a report that tells how to enter the session of its test.
_KEPT = "harness session kept"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error of ours as its own text, and leave a bundle while the service still lives."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, HarnessError) and report.failed:
        report.longrepr = f"{_place(item, call)}\n{error}"
    runtime = runtime_of(item)
    bundled = _leave_bundle(runtime, item, report, error) if report.failed else ""
    recorder.annotate(report, item, error, bundled)
    if report.when == "call" or report.failed:
        _keep(runtime, report)
    return report


def _place(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """Return the line of the test that failed, as one can click on it."""
    assert call.excinfo is not None
    path, line, _name = item.location
    for entry in call.excinfo.traceback:
        if entry.path == item.path:
            line = entry.lineno
    return f"{path}:{(line or 0) + 1}: in {item.name}"


def _leave_bundle(runtime: Runtime, item: pytest.Item, report: pytest.TestReport, error: BaseException | None) -> str:
    """Write the bundle and return its folder, "" where there is none."""
    arguments: dict[str, object] = getattr(item, "funcargs", {})
    service = next((value for value in arguments.values() if isinstance(value, Service)), None)
    session = runtime.live_session
    if session is None:
        return ""
    folder = bundle.folder_for(runtime.options.artifacts, item.nodeid)
    try:
        names = bundle.write(folder, session, service)
        if service and (said := bisect_failure.write(folder, runtime, service, error)):
            report.sections.append(("harness bisect", f"{said} More is in '{folder / bisect_failure.FILE_NAME}'."))
    except OSError as error:
        report.sections.append(("harness bundle", f"None could be written to '{folder}': {error.strerror}."))
        return ""
    report.sections.append(("harness bundle", f"{folder}: {', '.join(names)}"))
    return os.fspath(folder)


def _keep(runtime: Runtime, report: pytest.TestReport) -> None:
    """Keep the session, if that was asked for, before the test's fixtures take away what is in it."""
    keep = runtime.options.keep
    wanted = keep is Keep.ALWAYS or (keep is Keep.ON_FAILURE and report.failed)
    if wanted and (entry := runtime.keep_session()):
        report.sections.append((_KEPT, entry))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to enter the sessions of tests that passed; those of failed ones are shown with the failure."""
    for report in terminalreporter.getreports("passed"):
        for title, text in report.sections:
            if title == _KEPT:
                terminalreporter.write_line(f"{title} by {report.nodeid}: {text}")
