"""Words, numbers and marks as every view writes them, and foreign text made safe to show."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from harness.core.text import shown
from harness.core.userland import HOST
from harness.results.record import Case, Kind, Outcome, Verdict

#: Mark and word of each outcome and verdict; the words tell it all, the marks are found faster.
MARKS: dict[Outcome | Verdict, str] = {
    Outcome.PASSED: "✓",
    Outcome.FAILED: "✗",
    Outcome.SKIPPED: "–",  # noqa: RUF001 -- a dash is meant
    Outcome.ERROR: "✗",
    Verdict.PASS: "✓",
    Verdict.REGRESSION: "✗",
    Verdict.INCONCLUSIVE: "?",
}


class Tone(StrEnum):
    """Whether a reader may be content, in views with colours."""

    GOOD = "good"
    BAD = "bad"
    UNSURE = "unsure"


TONES: dict[Outcome | Verdict, Tone] = {
    Outcome.PASSED: Tone.GOOD,
    Outcome.FAILED: Tone.BAD,
    Outcome.ERROR: Tone.BAD,
    Outcome.SKIPPED: Tone.UNSURE,
    Verdict.PASS: Tone.GOOD,
    Verdict.REGRESSION: Tone.BAD,
    Verdict.INCONCLUSIVE: Tone.UNSURE,
}

#: What a place without a value shows.
NOTHING = "·"


def line(text: str, limit: int) -> str:
    """Return a text on one line of at most `limit` characters."""
    return cut(shown(" ".join(text.split())), limit, "…")


def cut(text: str, limit: int, sign: str) -> str:
    """Return the text, or its beginning and the sign that it goes on."""
    return text if len(text) <= limit else text[: max(0, limit - len(sign))] + sign


def message(content: str, limit: int) -> str:
    """Return a text of many lines; the results have what is cut off."""
    return cut(shown(content), limit, "\n[cut here; the results have all of it]")


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def ms(value: float, kind: Kind = Kind.COLD) -> str:
    """Return milliseconds; a request to a running service takes less than one and gets two digits more."""
    return f"{value:.1f}" if kind is Kind.COLD else f"{value:.3f}"


def ratio(value: float) -> str:
    """Return a ratio."""
    return f"{value:.3f}"


def case_name(case: Case) -> str:
    """Return what a case is called below the name of its contract."""
    name = f"{case.activation}, {case.transport}"
    return name if case.userland == HOST.name else f"{case.userland}, {name}"


def listed(items: Sequence[str]) -> str:
    """Return a list as a sentence has it."""
    return ", ".join(items[:-1]) + f" and {items[-1]}" if len(items) > 1 else "".join(items)
