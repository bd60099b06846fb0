"""The command `leaks`: what killed runs have left."""

from __future__ import annotations

import argparse

from harness.cli.command import say
from harness.runtime import leaks


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="show what living sessions have, too")
    parser.add_argument("--kept", action="store_true", help="count sessions that --harness-keep kept as left")


def run(options: argparse.Namespace) -> int:
    """Show what runs have left; the status is 1 where they left something."""
    left = leaks.leaks(kept=options.kept)
    for remnant in leaks.find() if options.all else left:
        state = "kept" if remnant.kept else "in use" if remnant.alive else "left"
        say(f"{state:7} {remnant.kind:10} {remnant.what}")
    if not left:
        say("nothing is left")
    return 1 if left else 0
