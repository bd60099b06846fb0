"""What works with which Podman and systemd: every image, activation and transport of a run, by its userlands.

A view for docs/compatibility.md. A place without a good result has a number, and the reason stands below the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.cli.command import Command, say
from harness.report.markdown import safe
from harness.report.summary import Cell, Column, Image, summarize
from harness.report.text import MARKS, NOTHING
from harness.results import record
from harness.results.record import Environment, Outcome, Results

_HEAD = """\
# What works with which Podman and systemd

`python -m tools compatibility RESULTS > docs/compatibility.md` makes this file from the results.json of a run
with `--harness-userland` for each column. A mark stands for all tests of an image by an activation over a transport.
"""

#: A place that nobody tested and for which no reason is known.
_UNASKED = "not asked for in this run"


@dataclass(frozen=True, slots=True)
class _Notes:
    """Reasons, numbered in the order in which they are first needed."""

    texts: list[str] = field(default_factory=list)

    def sign(self, text: str) -> str:
        """Return the number of a reason, as it stands in a cell."""
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def view(results: Results) -> str:
    """Return the tables and the reasons."""
    notes = _Notes()
    images = [line for image in summarize(results).images if image.cells for line in _image(image, notes)]
    reasons = [f"{number}. {safe(text)}" for number, text in enumerate(notes.texts, 1)]
    found = results.environment
    guest = f", guest {safe(found.guest)}" if found.guest else ""
    run = f"The run: {safe(results.started)}, kernel {safe(found.kernel)}{guest}."
    return "\n".join([_HEAD, run, "", *_userlands(found), *images, *(["", *reasons] if reasons else []), ""])


def _userlands(found: Environment) -> Iterator[str]:
    """Yield the table of programs and their versions."""
    programs = list(dict.fromkeys(program for one in found.userlands.values() for program in one.versions))
    yield _row("userland", *found.userlands)
    yield _row(*["---"] * (len(found.userlands) + 1))
    for program in programs:
        yield _row(program, *(one.versions.get(program, NOTHING) or "there" for one in found.userlands.values()))


def _image(image: Image, notes: _Notes) -> Iterator[str]:
    yield from ("", f"## {safe(image.name)}", "")
    yield _row("", *(column.name for column in image.columns))
    yield _row(*["---"] * (len(image.columns) + 1))
    for transport in image.transports:
        cells = (_cell(image.cell(transport, column), column, notes) for column in image.columns)
        yield f"| {safe(transport)} | {' | '.join(cells)} |"


def _cell(cell: Cell | None, column: Column, notes: _Notes) -> str:
    if cell is None:
        return f"{NOTHING} {notes.sign(column.why or _UNASKED)}"
    mark = f"{MARKS[cell.outcome]} {cell.words}"
    return f"{mark} {notes.sign(cell.why)}" if cell.outcome is Outcome.SKIPPED and cell.why else mark


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(safe, cells))} |"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="results.json", help="what a run in several userlands wrote")


def _compatibility(options: argparse.Namespace) -> int:
    """Print what works in which userland as Markdown."""
    say(view(record.read(options.results)).rstrip("\n"))
    return 0


COMMANDS = (Command("compatibility", "show what works in which userland", _arguments, _compatibility),)
