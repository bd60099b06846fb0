"""The commands `leaks` and `sweep`: what killed runs have left."""

from __future__ import annotations

import argparse

from harness.cli.command import Command, say
from harness.runtime import leaks


def _leaks_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="show what living sessions have, too")
    parser.add_argument("--kept", action="store_true", help="count sessions that --harness-keep kept as left")


def _leaks(options: argparse.Namespace) -> int:
    """Show what runs have left; the status is 1 where they left something."""
    left = leaks.leaks(kept=options.kept)
    for remnant in leaks.find() if options.all else left:
        state = "kept" if remnant.kept else "in use" if remnant.alive else "left"
        say(f"{state:7} {remnant.kind:10} {remnant.what}")
    if not left:
        say("nothing is left")
    return 1 if left else 0


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kept", action="store_true", help="end sessions that --harness-keep kept, too")


def _sweep(options: argparse.Namespace) -> int:
    """Remove what killed runs have left."""
    removed = leaks.sweep(kept=options.kept)
    say("\n".join(f"removed {remnant.kind} {remnant.what}" for remnant in removed) or "nothing to remove")
    return 0


COMMANDS = (
    Command("leaks", "show what runs have left on this machine", _leaks_arguments, _leaks),
    Command("sweep", "remove what killed runs have left", _sweep_arguments, _sweep),
)
