"""Pytest's terminal, for texts that do nothing to it."""

from __future__ import annotations

import pytest

from harness.core.text import Shown


def tell(reporter: pytest.TerminalReporter, text: Shown) -> None:
    """Write a line of the summary; nothing else of the plugin does."""
    reporter.write_line(text)
