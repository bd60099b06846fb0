"""The summary in a terminal: one screen of what ran, how fast it was and what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from harness.record import Outcome, Results, Role, Test, Verdict
from harness.report.outline import BAD, Image, Outline, Timing, outline
from harness.report.text import MARKS, NOTHING, line, ms, ratio

#: Plain characters for terminals that are not set to Unicode.
_PLAIN = {"✓": "+", "✗": "x", "–": "-", NOTHING: ".", "…": "...", "≤": "<="}  # noqa: RUF001 -- a dash is meant

#: Colours of select graphic rendition, ECMA-48.
_COLOURS: dict[Outcome | Verdict, str] = {
    Outcome.PASSED: "32",
    Outcome.FAILED: "31",
    Outcome.ERROR: "31",
    Outcome.SKIPPED: "33",
    Verdict.PASS: "32",
    Verdict.REGRESSION: "31",
    Verdict.INCONCLUSIVE: "33",
}

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


def view(results: Results, style: Style | None = None) -> str:
    """Return the summary, without a newline at its end."""
    style = style or Style()
    run = outline(results)
    return "\n".join(_lines(run, style)).rstrip("\n")


def _lines(run: Outline, style: Style) -> Iterator[str]:
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
    for test in run.bad:
        yield from _failure(test, style)
    for reason, tests in run.skipped.items():
        yield style.plain(f"{MARKS[Outcome.SKIPPED]} skipped {len(tests)}: {line(reason, _WIDTH) or 'no reason given'}")
    if run.bad or run.skipped:
        yield ""
    colour = _COLOURS[run.verdict]
    yield style.painted(style.plain(f"{MARKS[run.verdict]} {run.verdict}"), colour) + f": {run.sentence}"


def _replies(image: Image) -> list[list[Field]]:
    rows = [[Field("replies"), *(Field(_name(column.name)) for column in image.columns)]]
    for transport in image.transports:
        row = [Field(_name(transport))]
        for column in image.columns:
            cell = image.cell(transport, column)
            row.append(Field(f"{MARKS[cell.outcome]} {cell.words}", _COLOURS[cell.outcome]) if cell else _NONE)
        rows.append(row)
    return rows


_NONE = Field(NOTHING)


def _times(image: Image) -> Iterator[list[Field]]:
    """Yield the rows of the table of times; a column is there only if something is in it."""
    columns = [
        ("median, ms", [_median(timing, Role.CANDIDATE) for timing in image.timings]),
        ("baseline", [_median(timing, Role.BASELINE) for timing in image.timings]),
        ("ratio", [_ratio(timing) for timing in image.timings]),
        ("verdict", [_verdict(timing) for timing in image.timings]),
        ("budget", [_budget(timing) for timing in image.timings]),
    ]
    there = [(title, fields) for title, fields in columns if any(field != _NONE for field in fields)]
    yield [Field("times"), *(Field(title) for title, _ in there)]
    for index, timing in enumerate(image.timings):
        yield [Field(_name(timing.name)), *(fields[index] for _, fields in there)]


def _median(timing: Timing, role: Role) -> Field:
    value = timing.median_ms(role)
    return _NONE if value is None else Field(ms(value, timing.kind))


def _ratio(timing: Timing) -> Field:
    found = timing.comparison
    return Field(f"{ratio(found.ratio)} ({ratio(found.low)} to {ratio(found.high)})") if found else _NONE


def _verdict(timing: Timing) -> Field:
    if not timing.comparison:
        return _NONE
    verdict = timing.comparison.verdict
    text = f"{MARKS[verdict]} {verdict}"
    if grown := timing.grown:
        growth = grown.candidate_ms - grown.baseline_ms
        text += f": '{_name(grown.phase)}' grew by {ms(growth, timing.kind)} ms"
    return Field(text, _COLOURS[verdict])


def _budget(timing: Timing) -> Field:
    if not timing.budget:
        return _NONE
    outcome = Outcome.PASSED if timing.budget.within else Outcome.FAILED
    words = "within" if timing.budget.within else "exceeds"
    return Field(f"{MARKS[outcome]} {words} {timing.budget.limit_ms:g}", _COLOURS[outcome])


def _failure(test: Test, style: Style) -> Iterator[str]:
    assert test.outcome in BAD
    blame = f" ({line(test.blame, _WIDTH)})" if test.blame else ""
    head = style.plain(f"{MARKS[test.outcome]} {test.outcome}")
    yield style.painted(head, _COLOURS[test.outcome]) + style.plain(f" {line(test.id, _WIDTH)}{blame}")
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
