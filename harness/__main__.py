"""The command line, `python3 -m harness COMMAND`: each command is one row of COMMANDS and one function."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import bases, bench, contract, leaks, packages, progress
from harness.bases import Base
from harness.capabilities import NEEDED, Capabilities, Capability
from harness.errors import Blame, HarnessError, UsageError
from harness.images import ImageStore, default_folder

#: Exit statuses by who has to act; 1 is also a command's own "no".
_STATUS = {Blame.INPUT: 2, Blame.MACHINE: 3}

#: Version of the document that `doctor --json` prints.
_DOCTOR_VERSION = 1


def _say(text: str) -> None:
    """Print a result; standard output carries nothing else."""
    sys.stdout.write(text + "\n")


# --- doctor -----------------------------------------------------------------------------------------------------------


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")


def _doctor(options: argparse.Namespace) -> int:
    """Show every capability; the status is 1 where the suites can't run."""
    capabilities = Capabilities()
    found = capabilities.all()
    lacking = capabilities.lacking()
    _say(_doctor_json(found, lacking) if options.json else _doctor_table(found, lacking))
    return 1 if lacking else 0


def _doctor_json(found: Sequence[Capability], lacking: Sequence[Sequence[str]]) -> str:
    document = {
        "version": _DOCTOR_VERSION,
        "suites_can_run": not lacking,
        "lacking": [list(group) for group in lacking],
        "capabilities": [{**dataclasses.asdict(one), "needed": _needed(one.name)} for one in found],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _doctor_table(found: Sequence[Capability], lacking: Sequence[Sequence[str]]) -> str:
    without = {name for group in lacking for name in group}
    width = max(len(one.name) for one in found)
    version = max(len(one.version) for one in found)
    rows = []
    for title, needed in (("Needed by every suite", True), ("Each enables more", False)):
        rows += ["", _painted(title, "1")]
        # Of two alternatives, the one that is missing beside the other is an extra.
        for one in (one for one in found if (_needed(one.name) and (one.present or one.name in without)) is needed):
            mark = _mark(one.present, one.name in without)
            rows.append(f"  {mark} {one.name:<{width}}  {one.version:<{version}}  {one.enables}".rstrip())
            if not one.present:
                # Never wrapped here: a remedy is there to be copied.
                rows += [f"      found: {one.detail}", f"      remedy: {one.remedy}"]
    verdict = "The suites can run here." if not lacking else f"The suites can't run here: {_listed(lacking)} missing."
    return "\n".join([*rows[1:], "", verdict])


def _needed(name: str) -> bool:
    return any(name in group for group in NEEDED)


def _listed(groups: Sequence[Sequence[str]]) -> str:
    return ", ".join(" or ".join(group) for group in groups)


def _mark(present: bool, stops: bool) -> str:
    """Return the mark of a capability: there, missing and stopping the suites, or just missing."""
    plain, fancy, colour = ("+", "✓", "32") if present else ("x", "✗", "31") if stops else ("-", "·", "33")
    encoding = (sys.stdout.encoding or "ascii").lower()
    return _painted(fancy if encoding.startswith("utf") else plain, colour)


def _painted(text: str, code: str) -> str:
    """Colour text for a terminal, unless NO_COLOR (no-color.org) is set."""
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


# --- setup ------------------------------------------------------------------------------------------------------------


def _setup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--virtme", action="store_true", help="also what the guest engine virtme takes")


def _setup(options: argparse.Namespace) -> int:
    """Install the system packages that are missing."""
    installed = packages.ensure(progress.to_stderr, virtme=options.virtme)
    _say(f"installed: {', '.join(installed)}" if installed else "nothing to install")
    return 0


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
        _say(f"{image.name:20} {image.reference:48} {image.base:8} built in {image.build_s:.0f} s")


def _build_images(store: ImageStore, options: argparse.Namespace) -> None:
    base = options.base or store.known_base() or bases.choose()
    for item in contract.load_all([options.contracts]):
        _say(f"{item.name:20} {store.image(item, base).reference}")


def _prune_images(store: ImageStore, options: argparse.Namespace) -> None:
    if any(remnant.alive for remnant in leaks.find()):
        raise UsageError(
            "Sessions are using the images.", remedy="Wait for them, or run 'python3 -m harness leaks --all'."
        )
    keep = () if options.all else store.wanted(contract.load_all([options.contracts]))
    gone = store.prune(keep)
    _say(f"removed: {', '.join(image.reference for image in gone)}" if gone else "nothing to remove")


# --- leaks ------------------------------------------------------------------------------------------------------------


def _leaks_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="show what living sessions have, too")


def _leaks(options: argparse.Namespace) -> int:
    """Show what runs have left; the status is 1 where they left something."""
    left = leaks.leaks()
    for remnant in leaks.find() if options.all else left:
        state = "kept" if remnant.kept else "in use" if remnant.alive else "left"
        _say(f"{state:7} {remnant.kind:10} {remnant.what}")
    if not left:
        _say("nothing is left")
    return 1 if left else 0


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kept", action="store_true", help="end sessions that --harness-keep kept, too")


def _sweep(options: argparse.Namespace) -> int:
    """Remove what killed runs have left."""
    removed = leaks.sweep(kept=options.kept)
    _say("\n".join(f"removed {remnant.kind} {remnant.what}" for remnant in removed) or "nothing to remove")
    return 0


# --- bench ------------------------------------------------------------------------------------------------------------


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contract", type=Path, default=Path("containers/echo"), help="what to activate")
    parser.add_argument("--suites", type=Path, default=Path("suites"), help="the suites to run as a whole")
    parser.add_argument("--rounds", type=int, default=15, help="how often to measure each thing (default: 15)")


def _bench(options: argparse.Namespace) -> int:
    """Print what the harness itself costs."""
    rows = itertools.chain(
        bench.measure(options.contract, progress.to_stderr, options.rounds),
        bench.suites(options.suites, progress.to_stderr),
    )
    for row in rows:
        _say(f"{row.what:42} {row.value:42} {row.against}")
        sys.stdout.flush()
    return 0


# --- all commands -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, a line of help, its arguments, and what it does; that returns the exit status."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


#: To add a command, add a row and its two functions.
COMMANDS: tuple[Command, ...] = (
    Command("doctor", "show what this machine can do, and how to get what is missing", _doctor_arguments, _doctor),
    Command("setup", "install the system packages that are missing", _setup_arguments, _setup),
    Command("images", "list, build or remove the images in the store", _images_arguments, _images),
    Command("leaks", "show what runs have left on this machine", _leaks_arguments, _leaks),
    Command("sweep", "remove what killed runs have left", _sweep_arguments, _sweep),
    Command("bench", "measure what the harness itself costs", _bench_arguments, _bench),
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python3 -m harness", description="Test socket-activated containers.", allow_abbrev=False
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        command.arguments(sub)
        sub.set_defaults(run=command.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return _STATUS.get(error.blame, 1)
    except KeyboardInterrupt:
        sys.stderr.write("harness: interrupted\n")
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
