"""The command `completion`: lets a shell complete `sah`, its commands and their options."""

from __future__ import annotations

import argparse

import shtab

from harness.cli.command import say
from harness.cli.main import sah


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(options: argparse.Namespace) -> int:
    """Print what the shell is to read."""
    say(shtab.complete(sah(), options.shell))
    return 0
