"""The command `completion`: lets a shell complete `sah`, its commands and their options."""

from __future__ import annotations

import argparse

import shtab

from harness.cli.command import Command, say


def _completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


def _completion(options: argparse.Namespace) -> int:
    """Print what the shell is to read."""
    parser: argparse.ArgumentParser = options.parser
    # However the command was called now, what a user types and completes is the script.
    parser.prog = "sah"
    say(shtab.complete(parser, options.shell))
    return 0


COMMANDS = (
    Command("completion", "print what lets a shell complete 'sah' and its options", _completion_arguments, _completion),
)
