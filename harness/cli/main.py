"""The command line: each command is a row of COMMANDS in its own file, and an error becomes a sentence and a status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from harness.cli.command import Command, Group
from harness.core.errors import INFRASTRUCTURE, Blame, HarnessError

#: Commands for machines where nothing is installed yet: these files import no package.
_BARE = ("doctor", "setup")

#: The files of this folder with the other commands.
_MORE = ("test", "lint", "contract", "units", "bisect", "gate", "report", "images", "userland", "leaks", "completion")

#: Exit statuses by who has to act; 1 is also a command's own "no".
_STATUS = {Blame.INPUT: 2, Blame.MACHINE: INFRASTRUCTURE}


def commands() -> Sequence[Command]:
    """Return all commands that can run here; without the harness's packages those that need none."""
    rows = [row for name in _BARE for row in _rows(name)]
    try:
        return [*rows, *(row for name in _MORE for row in _rows(name))]
    except ModuleNotFoundError:
        return rows


def _rows(name: str) -> Sequence[Command]:
    rows: Sequence[Command] = importlib.import_module(f"harness.cli.{name}").COMMANDS
    return rows


class _Grouped(argparse.RawDescriptionHelpFormatter):
    """Leaves out argparse's own list of the commands, which knows no groups."""

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from ()


def parser(rows: Sequence[Command], program: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a command line; its help shows the commands by what they are for."""
    width = max(len(row.name) for row in rows) + 2
    lines = []
    for group in Group:
        if shown := [f"  {row.name:<{width}}{row.help}" for row in rows if row.group is group]:
            lines += [f"{group}:", *shown, ""]
    top = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} [-h] COMMAND ...",
        description=description,
        epilog="\n".join([*lines, f"'{program} COMMAND --help' shows the options of a command."]),
        formatter_class=_Grouped,
        allow_abbrev=False,
    )
    subparsers = top.add_subparsers(metavar="COMMAND", help="one of those below", required=True, prog=program)
    for row in rows:
        sub = subparsers.add_parser(row.name, help=row.help, description=row.help, allow_abbrev=False)
        row.arguments(sub)
        sub.set_defaults(run=row.run, parser=top)
    return top


def sah(program: str = "sah") -> argparse.ArgumentParser:
    """Return the parser of `sah`."""
    return parser(commands(), program, "Test socket-activated containers.")


def run(make_parser: Callable[[], argparse.ArgumentParser], arguments: Sequence[str] | None) -> int:
    """Run one command and return the exit status; without a command, show what there is."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # In here, since it loads what other packages add, which may be wrong.
        options = make_parser().parse_args(arguments or ["--help"])
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
    program = "sah" if Path(sys.argv[0]).name == "sah" else "python3 -m harness"
    return run(lambda: sah(program), arguments)
