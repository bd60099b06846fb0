"""What all views share: the results sorted by image and case, and the one answer to whether the run was good."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.transports import Transport
from harness.report import promises
from harness.report.text import case_name, count, listed
from harness.results.record import (
    BudgetCheck,
    Case,
    Comparison,
    Kind,
    Outcome,
    PhaseComparison,
    Results,
    Role,
    Sample,
    Series,
    Test,
    Verdict,
)

#: Outcomes from the worst on; a cell of a table shows the worst of its tests, so that none hides behind another.
_WORST = (Outcome.ERROR, Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED)

BAD = (Outcome.FAILED, Outcome.ERROR)


@dataclass(frozen=True, slots=True)
class Cell:
    """The tests of one activation over one transport."""

    outcome: Outcome
    #: Tests with that outcome, and all of them.
    number: int
    of: int
    #: Why they were skipped; empty for other outcomes.
    why: str = ""

    @property
    def words(self) -> str:
        """The outcome in words."""
        return self.outcome if self.number == self.of else f"{self.outcome} {self.number} of {self.of}"


@dataclass(frozen=True, slots=True)
class Column:
    """An activation in a userland: a column of a table of replies."""

    userland: str
    activation: str
    #: What a table calls it; the userland only where the run was for several.
    name: str
    #: Why there is nothing in it; empty where there is something.
    why: str


@dataclass(frozen=True, slots=True)
class Phase:
    """The time between two marks, which follow each other."""

    name: str
    #: Where it lies, as medians of its two marks since the client connected.
    start_ms: float
    end_ms: float
    #: Median of what it took in each sample.
    took_ms: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """The medians of one series."""

    series: Series
    #: What each sample took as a whole: its last mark.
    totals_ms: tuple[float, ...]
    phases: tuple[Phase, ...]
    #: Median of when the unit became active; None where no sample knows.
    ready_ms: float | None

    @property
    def median_ms(self) -> float:
        """Median of the totals; there is at least one."""
        return statistics.median(self.totals_ms)


@dataclass(frozen=True, slots=True)
class Timing:
    """All that was measured of one case: both images, the verdict, the budget; what was not measured is None."""

    case: Case
    kind: Kind
    timelines: Mapping[Role, Timeline]
    comparison: Comparison | None
    budget: BudgetCheck | None

    @property
    def name(self) -> str:
        """The case and the kind."""
        return f"{case_name(self.case)}, {self.kind}"

    @property
    def phase_names(self) -> tuple[str, ...]:
        """The phases of both images; a phase's number is its place here."""
        return tuple(dict.fromkeys(phase.name for one in self.timelines.values() for phase in one.phases))

    @property
    def roles(self) -> tuple[Role, ...]:
        """The images whose samples are there, the candidate first."""
        return tuple(role for role in Role if role in self.timelines)

    @property
    def measured(self) -> tuple[Role, ...]:
        """The images with a median, the candidate first."""
        return tuple(role for role in Role if self.median_ms(role) is not None)

    @property
    def grown(self) -> PhaseComparison | None:
        """The phase that grew most; None where none is named or compared."""
        compared = self.comparison.phases if self.comparison else ()
        return next((phase for phase in compared if self.comparison and phase.phase == self.comparison.grown), None)

    def median_ms(self, role: Role) -> float | None:
        """Return an image's median by its samples, else as the gate or the budget has it; None where it has none."""
        if role in self.timelines:
            return self.timelines[role].median_ms
        if self.comparison:
            return self.comparison.candidate_ms if role is Role.CANDIDATE else self.comparison.baseline_ms
        return self.budget.median_ms if self.budget and role is Role.CANDIDATE else None


@dataclass(frozen=True, slots=True)
class Image:
    """All that a run found of one contract's image."""

    name: str
    #: Role -> name and id of the images measured.
    images: Mapping[Role, tuple[str, str]]
    transports: tuple[str, ...]
    columns: tuple[Column, ...]
    #: By transport, userland and activation.
    cells: Mapping[tuple[str, str, str], Cell]
    timings: tuple[Timing, ...]

    def cell(self, transport: str, column: Column) -> Cell | None:
        """Return the tests at a place of the table, None where there are none."""
        return self.cells.get((transport, column.userland, column.activation))


@dataclass(frozen=True, slots=True)
class Summary:
    """A run, sorted."""

    results: Results
    images: tuple[Image, ...]
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)

    @property
    def bad(self) -> tuple[Test, ...]:
        """The tests that failed."""
        return tuple(test for test in self.results.tests if test.outcome in BAD)

    @property
    def skipped(self) -> Mapping[str, tuple[Test, ...]]:
        """Reason -> the tests that were skipped for it."""
        found: dict[str, tuple[Test, ...]] = {}
        for test in self.results.tests:
            if test.outcome is Outcome.SKIPPED:
                found[test.message] = (*found.get(test.message, ()), test)
        return found

    @property
    def claims(self) -> Mapping[str, tuple[Test, ...]]:
        """Sentence -> the tests that prove it."""
        found: dict[str, tuple[Test, ...]] = {}
        for test in self.results.tests:
            if test.claim:
                found[test.claim] = (*found.get(test.claim, ()), test)
        return found

    @property
    def promises(self) -> list[str]:
        """One sentence for each image and activation whose promises were tried, what is waived among it."""
        return promises.verdicts(self.results.tests)

    def verdicts(self, verdict: Verdict) -> int:
        """Return how many comparisons ended so."""
        return sum(one.verdict is verdict for one in self.results.comparisons)

    @property
    def exceeded(self) -> int:
        """Budgets that were not kept."""
        return sum(not one.within for one in self.results.budgets)

    @property
    def verdict(self) -> Verdict | Outcome:
        """Whether the run was good, in one word: inconclusive only where nothing failed."""
        if self.bad or self.exceeded:
            return Outcome.FAILED
        if self.verdicts(Verdict.REGRESSION):
            return Verdict.REGRESSION
        if self.verdicts(Verdict.INCONCLUSIVE):
            return Verdict.INCONCLUSIVE
        # A run that proved nothing is not a good one.
        return Outcome.PASSED if self.outcomes.get(Outcome.PASSED) or self.results.comparisons else Outcome.SKIPPED

    @property
    def sentence(self) -> str:
        """What the verdict comes from."""
        parts = [
            f"{self.outcomes[outcome]} {outcome if outcome is not Outcome.ERROR else 'with an error'}"
            for outcome in (*BAD, Outcome.PASSED, Outcome.SKIPPED)
            if self.outcomes.get(outcome)
        ]
        sentence = f"{count(len(self.results.tests), 'test')}: {listed(parts)}." if parts else "No tests."
        for number, words in (
            (self.verdicts(Verdict.REGRESSION), ("regression", "regressions")),
            (self.verdicts(Verdict.INCONCLUSIVE), ("inconclusive comparison", "inconclusive comparisons")),
            (self.exceeded, ("budget exceeded", "budgets exceeded")),
        ):
            sentence += f" {count(number, *words)}." if number else ""
        return sentence


def summarize(results: Results) -> Summary:
    """Return the run, sorted."""
    names = sorted({case.contract for case in _cases(results)})
    outcomes = Counter(test.outcome for test in results.tests)
    return Summary(results, tuple(_image(results, name) for name in names), outcomes)


def _cases(results: Results) -> Iterable[Case]:
    yield from (test.case for test in results.tests if test.case)
    yield from (case for case, _ in _measured(results))


def _measured(results: Results) -> set[tuple[Case, Kind]]:
    """Return what was measured, whatever of it there is."""
    return {
        *((one.case, one.kind) for one in results.series),
        *((one.case, one.kind) for one in results.comparisons),
        *((one.case, one.kind) for one in results.budgets),
    }


def _image(results: Results, name: str) -> Image:
    tests = [(test, test.case) for test in results.tests if test.case and test.case.contract == name]
    places = sorted({_place(case) for _, case in tests})
    return Image(
        name=name,
        images={one.role: (one.image, one.image_id) for one in results.series if one.case.contract == name},
        transports=tuple(sorted({transport for transport, _, _ in places}, key=place_of_transport)),
        columns=tuple(_columns(results, {(userland, activation) for _, userland, activation in places})),
        cells={place: _cell([test for test, case in tests if _place(case) == place]) for place in places},
        timings=tuple(_timings(results, name)),
    )


def _place(case: Case) -> tuple[str, str, str]:
    return case.transport, case.userland, case.activation


def _columns(results: Results, used: set[tuple[str, str]]) -> Iterable[Column]:
    """Yield every activation in each userland in which it was tested, or which can't do what another can."""
    userlands = results.environment.userlands
    names = list(dict.fromkeys([*userlands, *sorted({userland for userland, _ in used})]))
    for userland in names:
        left_out = userlands[userland].left_out if userland in userlands else {}
        for activation in sorted({activation for _, activation in used}):
            why = "" if (userland, activation) in used else left_out.get(activation, "")
            if why or (userland, activation) in used:
                name = f"{userland}, {activation}" if len(names) > 1 else activation
                yield Column(userland, activation, name, why)


def place_of_transport(name: str) -> tuple[int, str]:
    """Order transports as the harness's own table has them, those of another version after them."""
    known, transport = [*Transport], name.partition("@")[0]
    return (known.index(Transport(transport)) if transport in known else len(known), name)


def _cell(tests: Sequence[Test]) -> Cell:
    worst = min((test.outcome for test in tests), key=_WORST.index)
    why = next((test.message for test in tests if worst is Outcome.SKIPPED and test.outcome is worst), "")
    return Cell(worst, sum(test.outcome is worst for test in tests), len(tests), why)


def _timings(results: Results, name: str) -> Iterable[Timing]:
    for case, kind in sorted(
        (found for found in _measured(results) if found[0].contract == name),
        key=lambda found: (found[1], found[0].userland, found[0].activation, place_of_transport(found[0].transport)),
    ):
        series = [one for one in results.series if (one.case, one.kind) == (case, kind) and one.samples]
        yield Timing(
            case=case,
            kind=kind,
            timelines={one.role: timeline(one) for one in series if any(sample.at_ms for sample in one.samples)},
            comparison=next((one for one in results.comparisons if (one.case, one.kind) == (case, kind)), None),
            budget=next((one for one in results.budgets if (one.case, one.kind) == (case, kind)), None),
        )


def timeline(series: Series) -> Timeline:
    """Return the medians of a series; at least one of its samples has a mark."""
    samples = [sample for sample in series.samples if sample.at_ms]
    ready = [sample.ready_ms for sample in samples if sample.ready_ms is not None]
    return Timeline(
        series=series,
        totals_ms=tuple(max(sample.at_ms.values()) for sample in samples),
        phases=tuple(_phases(samples)),
        ready_ms=statistics.median(ready) if ready else None,
    )


def _phases(samples: Sequence[Sample]) -> Iterable[Phase]:
    """Yield what lies between the marks that every sample has, in the order of time."""
    marks = [mark for mark in samples[0].at_ms if all(mark in sample.at_ms for sample in samples)]
    at = {mark: statistics.median(sample.at_ms[mark] for sample in samples) for mark in marks}
    for one, other in itertools.pairwise(sorted(marks, key=lambda mark: at[mark])):
        took = statistics.median(sample.at_ms[other] - sample.at_ms[one] for sample in samples)
        yield Phase(f"{one} -> {other}", at[one], at[other], took)
