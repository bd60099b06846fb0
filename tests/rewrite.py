"""A pytest plugin that changes the files which tests write into sessions: `-p tests.rewrite --rewrite OLD NEW`."""

from __future__ import annotations

import pytest

from harness.session.session import Session

_write = Session.write


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one option, which may be given several times."""
    parser.addoption("--rewrite", nargs=2, action="append", default=[], metavar=("OLD", "NEW"))


def pytest_configure(config: pytest.Config) -> None:
    """Replace the texts in every file from now on."""
    pairs: list[tuple[str, str]] = config.getoption("--rewrite")

    def write(self: Session, path: str, text: str) -> None:
        for old, new in pairs:
            text = text.replace(old, new)
        _write(self, path, text)

    Session.write = write  # type: ignore[method-assign]
