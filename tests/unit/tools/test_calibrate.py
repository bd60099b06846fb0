"""The calibration on records that are made up: what it says of them, and what it refuses."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from harness.core.errors import UsageError
from harness.images.store import Image
from harness.results.record import Verdict
from harness.timing import timeline
from harness.timing.measure import Measured
from harness.timing.timeline import Mark
from tools import calibrate

#: Of the images in the order of the claims: the same one twice, and two that are slower.
SLOWER = {"baseline": 1.0, "same": 1.0, "slower-10": 1.1, "slower-5": 1.05}

TURN_S = 0.4


def record(count: int, noise: float) -> dict[str, Measured]:
    """Return so many turns of each image."""
    chance = random.Random(3)
    image = Image("echo", "localhost/echo", "0" * 64, "", "0" * 64, 0.0)
    return {
        name: Measured(
            image,
            *(
                [
                    timeline.build({Mark.CONNECT: 0.0, Mark.END: whole_s * slower * chance.lognormvariate(0, noise)})
                    for _ in range(count)
                ]
                for whole_s in (0.15, 0.0001)
            ),
        )
        for name, slower in SLOWER.items()
    }


@pytest.fixture(autouse=True)
def few_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to see that they are counted."""
    monkeypatch.setattr(calibrate, "REPLAYS", 30)


def test_a_quiet_record() -> None:
    """Every slow-down is found, and no image is slower than itself; the ratios are those of the record."""
    found = list(calibrate.judge(record(200, 0.02), TURN_S))
    assert [one.claim for one in found] == list(calibrate.CLAIMS)
    assert [one.count for one in found] == [75, 150, 75, 150]
    for one in found:
        assert one.ratio.value == pytest.approx(1 + one.claim.delay, abs=0.01)
        expected = Verdict.REGRESSION if one.claim.delay else Verdict.PASS
        assert one.verdicts[expected] == 1
        assert sum(one.verdicts.values()) == pytest.approx(1)
        assert one.taken in (16, 32, 64)


def test_a_noisy_record() -> None:
    """What is not found is inconclusive; the same record has the same answer."""
    noisy = record(200, 0.5)
    *_, five = calibrate.judge(noisy, TURN_S)
    assert five.verdicts[Verdict.INCONCLUSIVE] > 0.5
    assert five.taken == five.count
    assert list(calibrate.judge(noisy, TURN_S))[-1] == five


def test_a_record_that_is_too_short() -> None:
    """Said with what it would take."""
    with pytest.raises(UsageError, match="The record has 74 samples of each image; 60 s would take 75"):
        list(calibrate.judge(record(74, 0.02), TURN_S))


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_mad_is_that_of_scipy(count: int) -> None:
    """The deviation is not scaled."""
    values = [random.Random(count + number).lognormvariate(0, 0.08) for number in range(count)]
    assert calibrate.mad(values) == pytest.approx(stats.median_abs_deviation(values), rel=1e-12)
