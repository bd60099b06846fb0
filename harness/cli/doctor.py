"""The command `doctor`: what this machine can do."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence

from harness.capabilities.table import NEEDED, Capabilities, Capability
from harness.core.text import Shown, put

#: Version of the document that `doctor --json` prints.
_DOCTOR_VERSION = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")


def run(options: argparse.Namespace) -> int:
    """Show every capability; the status is 1 where the suites can't run."""
    capabilities = Capabilities()
    found = capabilities.all()
    lacking = capabilities.lacking()
    # With escape sequences of its own, where the terminal knows them.
    put(sys.stdout, Shown(f"{_doctor_json(found, lacking) if options.json else _doctor_table(found, lacking)}\n"))
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
