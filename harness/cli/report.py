"""The command `report`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from harness.core import progress
from harness.core.errors import UsageError
from harness.core.text import put, shown
from harness.report import html, junit, markdown, terminal
from harness.report.files import write_all
from harness.report.terminal import Style
from harness.results import record
from harness.results.record import Results

#: Option -> what it writes, given the results, their file and the view's own file.
_FILES: dict[str, Callable[[Results, Path, Path], str]] = {
    "html": lambda results, source, file: html.view(results, _between(source, file)),
    "markdown": lambda results, _source, _file: markdown.view(results),
    "junit": lambda results, _source, _file: junit.view(results),
}


def _between(source: Path, file: Path) -> str:
    """Return the folder of `source` as seen from that of `file`."""
    return os.path.relpath(source.resolve().parent, file.resolve().parent)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="results.json", help="what a run wrote")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs no other file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the summary of a CI job")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")


def run(options: argparse.Namespace) -> int:
    """Write the views asked for, or print the summary."""
    results = record.read(options.results)
    wanted = {name: file for name in _FILES if (file := getattr(options, name)) is not None}
    if not wanted:
        put(sys.stdout, terminal.view(results, Style.of(sys.stdout)))
        put(sys.stdout, shown("\n"))
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
