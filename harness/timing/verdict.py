"""One measurement and what it says: the samples, the verdict on each kind of request, and the contract's budgets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.activation.service import Service
from harness.contract import BudgetsTable
from harness.core.progress import Progress
from harness.core.transports import Transport
from harness.results.record import BudgetCheck, Case, Comparison, Kind, Role, Sample, Series, Verdict
from harness.timing import gate, measure
from harness.timing.gate import Rule
from harness.timing.measure import Measured, Measurement, Plan
from harness.timing.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one measurement says."""

    series: tuple[Series, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    budgets: tuple[BudgetCheck, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Every regression and every budget that was not kept, each as a sentence."""
        return (
            *(gate.sentence(item) for item in self.comparisons if item.verdict is Verdict.REGRESSION),
            *(gate.budget_sentence(item) for item in self.budgets if not item.within),
        )

    @property
    def inconclusive(self) -> tuple[str, ...]:
        """Every comparison without a verdict, as a sentence."""
        return tuple(gate.sentence(item) for item in self.comparisons if item.verdict is Verdict.INCONCLUSIVE)

    @property
    def passed(self) -> tuple[str, ...]:
        """The rest, each as a sentence."""
        return (
            *(gate.sentence(item) for item in self.comparisons if item.verdict is Verdict.PASS),
            *(gate.budget_sentence(item) for item in self.budgets if item.within),
        )

    def with_(self, other: Verdicts) -> Verdicts:
        """Return both together."""
        return Verdicts(
            (*self.series, *other.series), (*self.comparisons, *other.comparisons), (*self.budgets, *other.budgets)
        )

    def dump(self) -> dict[str, list[Any]]:
        """Return it as what JSON knows."""
        return {
            name: [item.model_dump(mode="json") for item in getattr(self, name)]
            for name in ("series", "comparisons", "budgets")
        }

    @classmethod
    def load(cls, data: Mapping[str, list[Any]]) -> Verdicts:
        """Return what `dump` was given."""
        return cls(
            tuple(Series.model_validate_json(json.dumps(item)) for item in data["series"]),
            tuple(Comparison.model_validate_json(json.dumps(item)) for item in data["comparisons"]),
            tuple(BudgetCheck.model_validate_json(json.dumps(item)) for item in data["budgets"]),
        )


def find(
    services: Mapping[str, Service], transport: Transport, case: Case, plan: Plan, rule: Rule, progress: Progress
) -> Verdicts:
    """Measure the services of a candidate and, where there is one, of a baseline, and judge.

    The keys are roles; `case` is how reports name the transport. The session has nothing else to do. Raises GateError,
    BaselineFailed, and what the candidate's activation raises.
    """
    compared = Role.BASELINE in services

    def enough(measured: Measurement) -> bool:
        if not compared or len(measured[Role.CANDIDATE].cold) not in gate.LOOKS:
            return False
        return gate.decide(gate.samples_of(measured), rule).clear

    measured = measure.measure(services, transport, plan, enough, progress)
    budgets = services[Role.CANDIDATE].contract.budgets
    return Verdicts(
        _series(case, measured),
        gate.compare(case, measured, rule) if compared else (),
        tuple(_budgets(case, budgets, measured[Role.CANDIDATE])),
    )


def _series(case: Case, measured: Measurement) -> tuple[Series, ...]:
    return tuple(
        Series(
            case=case,
            kind=kind,
            role=Role(role),
            image=found.image.reference,
            image_id=found.image.id,
            samples=tuple(map(_sample, found.of(kind))),
        )
        for role, found in measured.items()
        for kind in Kind
    )


def _sample(timeline: Timeline) -> Sample:
    ready = timeline.ready_s
    return Sample(
        at_ms={str(mark): round(at * 1000, 4) for mark, at in timeline.at.items()},
        ready_ms=None if ready is None else round(ready * 1000, 4),
    )


def _budgets(case: Case, budgets: BudgetsTable, candidate: Measured) -> Sequence[BudgetCheck]:
    allowed = {Kind.COLD: budgets.cold_ms, Kind.WARM: budgets.warm_ms}
    return [
        gate.within_budget(case, kind, candidate.of(kind), limit_ms)
        for kind, limit_ms in allowed.items()
        if limit_ms is not None
    ]
