"""The commands `report` and `compare`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from harness import progress, record
from harness.cli import Command, say
from harness.errors import UsageError
from harness.record import Results
from harness.report import compare, compatibility, html, junit, markdown, terminal
from harness.report.files import write_all
from harness.report.terminal import Style

#: Option -> what it writes, given the results, their file and the view's own file.
_FILES: dict[str, Callable[[Results, Path, Path], str]] = {
    "html": lambda results, source, file: html.view(results, _between(source, file)),
    "markdown": lambda results, _source, _file: markdown.view(results),
    "junit": lambda results, _source, _file: junit.view(results),
    "compatibility": lambda results, _source, _file: compatibility.view(results),
}


def _between(source: Path, file: Path) -> str:
    """Return the folder of `source` as seen from that of `file`."""
    return os.path.relpath(source.resolve().parent, file.resolve().parent)


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="results.json", help="what a run wrote")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs no other file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the summary of a CI job")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.add_argument("--compatibility", type=Path, metavar="FILE", help="write what works in which userland")


def _report(options: argparse.Namespace) -> int:
    """Write the views asked for, or print the summary."""
    results = record.read(options.results)
    wanted = {name: file for name in _FILES if (file := getattr(options, name)) is not None}
    if not wanted:
        say(terminal.view(results, Style.of(sys.stdout)))
        return 0
    _check(options.results, wanted)
    write_all({file: _FILES[name](results, options.results, file) for name, file in wanted.items()})
    for file in wanted.values():
        progress.to_stderr(f"written: {file}")
    return 0


def _check(source: Path, wanted: dict[str, Path]) -> None:
    """Raise UsageError where a view would replace the results or another view."""
    taken = {source.resolve(): "the results"}
    for name, file in wanted.items():
        if known := taken.get(file.resolve()):
            raise UsageError(f"The option '--{name}' names the file '{file}', which is {known}.")
        taken[file.resolve()] = f"that of '--{name}'"


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="A.json", help="what a run wrote")
    parser.add_argument("second", type=Path, metavar="B.json", help="what another run wrote")


def _compare(options: argparse.Namespace) -> int:
    """Show the medians of two runs beside each other; that is no verdict."""
    one, other = record.read(options.first), record.read(options.second)
    say(compare.view(one, other, Style.of(sys.stdout)))
    return 0


COMMANDS: tuple[Command, ...] = (
    Command("report", "show what a run found, or write it as HTML, Markdown or JUnit XML", _report_arguments, _report),
    Command("compare", "show the times of two runs beside each other", _compare_arguments, _compare),
)
