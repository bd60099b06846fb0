"""The statistics, against scipy's and numpy's."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import stdev

import numpy
import pytest
from scipy import stats

from harness.timing import statistics


def times(count: int, seed: int, *, middle: float = 0.15, digits: int = 6) -> list[float]:
    """Return numbers like the times of activations: a long tail, and ties when they are rounded."""
    chance = random.Random(seed)
    return [round(middle * chance.lognormvariate(0, 0.08), digits) for _ in range(count)]


PAIRS = {
    "alike": (times(40, 1), times(40, 2)),
    "slower": (times(40, 3, middle=0.165), times(40, 4)),
    "faster": (times(25, 5, middle=0.1), times(60, 6)),
    "many ties": (times(30, 7, digits=2), times(30, 8, digits=2)),
    "two groups only": ([1.0] * 9 + [2.0], [1.0] * 10),
    "few": (times(8, 9), times(8, 10)),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_mann_whitney_is_that_of_scipy(pair: tuple[Sequence[float], Sequence[float]]) -> None:
    """The one-sided p-value by the normal approximation, with ties and continuity."""
    ours, theirs = pair
    expected = stats.mannwhitneyu(ours, theirs, alternative="greater", method="asymptotic").pvalue
    assert statistics.p_greater(ours, theirs) == pytest.approx(expected, rel=1e-9)


def test_the_approximation_is_near_the_exact_value() -> None:
    """At 8 values on each side, the fewest that the gate takes, the approximation is good enough to judge by."""
    ours, theirs = times(8, 9, middle=0.17), times(8, 10)
    exact = stats.mannwhitneyu(ours, theirs, alternative="greater", method="exact").pvalue
    assert statistics.p_greater(ours, theirs) == pytest.approx(exact, abs=0.003)


def test_equal_values_are_no_evidence() -> None:
    """Where every value is the same, nothing is greater."""
    assert statistics.p_greater([0.1] * 20, [0.1] * 20) == 1.0


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_ratio_is_that_of_numpy(pair: tuple[Sequence[float], Sequence[float]]) -> None:
    """The median of the ratios of all pairs."""
    ours, theirs = pair
    assert statistics.ratio(ours, theirs).value == pytest.approx(numpy.median(numpy.divide.outer(ours, theirs)))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_interval_ends_where_the_test_of_scipy_does(confidence: float) -> None:
    """Just outside of it the two-sided test refuses a ratio at that level, just inside it does not."""
    ours, theirs = times(60, 13, middle=0.16), times(50, 14)
    found = statistics.ratio(ours, theirs, confidence)

    def p(by: float) -> float:
        scaled = [value * by for value in theirs]
        return float(stats.mannwhitneyu(ours, scaled, method="asymptotic", use_continuity=False).pvalue)

    for inside, outside in ((found.low * 1.002, found.low * 0.998), (found.high * 0.998, found.high * 1.002)):
        assert p(outside) < 1 - confidence < p(inside)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("seed", range(20))
def test_the_ratio_and_the_test_agree(seed: int) -> None:
    """The ratio is above a number when chance would sooner explain a smaller U than this one."""
    ours, theirs = times(41, 500 + seed, middle=0.155), times(40, 600 + seed)
    value = statistics.ratio(ours, theirs).value
    for by in (value * 0.995, value * 1.005):
        assert (statistics.p_greater(ours, [each * by for each in theirs]) < 0.5) is (value > by)


def test_the_interval_covers_the_truth() -> None:
    """Of 95 % intervals, about 95 in 100 hold the true ratio."""
    held = 0
    for seed in range(200):
        found = statistics.ratio(times(30, 1000 + seed, middle=0.165), times(30, 2000 + seed))
        held += found.low <= 1.1 <= found.high
    assert held >= 182


def test_the_ratio_errs_less_than_that_of_the_medians() -> None:
    """Why the gate takes it: over many pairs of series it lies nearer to the true ratio."""
    pairs = [(times(40, 5000 + seed, middle=0.165), times(40, 6000 + seed)) for seed in range(200)]
    ours = stdev([statistics.ratio(*pair).value for pair in pairs])
    medians = stdev([statistics.median(one) / statistics.median(other) for one, other in pairs])
    assert ours < 0.9 * medians


def test_a_greater_series_is_seldom_taken_for_chance() -> None:
    """At the gate's own level one image is called slower than itself in about one of a hundred comparisons."""
    alarms = sum(statistics.p_greater(times(40, 3000 + seed), times(40, 4000 + seed)) < 0.01 for seed in range(400))
    assert alarms <= 10
