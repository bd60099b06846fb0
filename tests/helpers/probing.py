"""Accounts, a recorder and small files for the tests of capabilities."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core import process
from harness.core.account import Account
from harness.core.process import Completed

ROOT = Account("root", 0, 0, "/root", "/run/user/0")
#: An ordinary user; the uid is the tests' own where that is not root's, so that files made here belong to it.
USER = Account("maria", os.getuid() or 4711, os.getgid(), "/home/maria", "/run/user/4711")

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


class Recorder:
    """Runs programs for real and remembers which."""

    def __init__(self) -> None:
        self.programs: list[str] = []

    def __call__(self, argv: Sequence[str], **options: Any) -> Completed:
        self.programs.append(Path(argv[0]).name)
        return process.run(argv, **options)


def says(text: str, status: int = 0, stderr: bytes = b"") -> Callable[..., Completed]:
    """Return a runner whose programs all print `text`."""

    def run(argv: Sequence[str], **_options: object) -> Completed:
        return Completed(tuple(argv), status, text.encode(), stderr, 0.0)

    return run


def write(root: Path, path: str, text: str) -> None:
    """Make a file below a fake root folder."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def script(root: Path, path: str, text: str) -> None:
    """Make a shell script below a fake root folder."""
    write(root, path, f"#!/bin/sh\n{text}\n")
    (root / path.lstrip("/")).chmod(0o755)
