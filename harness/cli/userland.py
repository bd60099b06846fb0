"""The command `userland`: make, list and remove the distributions that sessions can run in."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.command import say
from harness.core import progress
from harness.core.cache import default_folder
from harness.core.errors import UsageError
from harness.images.store import ImageStore
from harness.runtime import leaks
from harness.userlands.recipes import RECIPES
from harness.userlands.store import UserlandStore


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    build = actions.add_parser("build", help="make a userland unless it is here", allow_abbrev=False)
    build.add_argument("name", metavar="NAME", help=f"{', '.join(RECIPES)}, or with an image or a tar any other name")
    given = build.add_mutually_exclusive_group()
    given.add_argument("--from-image", metavar="IMAGE", help="unpack an image that has systemd and podman")
    given.add_argument("--from-tar", type=Path, metavar="FILE", help="unpack a tar of a root folder")
    actions.add_parser("list", help="list the userlands that are here", allow_abbrev=False)
    remove = actions.add_parser("remove", help="remove a userland", allow_abbrev=False)
    remove.add_argument("name", metavar="NAME")


def run(options: argparse.Namespace) -> int:
    """Make, list or remove userlands."""
    store = UserlandStore(default_folder(), progress.to_stderr)
    {"build": _build, "list": _list, "remove": _remove}[options.action](store, options)
    return 0


def _build(store: UserlandStore, options: argparse.Namespace) -> None:
    if options.from_image is not None:
        images = ImageStore(default_folder(), progress.to_stderr)
        made = store.from_image(options.name, options.from_image, images)
    elif options.from_tar is not None:
        made = store.from_tar(options.name, options.from_tar)
    else:
        made = store.build(options.name)
    say(f"{made.name:20} {made.root}")


def _list(store: UserlandStore, _options: argparse.Namespace) -> None:
    for one in store.unpacked():
        say(f"{one.name:20} {one.system:34} {one.how:24} made in {one.build_s:.0f} s")


def _remove(store: UserlandStore, options: argparse.Namespace) -> None:
    if any(remnant.alive for remnant in leaks.find()):
        raise UsageError(
            "Sessions may be using the userland.", hint="Wait for them, or run 'python3 -m harness leaks --all'."
        )
    for one in store.remove(options.name):
        say(f"removed: {one.name} ({one.system})")
