"""The gate's verdicts on series that are made up: their kinds, their reasons, and how often they are wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from scipy import stats

from harness import gate, timeline
from harness.errors import GateError
from harness.gate import LOOKS, Rule
from harness.images import Image
from harness.measure import Measured
from harness.record import Case, Kind, Role, Verdict
from harness.timeline import Mark, Timeline

CASE = Case(contract="echo", activation="unit", transport="tcp4")

#: Seconds at which the marks of an activation come.
MARKS = {Mark.CONNECT: 0.0, Mark.JOB: 0.01, Mark.PODMAN: 0.011, Mark.EXEC: 0.13, Mark.REPLY: 0.15, Mark.END: 0.1501}

NOISE = 0.08


def activation(chance: random.Random, late_s: float = 0.0, after: Mark = Mark.EXEC) -> Timeline:
    """Return an activation with the noise of an idle machine, late by so much in the phase that follows a mark."""
    order = list(Mark)
    factor = chance.lognormvariate(0, NOISE)
    return timeline.build(
        {mark: at * factor + (late_s if order.index(mark) > order.index(after) else 0.0) for mark, at in MARKS.items()}
    )


def measured(count: int, late_s: float, seed: int = 1, after: Mark = Mark.EXEC) -> dict[str, Measured]:
    """Return both images, the candidate late by so much in one phase of its cold activations."""
    chance = random.Random(seed)
    image = Image("echo", "localhost/echo", "0" * 64, "", "0" * 64, 0.0)
    found: dict[str, Measured] = {role: Measured(image) for role in Role}
    for _ in range(count):
        found[Role.CANDIDATE].cold.append(activation(chance, late_s, after))
        found[Role.BASELINE].cold.append(activation(chance))
        for each in found.values():
            each.warm.append(timeline.build({Mark.CONNECT: 0.0, Mark.END: chance.lognormvariate(-9, NOISE)}))
    return found


@pytest.mark.parametrize(("median_s", "allowed"), [(0.0002, 1.5), (0.15, 1.10)])
def test_what_no_client_notices_is_allowed(median_s: float, allowed: float) -> None:
    """A tenth of a millisecond is much beside a warm talk, and nothing beside an activation."""
    chance = random.Random(1)
    theirs, ours = ([late * chance.lognormvariate(0, NOISE) for _ in range(64)] for late in (median_s, median_s * 1.3))
    assert Rule(1.10).beside([median_s]).max_slowdown == pytest.approx(allowed)
    assert gate.verdict(ours, theirs, Rule(1.10)) is (Verdict.PASS if allowed > 1.3 else Verdict.REGRESSION)


@pytest.mark.parametrize("after", [Mark.JOB, Mark.PODMAN, Mark.EXEC])
def test_a_slower_image_is_a_regression_in_its_phase(after: Mark) -> None:
    """30 ms more in any phase: the verdict names that phase and both medians of it."""
    compared = gate.compare(CASE, Kind.COLD, measured(40, 0.03, after=after), Rule(1.10))
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
    compared = gate.compare(CASE, Kind.COLD, measured(40, 0.0), Rule(1.10))
    assert (compared.verdict, compared.grown) == (Verdict.PASS, "")
    assert "most grew" not in gate.sentence(compared)


def test_a_faster_image_passes() -> None:
    """Only what is slower is looked for."""
    compared = gate.compare(CASE, Kind.COLD, measured(40, -0.01), Rule(1.10))
    assert compared.verdict is Verdict.PASS
    assert compared.ratio < 1


def test_too_little_to_say() -> None:
    """Between what is allowed and what chance explains there is no verdict."""
    compared = gate.compare(CASE, Kind.COLD, measured(12, 0.0085), Rule(1.05))
    assert compared.verdict is Verdict.INCONCLUSIVE
    assert gate.sentence(compared).startswith("inconclusive: ")


def test_slower_but_allowed() -> None:
    """A difference that is beyond chance but not beyond what is allowed is no regression."""
    compared = gate.compare(CASE, Kind.COLD, measured(200, 0.008), Rule(1.20))
    assert compared.p_slower < gate.ALPHA
    assert compared.verdict is Verdict.PASS


@pytest.mark.parametrize("count", [0, 1, 2, gate.FEWEST - 1])
def test_too_few_samples_are_no_verdict(count: int) -> None:
    """An error that says how many there are."""
    with pytest.raises(GateError, match=f"takes 8 samples of each image; there are {count} and {count}"):
        gate.compare(CASE, Kind.COLD, measured(count, 0.0), Rule())


def test_the_looks() -> None:
    """The gate looks at a few counts only, and is through when cold and warm are both clear."""
    clear = [count for count in range(1, 130) if gate.clear(measured(count, 0.0), Rule(1.30))]
    assert clear
    assert set(clear) <= set(LOOKS)
    assert not gate.clear(measured(17, 0.0), Rule(1.30))
    assert not gate.clear(measured(16, 0.0), Rule(1.001))


def test_a_budget() -> None:
    """The median is held against the contract's number."""
    colds = measured(20, 0.0)[Role.CANDIDATE].cold
    kept = gate.within_budget(CASE, Kind.COLD, colds, 300.0)
    broken = gate.within_budget(CASE, Kind.COLD, colds, 100.0)
    assert (kept.within, broken.within) == (True, False)
    assert gate.budget_sentence(kept).startswith("within budget: echo (unit, tcp4), cold: median 1")
    assert gate.budget_sentence(broken).startswith("over budget: ")
    assert gate.budget_sentence(broken).endswith("of 20, allowed 100 ms")


def decided(ours: Sequence[float], theirs: Sequence[float], rule: Rule) -> Verdict:
    """Return the verdict of a gate that looks while the samples come."""
    for count in LOOKS:
        if count < len(ours) and (said := gate.look(ours[:count], theirs[:count], rule)):
            return said
    return gate.verdict(ours, theirs, rule)


@pytest.mark.parametrize("seed", range(30))
def test_the_numbers_shown_are_those_of_the_verdict(seed: int) -> None:
    """A regression is above what is allowed and all above 1, by the numbers in its own sentence; a pass is below."""
    rule = Rule(1.05)
    compared = gate.compare(CASE, Kind.COLD, measured(40, 0.008 + seed * 0.0003, seed), rule)
    if compared.verdict is Verdict.REGRESSION:
        assert compared.ratio > rule.max_slowdown
        assert compared.low > 1
    elif compared.verdict is Verdict.PASS:
        assert compared.ratio < rule.max_slowdown


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
    found = sum(
        decided(*series(slower, count, noise, chance), Rule(allowed)) is Verdict.REGRESSION for _ in range(runs)
    )
    assert least <= found / runs
    assert found <= stats.binom.isf(0.001, runs, most)  # so many are still chance
