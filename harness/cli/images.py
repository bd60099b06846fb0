"""The command `images`: what is in the store of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import contract
from harness.cli.command import say
from harness.core import progress
from harness.core.cache import default_folder
from harness.core.errors import UsageError
from harness.images import bases
from harness.images.bases import Base
from harness.images.store import BuildNetwork, ImageStore
from harness.runtime import leaks


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "build", "prune"), default="list")
    parser.add_argument(
        "--contracts", type=Path, default=Path("containers"), metavar="PATH", help="a contract, or a folder of them"
    )
    parser.add_argument("--base", type=Base, choices=tuple(Base), help="build on this distribution")
    parser.add_argument(
        "--network", type=BuildNetwork, choices=tuple(BuildNetwork), default=BuildNetwork.HOST,
        help="build: what the steps of a Containerfile see of the network",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="prune: remove the images of these contracts, too")


def run(options: argparse.Namespace) -> int:
    """List what is in the store, build what contracts need, or remove what they don't."""
    store = ImageStore(default_folder(), progress.to_stderr, options.network)
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
