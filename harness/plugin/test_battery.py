"""The battery, as any suite collects it: `from harness.plugin.test_battery import test_promise`."""

from __future__ import annotations

from harness.battery.promises import attempt
from harness.battery.trial import Trial
from harness.contract import Promise


def test_promise(harness_trial: Trial, harness_promise: Promise) -> None:
    """The image keeps the promise, which its contract has not waived."""
    attempt(harness_promise, harness_trial)
