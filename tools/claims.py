"""What the tutorial claims, the tests that carry each claim, and how they ended: a view for docs/claims.md.

The claims are a TOML file of sections; a test carries one by the mark `harness_verifies` with its sentence.
"""

from __future__ import annotations

import argparse
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.cli.command import Command, say
from harness.core.errors import UsageError
from harness.results import record
from harness.results.record import Outcome, Results, Test

_HEAD = """\
# What the tutorial claims, and what proves it

The sections are those of Podman's
[socket activation tutorial](https://github.com/containers/podman/blob/main/docs/tutorials/socket_activation.md), the
sentences our own; some go beyond it. `python -m tools claims RESULTS > docs/claims.md` makes this file from the
results.json of a run of the suites.
"""

_UNKNOWN = "no such test in this run"


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the tutorial."""

    title: str
    claims: tuple[str, ...] = ()
    #: A claim that no test carries -> why.
    untested: Mapping[str, str] = field(default_factory=dict)


def read(file: Path) -> tuple[Section, ...]:
    """Read the claims; raise UsageError with the file and what is wrong with it."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        return tuple(_section(entry) for entry in document["section"])
    except OSError as error:
        raise UsageError(f"The claims '{file}' can't be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"The file '{file}' holds no claims: {error}.",
            hint="It is a list of tables 'section', each with 'title', 'claims' and 'untested'.",
        ) from None


def _section(entry: Mapping[str, object]) -> Section:
    if strange := set(entry) - {"title", "claims", "untested"}:
        raise ValueError(f"'{min(strange)}' is no key of a section")
    title, claims, untested = entry["title"], entry.get("claims", []), entry.get("untested", {})
    if not isinstance(title, str) or not isinstance(claims, list) or not isinstance(untested, dict):
        raise ValueError("'title' is a text, 'claims' a list and 'untested' a table")
    if not all(isinstance(text, str) for text in (*claims, *untested.values())):
        raise ValueError("claims and reasons are texts")
    return Section(title, tuple(claims), untested)


def view(results: Results, sections: tuple[Section, ...]) -> str:
    """Return the claims as Markdown, with the tests of a run."""
    facts = results.environment
    places = {name: one.versions for name, one in facts.userlands.items()} or {"host": facts.versions}
    versions = "; ".join(
        f"{name}: {', '.join(' '.join(item).strip() for item in found.items())}" for name, found in places.items()
    )
    strict = "strict" if facts.strict else "lenient"
    run = f"The last run: {results.started}, kernel {facts.kernel}, base {facts.base}, {strict}; {versions}."
    return "\n".join([_HEAD, run, *(line for section in sections for line in _lines(section, results.tests)), ""])


def _lines(section: Section, tests: tuple[Test, ...]) -> Iterator[str]:
    yield from ("", f"## {section.title}", "", "| claim | tests | result |", "|---|---|---|")
    for claim in section.claims:
        carriers = [test for test in tests if claim in test.claim]
        names = dict.fromkeys(test.id.partition("[")[0] for test in carriers)
        yield _row(claim, "<br>".join(f"`{name}`" for name in names), _result(carriers))
    for claim, why in section.untested.items():
        yield _row(claim, "", f"untested: {why}")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _result(carriers: list[Test]) -> str:
    """Return how many tests ended how, what is bad first."""
    counts = Counter(test.outcome for test in carriers)
    order = (Outcome.FAILED, Outcome.ERROR, Outcome.PASSED, Outcome.SKIPPED)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if counts[outcome]) or _UNKNOWN


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="results.json", help="what a run of the suites wrote")
    parser.add_argument(
        "--claims",
        type=Path,
        default=Path("suites/claims.toml"),
        metavar="FILE",
        help="the claims (default: suites/claims.toml)",
    )


def _claims(options: argparse.Namespace) -> int:
    """Print the claims as Markdown."""
    say(view(record.read(options.results), read(options.claims)).rstrip("\n"))
    return 0


COMMANDS: tuple[Command, ...] = (
    Command("claims", "show what the tutorial claims, with the tests that prove it", _arguments, _claims),
)
