"""Telling a person what takes so long; every function that may take over two seconds is given a `Progress`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from harness.core.text import put, shown

#: Takes one line of text without its newline.
Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """Say nothing."""


def to_stderr(line: str) -> None:
    """Print the line to standard error, at once; what a program says of itself may be in it."""
    put(sys.stderr, shown(f"harness: {line}\n"))
