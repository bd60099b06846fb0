"""Mistakes in a test's marks or in what a run was given, found while tests are collected.

An error that a hook raises during collection would be shown with pytest's and pluggy's own stack, and end the run as an
interrupted one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.core.errors import HarnessError

#: The attribute of a report, which xdist hands on to its controller.
_ATTRIBUTE = "harness_input_error"

_NAME = "harness-input-errors"


class InputError(pytest.Collector.CollectError):
    """A mistake that its one sentence explains; the run ends with pytest's exit status for usage errors."""


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Raise InputError for an error of ours, and for one in an option."""
    try:
        yield
    except (HarnessError, pytest.UsageError) as error:
        raise InputError(str(error)) from None


def is_marked(report: pytest.CollectReport) -> bool:
    """Whether a report is about an input error, also one that an xdist worker met."""
    return hasattr(report, _ATTRIBUTE)


class InputErrors:
    """Marks the reports, and gives the run its exit status in the process that owns it."""

    def __init__(self) -> None:
        self._found = False

    def pytest_exception_interact(self, call: pytest.CallInfo[object], report: pytest.CollectReport) -> None:
        """Mark the report of an input error."""
        if call.excinfo and isinstance(call.excinfo.value, InputError):
            setattr(report, _ATTRIBUTE, True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take note of an input error."""
        self._found = self._found or is_marked(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell input errors from errors in the collected files; xdist's status for both is that of failed tests."""
        if self._found and session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED):
            session.exitstatus = pytest.ExitCode.USAGE_ERROR


def watch(config: pytest.Config) -> InputErrors:
    """Watch the reports of a run."""
    errors = InputErrors()
    config.pluginmanager.register(errors, _NAME)
    return errors
