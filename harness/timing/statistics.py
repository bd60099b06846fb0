"""The statistics of the gate: two series of times of one thing, measured by turns, and whether one is slower.

All of them rest on order and not on a distribution: times have a long tail, and a noisy neighbour makes it longer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

median = statistics.median


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as large one series is as another, and where that lies with the given confidence."""

    value: float
    low: float
    high: float
    confidence: float


def ratio(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Ratio:
    """Return the median of the ratios of all pairs, one of ours and one of theirs, and its interval.

    Hodges and Lehmann (1963), "Estimates of Location Based on Rank Tests", equation 4.1, of logarithms: it is above a
    number when U of ours and of theirs times that number is above its mean. The interval, Moses's, turns the test of
    `p_greater` round: Hollander, Wolfe and Chicken (2014), "Nonparametric Statistical Methods", section 4.3, by the
    normal approximation of U.
    """
    ratios = sorted(one / other for one in ours for other in theirs)
    pairs = len(ratios)
    spread = math.sqrt(pairs * (len(ours) + len(theirs) + 1) / 12)
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    outside = max(0, math.floor(pairs / 2 - z * spread) - 1)
    return Ratio(median(ratios), ratios[outside], ratios[pairs - 1 - outside], confidence)


def p_greater(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the one-sided p-value of Mann-Whitney's U: how likely chance alone makes ours so much the greater.

    Mann and Whitney (1947), "On a Test of Whether one of Two Random Variables is Stochastically Larger than the
    Other"; normal approximation with correction for ties and continuity, good from 8 values on each side.
    """
    first, second = len(ours), len(theirs)
    ranks, ties = _ranks([*ours, *theirs])
    both = first + second
    u = sum(ranks[:first]) - first * (first + 1) / 2
    spread = math.sqrt(first * second / 12 * (both + 1 - ties / (both * (both - 1))))
    if spread == 0:  # every value is the same
        return 1.0
    z = (u - first * second / 2 - 0.5) / spread
    return math.erfc(z / math.sqrt(2)) / 2


def _ranks(values: Sequence[float]) -> tuple[list[float], int]:
    """Return the rank of each value, equal ones sharing theirs, and the sum of t**3 - t over groups of t equal ones."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    ties = start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + 1 + end) / 2
        ties += (end - start) ** 3 - (end - start)
        start = end
    return ranks, ties
