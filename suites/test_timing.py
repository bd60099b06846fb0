"""When each step of an activation happens, and whether an image got slower than the one it replaces."""

from __future__ import annotations

import pytest

from harness import Case, Service, Verdicts, time_cold


@pytest.mark.harness_first_transport
def test_timeline(harness_service: Service, harness_case: Case) -> None:
    """The phases from the client's connect to the end of its reply are in order, and add up to the whole."""
    found = time_cold(harness_service, harness_case.transport)
    phases = found.phases
    assert {"connect", "created", "exec", "end"} <= set(found.at)
    assert all(phase_s >= 0 for phase_s in phases.values()), phases
    assert sum(phases.values()) == pytest.approx(found.whole_s)


@pytest.mark.harness_benchmark
def test_not_slower_than_allowed(harness_verdicts: Verdicts, harness_strict: bool) -> None:
    """The image wakes and answers no more slowly than its baseline, and within the budgets of its contract."""
    if harness_verdicts.failed:
        pytest.fail("\n".join(harness_verdicts.failed), pytrace=False)
    if harness_verdicts.inconclusive:
        said = "\n".join(harness_verdicts.inconclusive)
        if harness_strict:
            pytest.fail(f"{said}\nThe run is strict: a comparison without a verdict fails.", pytrace=False)
        pytest.skip(said)
