"""The verdict on a candidate image against its baseline, and against the budgets of its contract.

The candidate is a regression when it is slower than the baseline beyond chance (Mann-Whitney U, `ALPHA`) and by more
than the slow-down that is allowed. By how much is the median ratio of all pairs of samples (Hodges-Lehmann), which goes
with that test and errs less than the ratio of the medians. The candidate passes when chance alone does not explain how
far below the slow-down it is. When neither can be said at the end of the plan, the verdict is `inconclusive`.

So that a clear case does not take the whole time, the gate looks at the samples while they come. Each such look asks
for `INTERIM_ALPHA`, so little that the error of the last look stays nearly what it is (Haybittle 1971; Peto et al.
1976).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.errors import GateError
from harness.results.record import BudgetCheck, Case, Comparison, Kind, PhaseComparison, Role, Verdict
from harness.timing import statistics
from harness.timing.measure import Measurement
from harness.timing.timeline import Timeline

#: Chance of calling an image slower than itself at the last look; with all looks it is to stay below 1 %.
ALPHA = 0.005

#: The same at each look before the last.
INTERIM_ALPHA = 0.001

#: Chance of letting an image pass that is just as slow as allowed.
PASS_ALPHA = 0.05

#: Samples of each image at which to look; each look has twice those of the last, so there are few.
LOOKS = (16, 32, 64, 128, 256)

#: Fewer samples of each image than this give no verdict: the approximation of U needs them.
FEWEST = 8


#: What no client notices, in seconds: a warm request takes some tenths of a millisecond, and a part of it is noise.
NEGLIGIBLE_S = 0.0001


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed."""

    #: How many times as long as the baseline the candidate may take.
    max_slowdown: float = 1.10

    def beside(self, baseline: Sequence[float]) -> Rule:
        """Return what is allowed beside these samples, in seconds: `NEGLIGIBLE_S` more, at least."""
        return Rule(max(self.max_slowdown, 1 + NEGLIGIBLE_S / statistics.median(baseline)))


#: Seconds of each sample by kind, those of the candidate and those of the baseline, in the order of measurement.
Samples = Mapping[Kind, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the samples so far say."""

    #: The verdict of each kind if no more samples come.
    verdicts: Mapping[Kind, Verdict]
    #: Whether every verdict is so clear that more samples are not needed.
    clear: bool


def samples_of(measured: Measurement) -> Samples:
    """Return the samples of both images of a measurement."""
    candidate, baseline = (measured[role] for role in (Role.CANDIDATE, Role.BASELINE))
    return {kind: (_whole(candidate.of(kind)), _whole(baseline.of(kind))) for kind in Kind}


def decide(samples: Samples, rule: Rule) -> Decision:
    """Return the verdicts on these samples; raise GateError when they are too few for one."""
    for ours, theirs in samples.values():
        if min(len(ours), len(theirs)) < FEWEST:
            raise GateError(
                f"A verdict takes {FEWEST} samples of each image; there are {len(ours)} and {len(theirs)}.",
                hint="Give the measurement more time.",
            )
    return Decision(
        {kind: _verdict(ours, theirs, rule.beside(theirs)) for kind, (ours, theirs) in samples.items()},
        all(_is_clear(ours, theirs, rule.beside(theirs)) for ours, theirs in samples.values()),
    )


def decide_while_measuring(samples: Samples, rule: Rule) -> tuple[Decision, int]:
    """Return the first decision that is clear, and how many samples of each image it took; else that on all samples."""
    count = min(len(series) for pair in samples.values() for series in pair)
    for size in LOOKS:
        if size < count:
            early = decide({kind: (ours[:size], theirs[:size]) for kind, (ours, theirs) in samples.items()}, rule)
            if early.clear:
                return early, size
    return decide(samples, rule), count


def _is_clear(candidate: Sequence[float], baseline: Sequence[float], rule: Rule) -> bool:
    """Whether chance hardly explains on which side of what is allowed the candidate is."""
    allowed = _scaled(baseline, rule)
    return min(statistics.p_greater(candidate, allowed), statistics.p_greater(allowed, candidate)) < INTERIM_ALPHA


def _verdict(candidate: Sequence[float], baseline: Sequence[float], rule: Rule) -> Verdict:
    slower = statistics.p_greater(candidate, baseline) < ALPHA
    if slower and statistics.ratio(candidate, baseline).value > rule.max_slowdown:
        return Verdict.REGRESSION
    if statistics.p_greater(_scaled(baseline, rule), candidate) < PASS_ALPHA:
        return Verdict.PASS
    return Verdict.INCONCLUSIVE


def compare(case: Case, measured: Measurement, rule: Rule) -> tuple[Comparison, ...]:
    """Return the verdict of each kind with all that explains it, phase by phase."""
    samples = samples_of(measured)
    verdicts = decide(samples, rule).verdicts
    return tuple(_comparison(case, kind, verdict, measured, rule) for kind, verdict in verdicts.items())


def _comparison(case: Case, kind: Kind, verdict: Verdict, measured: Measurement, rule: Rule) -> Comparison:
    candidate, baseline = (measured[role].of(kind) for role in (Role.CANDIDATE, Role.BASELINE))
    ours, theirs = _whole(candidate), _whole(baseline)
    ratio = statistics.ratio(ours, theirs)
    phases = _phases(candidate, baseline)
    return Comparison(
        case=case,
        kind=kind,
        verdict=verdict,
        count=min(len(ours), len(theirs)),
        candidate_ms=statistics.median(ours) * 1000,
        baseline_ms=statistics.median(theirs) * 1000,
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        confidence=ratio.confidence,
        p_slower=statistics.p_greater(ours, theirs),
        max_slowdown=rule.beside(theirs).max_slowdown,
        phases=phases,
        grown=_grown(phases),
    )


def within_budget(case: Case, kind: Kind, timelines: Sequence[Timeline], limit_ms: float) -> BudgetCheck:
    """Return whether the median keeps to what the contract allows."""
    median_ms = statistics.median(_whole(timelines)) * 1000
    return BudgetCheck(
        case=case, kind=kind, limit_ms=limit_ms, median_ms=median_ms, count=len(timelines), within=median_ms <= limit_ms
    )


def sentence(comparison: Comparison) -> str:
    """Return the verdict in words, with the phase that grew."""
    case = comparison.case
    what = f"{case.contract} ({case.activation}, {case.transport}), {comparison.kind}"
    numbers = (
        f"medians {comparison.candidate_ms:.1f} ms and {comparison.baseline_ms:.1f} ms, ratio {comparison.ratio:.3f} "
        f"({comparison.low:.3f} to {comparison.high:.3f} with {comparison.confidence:.0%} confidence, "
        f"{comparison.count} of each), allowed {comparison.max_slowdown:.4g}"
    )
    grown = next((phase for phase in comparison.phases if phase.phase == comparison.grown), None)
    where = f"; most grew '{grown.phase}', from {grown.baseline_ms:.1f} to {grown.candidate_ms:.1f} ms" if grown else ""
    return f"{comparison.verdict}: {what}: {numbers}{where}"


def budget_sentence(check: BudgetCheck) -> str:
    """Return what a budget allows and what was measured, in words."""
    case, said = check.case, "within budget" if check.within else "over budget"
    return (
        f"{said}: {case.contract} ({case.activation}, {case.transport}), {check.kind}: median {check.median_ms:.1f} ms "
        f"of {check.count}, allowed {check.limit_ms:g} ms"
    )


def _whole(timelines: Sequence[Timeline]) -> list[float]:
    return [timeline.whole_s for timeline in timelines]


def _scaled(baseline: Sequence[float], rule: Rule) -> list[float]:
    return [value * rule.max_slowdown for value in baseline]


def _phases(candidate: Sequence[Timeline], baseline: Sequence[Timeline]) -> tuple[PhaseComparison, ...]:
    """Compare the phases that every sample of both images has."""
    first, *others = [timeline.phases for timeline in (*candidate, *baseline)]
    names = [name for name in first if all(name in other for other in others)]
    found = []
    for name in names:
        ours = [timeline.phases[name] for timeline in candidate]
        theirs = [timeline.phases[name] for timeline in baseline]
        found.append(
            PhaseComparison(
                phase=name,
                candidate_ms=statistics.median(ours) * 1000,
                baseline_ms=statistics.median(theirs) * 1000,
                p_slower=statistics.p_greater(ours, theirs),
            )
        )
    return tuple(found)


def _grown(phases: Sequence[PhaseComparison]) -> str:
    """Return the phase whose median grew most, of those that grew beyond chance."""
    slower = [phase for phase in phases if phase.p_slower < ALPHA and phase.candidate_ms > phase.baseline_ms]
    return max(slower, key=lambda phase: phase.candidate_ms - phase.baseline_ms).phase if slower else ""
