"""The command line: the table of commands, and how an error becomes a sentence and a status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import ModuleType

from harness.cli.command import Command, Group
from harness.core.errors import INFRASTRUCTURE, Blame, HarnessError
from harness.core.text import put, shown

#: Exit statuses by who has to act; 1 is also a command's own "no".
_STATUS = {Blame.INPUT: 2, Blame.MACHINE: INFRASTRUCTURE}


def _command(name: str, text: str, group: Group = Group.MACHINE) -> Command:
    """Return a command, whose file is imported when it is the one that is meant: most of them take long."""

    def file() -> ModuleType:
        return importlib.import_module(f"harness.cli.{name}")

    return Command(name, text, lambda parser: file().arguments(parser), lambda options: file().run(options), group)


#: A command is a row here and a file of this folder with two functions, `arguments` and `run`. `doctor` and `setup`
#: import no package: they are for machines where nothing is installed yet.
COMMANDS = (
    _command("test", "try every promise of an image or of unit files: the battery", Group.IMAGE),
    _command("lint", "find out what is wrong with unit files, without running them", Group.IMAGE),
    _command("contract", "start, check or explain a contract, or make one from unit files", Group.IMAGE),
    _command("units", "write the unit files of a contract, ready to ship", Group.IMAGE),
    _command("bisect", "find out which layer loses the socket of an image", Group.IMAGE),
    _command("gate", "compare two images of one contract, and judge", Group.IMAGE),
    _command("report", "show what a run found, or write it as HTML, Markdown or JUnit XML", Group.RESULTS),
    _command("images", "list, build or remove the images in the store"),
    _command("userland", "make, list or remove distributions that sessions can run in"),
    _command("leaks", "show what runs have left on this machine"),
    _command("sweep", "remove what killed runs have left"),
    _command("completion", "print what lets a shell complete 'sah' and its options"),
    _command("doctor", "show what this machine can do, and how to get what is missing"),
    _command("setup", "install the system packages that are missing"),
)


class _Grouped(argparse.RawDescriptionHelpFormatter):
    """Leaves out argparse's own list of the commands, which knows no groups."""

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from ()


def parser(rows: Sequence[Command], program: str, description: str, only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a command line; its help shows the commands by what they are for.

    It has the options of all commands, or of `only` one, which takes less time.
    """
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
        if only in (None, row.name):
            row.arguments(sub)
        sub.set_defaults(run=row.run)
    return top


def sah(program: str = "sah", only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of `sah`, with the options of all commands or of `only` one."""
    return parser(COMMANDS, program, "Test socket-activated containers.", only)


def run(make_parser: Callable[[str], argparse.ArgumentParser], arguments: Sequence[str] | None) -> int:
    """Run one command and return the exit status; without a command, show what there is.

    `make_parser` gets the first argument.
    """
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        # In here, since it loads what other packages add, which may be wrong.
        options = make_parser(arguments[0]).parse_args(arguments)
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "harness":
            raise
        return _fail(_lacking(error.name))
    except HarnessError as error:
        return _fail(error)
    except BrokenPipeError:
        # The reader, such as head(1), has had enough; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        put(sys.stderr, shown("harness: interrupted\n"))
        return 130
    return status


def _fail(error: HarnessError) -> int:
    put(sys.stderr, shown(f"{error}\n"))
    return _STATUS.get(error.blame, 1)


def _lacking(package: str) -> HarnessError:
    return HarnessError(
        f"The command needs the Python package '{package}', which is not installed.",
        hint="Install the harness with its packages: python3 -m pip install -e '.[api]' in an environment of your own.",
        blame=Blame.MACHINE,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    program = "sah" if Path(sys.argv[0]).name == "sah" else "python3 -m harness"
    return run(lambda name: sah(program, name), arguments)
