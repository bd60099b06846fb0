"""The one table of medians, ratios, verdicts and budgets; each view renders its cells in its own markup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.report.summary import Timing
from harness.report.text import ms, ratio
from harness.results.record import Outcome, Verdict

#: Key of a cell -> the title of its column.
TITLES: Mapping[str, str] = {
    "candidate_ms": "candidate, ms",
    "baseline_ms": "baseline, ms",
    "ratio": "ratio",
    "ratio_low": "from",
    "ratio_high": "to",
    "verdict": "verdict",
    "grown": "grew most",
    "budget_ms": "budget, ms",
}


@dataclass(frozen=True, slots=True)
class TimeCell:
    """One value of one measured case."""

    key: str
    text: str
    #: What the value is called in a view with colours and marks; None for a mere number.
    tone: Outcome | Verdict | None = None


def cells(timing: Timing) -> Iterator[TimeCell]:
    """Yield what is known of a measured case, in the order of `TITLES`."""
    for role in timing.measured:
        yield TimeCell(f"{role}_ms", ms(timing.median_ms(role) or 0.0, timing.kind))
    if found := timing.comparison:
        yield TimeCell("ratio", ratio(found.ratio))
        yield TimeCell("ratio_low", ratio(found.low))
        yield TimeCell("ratio_high", ratio(found.high))
        yield TimeCell("verdict", found.verdict, found.verdict)
    if grown := timing.grown:
        growth = ms(grown.candidate_ms - grown.baseline_ms, timing.kind)
        yield TimeCell("grown", f"'{grown.phase}' by {growth} ms")
    if timing.budget:
        within = timing.budget.within
        words = "within" if within else "exceeds"
        yield TimeCell("budget_ms", f"{words} {timing.budget.limit_ms:g}", Outcome.PASSED if within else Outcome.FAILED)


@dataclass(frozen=True, slots=True)
class TimesTable:
    """The cells of several cases, with a column for each key that one of them has."""

    keys: tuple[str, ...]
    #: One for each case, in the order of the cases.
    rows: tuple[Mapping[str, TimeCell], ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles of the columns."""
        return tuple(TITLES[key] for key in self.keys)

    def row(self, index: int) -> list[TimeCell | None]:
        """Return the cells of a case, None where it has none."""
        return [self.rows[index].get(key) for key in self.keys]


def table(timings: Sequence[Timing]) -> TimesTable:
    """Return the table of several measured cases."""
    rows = tuple({cell.key: cell for cell in cells(timing)} for timing in timings)
    return TimesTable(tuple(key for key in TITLES if any(key in row for row in rows)), rows)
