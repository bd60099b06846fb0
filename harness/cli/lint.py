"""The command `lint`: what is wrong with unit files, before anything runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli.command import say
from harness.contract import units
from harness.core.errors import UsageError
from harness.core.text import put, shown
from harness.lint import RULES, Finding, Severity, check, tools
from harness.lint.findings import FORMATS, SAID


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="a folder of unit files")
    parser.add_argument(
        "--instance", action="append", default=[], metavar="NAME@INSTANCE", help="of a template; repeatable"
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="(default: text)")
    parser.add_argument("--rules", action="store_true", help="list the rules and do nothing else")


def run(options: argparse.Namespace) -> int:
    """Print what is found; the status is 1 where there is an error, else 0."""
    if options.rules:
        say("\n".join(f"{rule.number} {rule.severity:8} {rule.title}" for rule in RULES))
        return 0
    if options.folder is None or not options.folder.is_dir():
        raise UsageError(f"'{options.folder}' is no folder.", hint="Name a folder with unit files.")
    folder, mistakes = units.collect(options.folder, options.instance)
    read = (Finding(file, 1, SAID, Severity.ERROR, text) for file, text in mistakes)
    found = (*read, *check(folder), *tools.said(folder))
    text = FORMATS[options.format](sorted(found))
    if text:
        put(sys.stdout, text)
        put(sys.stdout, shown("\n"))
    return 1 if any(one.severity is Severity.ERROR for one in found) else 0
