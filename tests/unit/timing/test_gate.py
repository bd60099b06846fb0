"""The gate's verdicts on series that are made up: their kinds, their reasons, and how often they are wrong."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from harness.core.errors import GateError
from harness.results.record import Comparison, Kind, Role, Verdict
from harness.timing import gate
from harness.timing.gate import LOOKS, Rule, Samples
from harness.timing.measure import Measured
from harness.timing.timeline import Mark
from tests.helpers.timelines import CASE, MARKS, NOISE, measured


def cold(found: dict[str, Measured], rule: Rule) -> Comparison:
    """Return the comparison of the cold activations."""
    return next(one for one in gate.compare(CASE, found, rule) if one.kind is Kind.COLD)


def both(pair: tuple[list[float], list[float]]) -> Samples:
    """Return the same samples as those of each kind."""
    return dict.fromkeys(Kind, pair)


@pytest.mark.parametrize(("median_s", "allowed"), [(0.0002, 1.5), (0.15, 1.10)])
def test_what_no_client_notices_is_allowed(median_s: float, allowed: float) -> None:
    """A tenth of a millisecond is much beside a warm request, and nothing beside an activation."""
    chance = random.Random(1)
    theirs, ours = ([late * chance.lognormvariate(0, NOISE) for _ in range(64)] for late in (median_s, median_s * 1.3))
    assert Rule(1.10).beside([median_s]).max_slowdown == pytest.approx(allowed)
    verdict = gate.decide(both((ours, theirs)), Rule(1.10)).verdicts[Kind.COLD]
    assert verdict is (Verdict.PASS if allowed > 1.3 else Verdict.REGRESSION)


@pytest.mark.parametrize("after", [Mark.JOB, Mark.PODMAN, Mark.EXEC])
def test_a_slower_image_is_a_regression_in_its_phase(after: Mark) -> None:
    """30 ms more in any phase: the verdict names that phase and both medians of it."""
    compared = cold(measured(40, 0.03, after=after), Rule(1.10))
    order = list(MARKS)
    phase = f"{after} -> {order[order.index(after) + 1]}"
    assert compared.verdict is Verdict.REGRESSION
    assert compared.grown == phase
    assert compared.low <= compared.ratio <= compared.high
    assert compared.ratio == pytest.approx(1.2, abs=0.06)
    text = gate.sentence(compared)
    assert text.startswith("regression: echo (unit, tcp4), cold: ")
    assert f"ratio {compared.ratio:.3f} ({compared.low:.3f} to {compared.high:.3f} with 95% confidence" in text
    assert f"most grew '{phase}'" in text
    assert "allowed 1.1" in text


def test_an_image_against_itself_passes() -> None:
    """No phase is said to have grown."""
    compared = cold(measured(40, 0.0), Rule(1.10))
    assert (compared.verdict, compared.grown) == (Verdict.PASS, "")
    assert "most grew" not in gate.sentence(compared)


def test_a_faster_image_passes() -> None:
    """Only what is slower is looked for."""
    compared = cold(measured(40, -0.01), Rule(1.10))
    assert compared.verdict is Verdict.PASS
    assert compared.ratio < 1


def test_too_little_to_say() -> None:
    """Between what is allowed and what chance explains there is no verdict."""
    compared = cold(measured(12, 0.0085), Rule(1.05))
    assert compared.verdict is Verdict.INCONCLUSIVE
    assert gate.sentence(compared).startswith("inconclusive: ")


def test_slower_but_allowed() -> None:
    """A difference that is beyond chance but not beyond what is allowed is no regression."""
    compared = cold(measured(200, 0.008), Rule(1.20))
    assert compared.p_slower < gate.ALPHA
    assert compared.verdict is Verdict.PASS


@pytest.mark.parametrize("count", [0, 1, 2, gate.FEWEST - 1])
def test_too_few_samples_are_no_verdict(count: int) -> None:
    """An error that says how many there are."""
    with pytest.raises(GateError, match=f"takes 8 samples of each image; there are {count} and {count}"):
        cold(measured(count, 0.0), Rule())


def test_a_decision_is_clear_when_cold_and_warm_are() -> None:
    """A clear cold verdict alone does not end a measurement."""
    samples = gate.samples_of(measured(32, 0.0))
    assert gate.decide(samples, Rule(1.30)).clear
    theirs = samples[Kind.WARM][1]
    limit = Rule(1.30).beside(theirs).max_slowdown
    assert not gate.decide({**samples, Kind.WARM: ([time * limit for time in theirs], theirs)}, Rule(1.30)).clear
    assert not gate.decide(samples, Rule(1.001)).clear


def test_the_looks() -> None:
    """A gate looks at a few counts only, and at all samples where none of them is clear."""
    samples = gate.samples_of(measured(130, 0.0))
    assert gate.decide_while_measuring(samples, Rule(1.30))[1] in LOOKS
    assert gate.decide_while_measuring(samples, Rule(1.001))[1] == 130


def test_a_budget() -> None:
    """The median is held against the contract's number."""
    colds = measured(20, 0.0)[Role.CANDIDATE].cold
    kept = gate.within_budget(CASE, Kind.COLD, colds, 300.0)
    broken = gate.within_budget(CASE, Kind.COLD, colds, 100.0)
    assert (kept.within, broken.within) == (True, False)
    assert gate.budget_sentence(kept).startswith("within budget: echo (unit, tcp4), cold: median 1")
    assert gate.budget_sentence(broken).startswith("over budget: ")
    assert gate.budget_sentence(broken).endswith("of 20, allowed 100 ms")


@pytest.mark.parametrize(
    ("late_s", "verdict"), [(0.03, Verdict.REGRESSION), (0.0, Verdict.PASS), (0.0085, Verdict.INCONCLUSIVE)]
)
def test_the_numbers_shown_are_those_of_the_verdict(late_s: float, verdict: Verdict) -> None:
    """A regression is above what is allowed and all above 1, by the numbers in its own sentence; a pass is below."""
    rule = Rule(1.05)
    found = [cold(measured(12 if verdict is Verdict.INCONCLUSIVE else 40, late_s, seed), rule) for seed in range(10)]
    kept = [one for one in found if one.verdict is verdict]
    assert len(kept) > 5
    for one in kept:
        if verdict is Verdict.REGRESSION:
            assert one.ratio > rule.max_slowdown
            assert one.low > 1
        elif verdict is Verdict.PASS:
            assert one.ratio < rule.max_slowdown
        else:
            assert one.low < rule.max_slowdown < one.high


#: Turns in which a neighbour's noise goes on.
LULL = 40


def series(slower: float, count: int, noise: str, chance: random.Random) -> tuple[list[float], list[float]]:
    """Return the times of a candidate and its baseline, turn by turn, with a noise of one kind."""
    ours: list[float] = []
    theirs: list[float] = []
    neighbour = 1.0
    for turn in range(count):
        if noise == "drift" and turn % LULL == 0:
            neighbour = chance.uniform(1.0, 1.3)
        for times, factor in ((ours, slower), (theirs, 1.0)):
            tail = 1 + chance.expovariate(2) if noise == "long tail" and chance.random() < 0.1 else 1.0
            times.append(0.15 * factor * neighbour * tail * chance.lognormvariate(0, NOISE))
    return ours, theirs


@pytest.mark.parametrize("noise", ["even", "long tail", "drift"])
@pytest.mark.parametrize(
    ("slower", "allowed", "count", "least", "most"),
    [
        (1.0, 1.05, 80, 0.0, 0.01),
        (1.0, 1.025, 160, 0.0, 0.01),
        (1.10, 1.05, 80, 0.99, 1.0),
        (1.05, 1.025, 160, 0.95, 1.0),
    ],
)
def test_how_often_it_is_wrong(
    slower: float, allowed: float, count: int, least: float, most: float, noise: str
) -> None:
    """As many samples as 60 s and 120 s give: false alarms, and slow-downs that are found."""
    chance = random.Random(7)
    runs = 300
    decisions = [
        gate.decide_while_measuring(both(series(slower, count, noise, chance)), Rule(allowed))[0] for _ in range(runs)
    ]
    found = sum(decision.verdicts[Kind.COLD] is Verdict.REGRESSION for decision in decisions)
    assert least <= found / runs
    assert found <= stats.binom.isf(0.001, runs, most)  # so many are still chance
