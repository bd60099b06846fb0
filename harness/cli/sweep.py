"""The command `sweep`: removes what killed runs have left."""

from __future__ import annotations

import argparse

from harness.cli.command import say
from harness.runtime import leaks


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kept", action="store_true", help="end sessions that --harness-keep kept, too")


def run(options: argparse.Namespace) -> int:
    """Remove what killed runs have left."""
    removed = leaks.sweep(kept=options.kept)
    say("\n".join(f"removed {remnant.kind} {remnant.what}" for remnant in removed) or "nothing to remove")
    return 0
