"""The command line, `sah` or `python3 -m harness`: each command is one row of COMMANDS and one function."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

from harness.capabilities import packages
from harness.capabilities.table import NEEDED, Capabilities, Capability
from harness.cli.command import Command, Group, say
from harness.core import progress
from harness.core.errors import INFRASTRUCTURE, Blame, HarnessError

try:
    from harness.cli.commands import COMMANDS as MORE
except ModuleNotFoundError:
    # `doctor` and `setup` are for machines where nothing is installed yet, so they need no packages.
    MORE = ()

#: Exit statuses by who has to act; 1 is also a command's own "no".
_STATUS = {Blame.INPUT: 2, Blame.MACHINE: INFRASTRUCTURE}

#: Version of the document that `doctor --json` prints.
_DOCTOR_VERSION = 1


# --- doctor -----------------------------------------------------------------------------------------------------------


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")


def _doctor(options: argparse.Namespace) -> int:
    """Show every capability; the status is 1 where the suites can't run."""
    capabilities = Capabilities()
    found = capabilities.all()
    lacking = capabilities.lacking()
    say(_doctor_json(found, lacking) if options.json else _doctor_table(found, lacking))
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
                # Never wrapped here: a hint is there to be copied.
                rows += [f"      found: {one.detail}", f"      hint: {one.hint}"]
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
    parser.add_argument("--tests", action="store_true", help="also what the harness's own tests take")


def _setup(options: argparse.Namespace) -> int:
    """Install the system packages that are missing."""
    installed = packages.ensure(progress.to_stderr, [name for name in packages.EXTRAS if getattr(options, name)])
    if release := packages.ensure_guest(progress.to_stderr):
        installed += (f"User-mode Linux {release}",)
    say(f"installed: {', '.join(installed)}" if installed else "nothing to install")
    return 0


# --- all commands -----------------------------------------------------------------------------------------------------


#: To add a command, add a row and its two functions.
COMMANDS: tuple[Command, ...] = (
    Command("doctor", "show what this machine can do, and how to get what is missing", _doctor_arguments, _doctor),
    Command("setup", "install the system packages that are missing", _setup_arguments, _setup),
    *MORE,
)


class _Grouped(argparse.RawDescriptionHelpFormatter):
    """Leaves out argparse's own list of the commands, which knows no groups."""

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from ()


def parser(
    commands: Sequence[Command] = COMMANDS, program: str = "sah", description: str = "Test socket-activated containers."
) -> argparse.ArgumentParser:
    """Return the parser of a command line; its help shows the commands by what they are for."""
    width = max(len(command.name) for command in commands) + 2
    lines = []
    for group in Group:
        if rows := [f"  {one.name:<{width}}{one.help}" for one in commands if one.group is group]:
            lines += [f"{group}:", *rows, ""]
    top = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [-h] COMMAND ...",
        description=description,
        epilog="\n".join([*lines, f"'{program} COMMAND --help' shows the options of a command."]),
        formatter_class=_Grouped,
        allow_abbrev=False,
    )
    subparsers = top.add_subparsers(metavar="COMMAND", help="one of those below", required=True)
    for command in commands:
        sub = subparsers.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        command.arguments(sub)
        sub.set_defaults(run=command.run)
    return top


def _completion() -> str:
    """Return bash's completion of `sah`, its commands and their options."""
    import shtab  # only here: `doctor` and `setup` need no packages

    return shtab.complete(parser(), "bash")


def run(top: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run one command and return the exit status; without a command, show what there is."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = top.parse_args(arguments or ["--help"])
        status: int = options.run(options)
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return _STATUS.get(error.blame, 1)
    except BrokenPipeError:
        # The reader, such as head(1), has had enough; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("harness: interrupted\n")
        return 130
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    if (sys.argv[1:] if arguments is None else list(arguments)) == ["--print-completion", "bash"]:
        say(_completion())
        return 0
    program = "sah" if Path(sys.argv[0]).name == "sah" else "python3 -m harness"
    return run(parser(COMMANDS, program), arguments)


if __name__ == "__main__":
    sys.exit(main())
