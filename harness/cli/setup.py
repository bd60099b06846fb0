"""The command `setup`: installs what the suites need of a machine."""

from __future__ import annotations

import argparse

from harness.capabilities import packages
from harness.cli.command import Command, say
from harness.core import progress


def _setup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--virtme", action="store_true", help="also what the guest engine virtme takes")
    parser.add_argument("--tests", action="store_true", help="also what the harness's own tests take")


def _setup(options: argparse.Namespace) -> int:
    """Install the system packages that are missing."""
    installed = packages.ensure(progress.to_stderr, [name for name in packages.EXTRAS if getattr(options, name)])
    if release := packages.ensure_guest(progress.to_stderr):
        installed += (f"User-mode Linux {release}",)
    say(f"installed: {', '.join(installed)}" if installed else "nothing to install")
    return 0


COMMANDS = (Command("setup", "install the system packages that are missing", _setup_arguments, _setup),)
