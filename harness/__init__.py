"""An integration test harness for socket-activated containers."""

from __future__ import annotations

__version__ = "0.1.0"
