"""Every promise of every image, by every activation: the battery that the harness brings, see docs/battery.md."""

from __future__ import annotations

from harness.plugin.test_battery import test_promise

__all__ = ["test_promise"]
