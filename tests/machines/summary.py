"""Prints the matrix of machines at the end of a run that has tried any."""

from __future__ import annotations

import pytest

#: The property of a test that holds its row's line.
PROPERTY = "machine"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each machine."""
    lines = {
        f"{text} {'' if report.passed else 'FAILED'}".rstrip()
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, text in report.user_properties
        if name == PROPERTY
    }
    if lines:
        terminalreporter.section("machines")
        for line in sorted(lines):
            terminalreporter.write_line(line)
