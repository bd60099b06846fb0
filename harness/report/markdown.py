"""Markdown for the summary of a CI job, GitHub's dialect: the verdict first, what is long folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from harness.report import cells
from harness.report.cells import TimeCell
from harness.report.summary import Cell, Image, Summary, Timing, summarize
from harness.report.text import MARKS, NOTHING, count, line, message
from harness.results.record import Outcome, Results, Test

#: The longest summary of a step that GitHub takes, in bytes.
LIMIT_BYTES = 1024 * 1024

#: The longest message; the results have all of it.
_MESSAGE = 10_000

#: The longest other text.
_TEXT = 300

#: Every character that means something to Markdown or HTML within a line, and the point that makes a name a link.
_MEANING = re.compile(r"[!\"#$%&*+:<=>?@\[\\\]^_`{|}~]|(?<=www)\.", re.IGNORECASE)

_CUT = "_Cut here: a summary has at most 1 MiB. The page and the results have all of it._\n"


def view(results: Results) -> str:
    """Return the summary, at most `LIMIT_BYTES` of UTF-8."""
    run = summarize(results)
    kept: list[str] = []
    room = LIMIT_BYTES - len(_CUT.encode())
    for block in _blocks(run):
        room -= len(block.encode()) + 1
        if room < 0:
            return "\n".join([*kept, _CUT])
        kept.append(block)
    return "\n".join(kept)


def _blocks(run: Summary) -> Iterator[str]:
    """Yield what may be left out as a whole, each with a newline at its end."""
    yield f"## {MARKS[run.verdict]} Socket activation: {run.verdict}\n"
    yield f"{run.sentence}\n"
    for image in run.images:
        yield f"### {safe(image.name)}\n"
        if image.cells:
            yield replies(image)
        if image.timings:
            yield _times(image.timings)
    if run.promises:
        yield "### Promises\n"
        yield "".join(f"- {safe(sentence)}\n" for sentence in run.promises)
    if run.bad:
        yield f"### {count(len(run.bad), 'failure').capitalize()}\n"
        yield from map(_failure, run.bad)
    for reason, tests in run.skipped.items():
        yield _folded(
            f"{MARKS[Outcome.SKIPPED]} {count(len(tests), 'test')} skipped: {safe(reason) or 'no reason given'}",
            "\n".join(f"- <code>{safe(test.id)}</code>" for test in tests),
        )
    yield _environment(run)


def replies(image: Image) -> str:
    """Return the table of transports by activations, and why which columns are empty."""
    rows = (
        [safe(transport), *(_cell(image.cell(transport, column)) for column in image.columns)]
        for transport in image.transports
    )
    empty = (f"\n{safe(column.name)}: {safe(column.why)}.\n" for column in image.columns if column.why)
    return _table(["", *(column.name for column in image.columns)], rows) + "".join(empty)


def _cell(cell: Cell | None) -> str:
    return f"{MARKS[cell.outcome]} {cell.words}" if cell else NOTHING


def _times(timings: Sequence[Timing]) -> str:
    found = cells.table(timings)
    rows = ([safe(timing.name), *(_time(cell) for cell in found.row(index))] for index, timing in enumerate(timings))
    return _table(["", *found.titles], rows)


def _time(cell: TimeCell | None) -> str:
    if cell is None:
        return NOTHING
    return f"{MARKS[cell.tone]} {safe(cell.text)}" if cell.tone else safe(cell.text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells of `rows` are Markdown, those of `head` text."""
    lines = [[safe(title) for title in head], ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _failure(test: Test) -> str:
    blame = f" ({safe(test.blame)})" if test.blame else ""
    bundle = f"bundle: <code>{safe(test.bundle)}</code>\n\n" if test.bundle else ""
    title = f"{MARKS[test.outcome]} {test.outcome}: <code>{safe(test.id)}</code>{blame}"
    return _folded(title, bundle + _fenced(message(test.message, _MESSAGE)))


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>\n"


def _fenced(text: str) -> str:
    """Return a block of code whose fence is longer than any inside (GitHub Flavored Markdown, 4.5)."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _environment(run: Summary) -> str:
    found = run.results.environment
    versions = (f"{name} {version}" for name, version in found.versions.items())
    guest = (f"guest {found.guest}",) if found.guest else ()
    facts = (f"kernel {found.kernel}", found.machine, *versions, f"base {found.base}", *guest)
    return f"<sub>{', '.join(map(safe, facts))}; {count(found.cpus, 'processor')}; {safe(run.results.started)}</sub>\n"


def safe(text: str) -> str:
    """Return a text on one line in which nothing means anything to Markdown or HTML, in a table neither."""
    return _MEANING.sub(lambda found: f"&#{ord(found[0])};", line(text, _TEXT))
