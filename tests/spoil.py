"""A pytest plugin that spoils what a suite finds in its session, or says itself: `-p tests.spoil --spoil-...`."""

from __future__ import annotations

import json
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.session.session import Session


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    parser.addoption("--spoil-unit", type=json.loads, help="[path below the user's unit folder, text]")
    parser.addoption("--spoil-text", type=json.loads, help="[constant of the suite, what to replace, by what]")


@pytest.fixture(autouse=True)
def spoilt_unit(request: pytest.FixtureRequest, user_session: Session) -> None:
    """Write the unit file."""
    if spoilt := request.config.getoption("--spoil-unit"):
        path, text = spoilt
        user_session.write(f"{user_session.paths.units}/{path}", text)
        user_session.manager.reload()


@pytest.fixture(autouse=True)
def spoilt_text(request: pytest.FixtureRequest) -> None:
    """Change the constant."""
    if spoilt := request.config.getoption("--spoil-text"):
        name, old, new = spoilt
        suite: ModuleType = request.module
        text = getattr(suite, name)
        assert old in text, f"{name} has no {old!r}"
        setattr(suite, name, text.replace(old, new))
