"""What is wrong with unit files before anything runs: rules about sockets, and the words of systemd and Quadlet."""

from __future__ import annotations

from harness.lint.findings import Finding, Severity
from harness.lint.rules import RULES, check

__all__ = ["RULES", "Finding", "Severity", "check"]
