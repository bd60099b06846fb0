"""A pytest plugin that spoils what no image can: `-p tests.sabotage --sabotage=HOW`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.activation import Workload, unit
from harness.session.session import Session

if TYPE_CHECKING:
    from harness.cases import Case
    from harness.service import Service

#: A client nobody expects comes before the test's own.
EARLY_CLIENT = "early-client"

#: The hand-written unit promises that the container itself says READY=1, which it does not.
NEVER_READY = "never-ready"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one option."""
    parser.addoption("--sabotage", choices=(EARLY_CLIENT, NEVER_READY), required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Spoil the unit."""
    if config.getoption("--sabotage") == NEVER_READY:
        unit.ACTIVATION._service_text = _text_of_a_unit_that_is_never_ready


def _text_of_a_unit_that_is_never_ready(_session: Session, workload: Workload) -> str:
    return unit.text(workload).replace("--sdnotify=conmon", "--sdnotify=container")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Send the early client."""
    if item.config.getoption("--sabotage") == EARLY_CLIENT:
        arguments: dict[str, object] = getattr(item, "funcargs", {})
        service: Service = arguments["service"]  # type: ignore[assignment]
        case: Case = arguments["case"]  # type: ignore[assignment]
        service.ask_warm(case.transport)
