"""The statistics of the gate: two series of times of one thing, measured by turns, and whether one is slower.

All of them rest on order and not on a distribution: times have a long tail, and a noisy neighbour makes it longer.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Redrawn samples for a bootstrap interval; Efron and Tibshirani (1993), section 19.3, ask for 1000 and more.
RESAMPLES = 2000

median = statistics.median


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie, by linear interpolation.

    Hyndman and Fan (1996), "Sample Quantiles in Statistical Packages", definition 7.
    """
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def mad(values: Sequence[float]) -> float:
    """Return the median absolute deviation from the median, not scaled.

    Rousseeuw and Croux (1993), "Alternatives to the Median Absolute Deviation", equation 1.1 without its factor.
    """
    middle = median(values)
    return median([abs(value - middle) for value in values])


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number lies with the given confidence."""

    low: float
    high: float
    confidence: float


def ratio_of_medians(
    ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap interval of median(ours) / median(theirs); the same for the same seed.

    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3; the two series are redrawn apart.
    """
    chance = random.Random(seed)  # noqa: S311 -- no secret
    ratios = [
        median(chance.choices(ours, k=len(ours))) / median(chance.choices(theirs, k=len(theirs)))
        for _ in range(RESAMPLES)
    ]
    rest = (1 - confidence) / 2
    return Interval(quantile(ratios, rest), quantile(ratios, 1 - rest), confidence)


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
