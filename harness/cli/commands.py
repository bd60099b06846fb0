"""The commands that need the harness's packages."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import contract
from harness.cli.bisect import COMMANDS as BISECT
from harness.cli.command import Command, say
from harness.cli.contract import COMMANDS as CONTRACT_COMMANDS
from harness.cli.gate import COMMANDS as GATE
from harness.cli.report import COMMANDS as REPORT
from harness.cli.userland import COMMANDS as USERLAND
from harness.core import progress
from harness.core.cache import default_folder
from harness.core.errors import UsageError
from harness.images import bases
from harness.images.bases import Base
from harness.images.store import ImageStore
from harness.runtime import leaks

# --- images -----------------------------------------------------------------------------------------------------------


def _images_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "build", "prune"), default="list")
    parser.add_argument(
        "--contracts", type=Path, default=Path("containers"), metavar="PATH", help="a contract, or a folder of them"
    )
    parser.add_argument("--base", type=Base, choices=tuple(Base), help="build on this distribution")
    parser.add_argument("--all", action="store_true", help="prune: remove the images of these contracts, too")


def _images(options: argparse.Namespace) -> int:
    """List what is in the store, build what contracts need, or remove what they don't."""
    store = ImageStore(default_folder(), progress.to_stderr)
    action = {"list": _list_images, "build": _build_images, "prune": _prune_images}[options.action]
    action(store, options)
    return 0


def _list_images(store: ImageStore, _options: argparse.Namespace) -> None:
    for image in store.images():
        say(f"{image.name:20} {image.reference:48} {image.base:8} built in {image.build_s:.0f} s")


def _build_images(store: ImageStore, options: argparse.Namespace) -> None:
    base = options.base or store.known_base() or bases.choose()
    for item in contract.load_all([options.contracts]):
        say(f"{item.name:20} {store.image(item, base).reference}")


def _prune_images(store: ImageStore, options: argparse.Namespace) -> None:
    if any(remnant.alive for remnant in leaks.find()):
        raise UsageError(
            "Sessions are using the images.", hint="Wait for them, or run 'python3 -m harness leaks --all'."
        )
    keep = () if options.all else store.wanted(contract.load_all([options.contracts]))
    gone = store.prune(keep)
    say(f"removed: {', '.join(image.reference for image in gone)}" if gone else "nothing to remove")


# --- leaks ------------------------------------------------------------------------------------------------------------


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


COMMANDS: tuple[Command, ...] = (
    *CONTRACT_COMMANDS,
    Command("images", "list, build or remove the images in the store", _images_arguments, _images),
    Command("leaks", "show what runs have left on this machine", _leaks_arguments, _leaks),
    Command("sweep", "remove what killed runs have left", _sweep_arguments, _sweep),
    *BISECT,
    *GATE,
    *REPORT,
    *USERLAND,
)
