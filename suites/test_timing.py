"""When each step of an activation happens, and whether an image got slower than the one it replaces."""

from __future__ import annotations

import pytest

from harness.cases import Case
from harness.findings import Findings
from harness.runtime import Runtime
from harness.service import Service
from harness.timeline import Mark


@pytest.mark.first_transport
def test_timeline(service: Service, case: Case) -> None:
    """The phases from the client's connect to the end of its reply are in order, and add up to the whole."""
    timeline = service.time_cold(case.transport)
    phases = timeline.phases
    assert {Mark.CONNECT, Mark.CREATED, Mark.EXEC, Mark.END} <= set(timeline.at)
    assert all(phase_s >= 0 for phase_s in phases.values()), phases
    assert sum(phases.values()) == pytest.approx(timeline.whole_s)


@pytest.mark.measures
def test_not_slower_than_allowed(findings: Findings, harness_runtime: Runtime) -> None:
    """The image wakes and answers no more slowly than its baseline, and within the budgets of its contract."""
    if findings.wrong:
        pytest.fail("\n".join(findings.wrong), pytrace=False)
    if findings.unclear:
        said = "\n".join(findings.unclear)
        if harness_runtime.options.strict:
            pytest.fail(f"{said}\nThe run is strict: a comparison without a verdict fails.", pytrace=False)
        pytest.skip(said)
