"""The command `claims`: what the tutorial says, and the tests of a run that prove it."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import record
from harness.cli import Command, say
from harness.report import claims


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="results.json", help="what a run of the suites wrote")
    parser.add_argument(
        "--claims",
        type=Path,
        default=Path("suites/claims.toml"),
        metavar="FILE",
        help="the claims (default: suites/claims.toml)",
    )


def _claims(options: argparse.Namespace) -> int:
    """Print the claims as Markdown."""
    say(claims.view(record.read(options.results), claims.read(options.claims)).rstrip("\n"))
    return 0


COMMANDS: tuple[Command, ...] = (
    Command("claims", "show what the tutorial claims, with the tests that prove it", _arguments, _claims),
)
