"""The summary in a terminal: one screen of what ran, how fast it was and what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from harness.core.text import Shown
from harness.report import cells
from harness.report.cells import TimeCell
from harness.report.summary import BAD, Image, Summary, summarize
from harness.report.text import MARKS, NOTHING, TONES, Tone, line
from harness.results.record import Outcome, Results, Test, Verdict

#: Plain characters for terminals that are not set to Unicode.
_PLAIN = {"✓": "+", "✗": "x", "–": "-", NOTHING: ".", "…": "...", "≤": "<="}  # noqa: RUF001 -- a dash is meant

#: Colours of select graphic rendition, ECMA-48.
_COLOURS = {Tone.GOOD: "32", Tone.BAD: "31", Tone.UNSURE: "33"}

#: The longest foreign text on a line.
_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show."""

    unicode: bool = True
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """Return what a stream can show; NO_COLOR (no-color.org) is honoured."""
        encoding = (stream.encoding or "ascii").lower()
        return cls(encoding.startswith("utf"), stream.isatty() and not os.environ.get("NO_COLOR"))

    def plain(self, text: str) -> str:
        """Return the text in characters that the terminal has."""
        if self.unicode:
            return text
        for fancy, plain in _PLAIN.items():
            text = text.replace(fancy, plain)
        return text.encode("ascii", "backslashreplace").decode()

    def painted(self, text: str, code: str) -> str:
        """Colour a text."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text


@dataclass(frozen=True, slots=True)
class Field:
    """A cell of a table: its text, and the colour of all of it."""

    text: str
    colour: str = ""


def view(results: Results, style: Style | None = None) -> Shown:
    """Return the summary, without a newline at its end; its colours are our own, all else went through `line`."""
    style = style or Style()
    run = summarize(results)
    return Shown("\n".join(_lines(run, style)).rstrip("\n"))


def _lines(run: Summary, style: Style) -> Iterator[str]:
    for image in run.images:
        yield style.painted(style.plain(line(image.name, _WIDTH)), "1")
        if image.cells:
            yield from table(_replies(image), style)
            for column in (column for column in image.columns if column.why):
                yield style.plain(f"  {NOTHING} {_name(column.name)}: {line(column.why, _WIDTH)}")
            yield ""
        if image.timings:
            yield from table(list(_times(image)), style)
            yield ""
    if run.promises:
        yield style.painted("promises", "1")
        yield from (style.plain(f"  {line(sentence, _WIDTH)}") for sentence in run.promises)
        yield ""
    for test in run.bad:
        yield from _failure(test, style)
    for reason, tests in run.skipped.items():
        yield style.plain(f"{MARKS[Outcome.SKIPPED]} skipped {len(tests)}: {line(reason, _WIDTH) or 'no reason given'}")
    if run.bad or run.skipped:
        yield ""
    colour = _colour(run.verdict)
    yield style.painted(style.plain(f"{MARKS[run.verdict]} {run.verdict}"), colour) + f": {run.sentence}"


def _replies(image: Image) -> list[list[Field]]:
    rows = [[Field("replies"), *(Field(_name(column.name)) for column in image.columns)]]
    for transport in image.transports:
        row = [Field(_name(transport))]
        for column in image.columns:
            cell = image.cell(transport, column)
            row.append(Field(f"{MARKS[cell.outcome]} {cell.words}", _colour(cell.outcome)) if cell else Field(NOTHING))
        rows.append(row)
    return rows


def _times(image: Image) -> Iterator[list[Field]]:
    found = cells.table(image.timings)
    yield [Field("times"), *map(Field, found.titles)]
    for index, timing in enumerate(image.timings):
        yield [Field(_name(timing.name)), *(_field(cell) for cell in found.row(index))]


def _field(cell: TimeCell | None) -> Field:
    if cell is None:
        return Field(NOTHING)
    text = line(cell.text, _WIDTH)
    return Field(f"{MARKS[cell.tone]} {text}", _colour(cell.tone)) if cell.tone else Field(text)


def _colour(outcome: Outcome | Verdict) -> str:
    return _COLOURS[TONES[outcome]]


def _failure(test: Test, style: Style) -> Iterator[str]:
    assert test.outcome in BAD
    blame = f" ({line(test.blame, _WIDTH)})" if test.blame else ""
    head = style.plain(f"{MARKS[test.outcome]} {test.outcome}")
    yield style.painted(head, _colour(test.outcome)) + style.plain(f" {line(test.id, _WIDTH)}{blame}")
    first = next((row for row in test.message.splitlines() if row.strip()), "")
    if first:
        yield style.plain(f"    {line(first, _WIDTH)}")
    if test.bundle:
        yield style.plain(f"    bundle: {line(test.bundle, _WIDTH)}")


def _name(text: str) -> str:
    return line(text, 40)


def table(rows: Sequence[Sequence[Field]], style: Style) -> Iterator[str]:
    """Yield the lines of a table; rows are of one length."""
    plain = [[style.plain(field.text) for field in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    for row, texts in zip(rows, plain, strict=True):
        cells = zip(row, texts, widths, strict=True)
        # Painted first: a colour has no width.
        painted = [style.painted(text, cell.colour) + " " * (width - len(text)) for cell, text, width in cells]
        yield "  " + "  ".join(painted).rstrip()
