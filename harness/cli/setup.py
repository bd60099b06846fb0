"""The command `setup`: installs what the suites need of a machine."""

from __future__ import annotations

import argparse

from harness.capabilities import packages
from harness.cli.command import say
from harness.core import progress


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--virtme", action="store_true", help="also what the guest engine virtme takes")
    parser.add_argument("--tests", action="store_true", help="also what the harness's own tests take")


def run(options: argparse.Namespace) -> int:
    """Install the system packages that are missing."""
    installed = packages.ensure(progress.to_stderr, [name for name in packages.EXTRAS if getattr(options, name)])
    if release := packages.ensure_guest(progress.to_stderr):
        installed += (f"User-mode Linux {release}",)
    say(f"installed: {', '.join(installed)}" if installed else "nothing to install")
    return 0
