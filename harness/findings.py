"""One measurement and what it says: the samples, the verdict on each kind of talk, and the contract's budgets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import gate, measure
from harness.activation import Activation
from harness.contract import ClientImage, Contract
from harness.gate import Rule
from harness.images import Image
from harness.measure import Measured, Measurement, Plan
from harness.progress import Progress
from harness.record import BudgetCheck, Case, Comparison, Kind, Role, Sample, Series, Verdict
from harness.service import open_services
from harness.session.session import Session
from harness.timeline import Timeline
from harness.transports import Transport
from harness.userland import HOST


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a candidate, and a baseline where there is one."""

    contract: Contract
    images: Mapping[str, Image]
    activation: Activation
    transport: Transport
    #: Transports that no client here can use; the services don't listen on them.
    lacking: frozenset[Transport] = frozenset()
    timeout_scale: float = 1.0
    #: What the contract's client programs run in.
    client_images: Mapping[ClientImage, str] | None = None
    #: Name of the userland that the sessions have.
    userland: str = HOST.name

    @property
    def case(self) -> Case:
        """What the records call it."""
        return Case(
            userland=self.userland,
            contract=self.contract.name,
            activation=self.activation.name,
            transport=self.transport,
        )


@dataclass(frozen=True, slots=True)
class Findings:
    """What one measurement says."""

    series: tuple[Series, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    budgets: tuple[BudgetCheck, ...] = ()

    @property
    def wrong(self) -> tuple[str, ...]:
        """Every regression and every budget that was not kept, each as a sentence."""
        return (
            *(gate.sentence(item) for item in self.comparisons if item.verdict is Verdict.REGRESSION),
            *(gate.budget_sentence(item) for item in self.budgets if not item.within),
        )

    @property
    def unclear(self) -> tuple[str, ...]:
        """Every comparison without a verdict, as a sentence."""
        return tuple(gate.sentence(item) for item in self.comparisons if item.verdict is Verdict.INCONCLUSIVE)

    @property
    def fine(self) -> tuple[str, ...]:
        """The rest, each as a sentence."""
        return (
            *(gate.sentence(item) for item in self.comparisons if item.verdict is Verdict.PASS),
            *(gate.budget_sentence(item) for item in self.budgets if item.within),
        )

    def with_(self, other: Findings) -> Findings:
        """Return both together."""
        return Findings(
            (*self.series, *other.series), (*self.comparisons, *other.comparisons), (*self.budgets, *other.budgets)
        )

    def dump(self) -> dict[str, list[Any]]:
        """Return it as what JSON knows."""
        return {
            name: [item.model_dump(mode="json") for item in getattr(self, name)]
            for name in ("series", "comparisons", "budgets")
        }

    @classmethod
    def load(cls, data: Mapping[str, list[Any]]) -> Findings:
        """Return what `dump` was given."""
        return cls(
            tuple(Series.model_validate_json(json.dumps(item)) for item in data["series"]),
            tuple(Comparison.model_validate_json(json.dumps(item)) for item in data["comparisons"]),
            tuple(BudgetCheck.model_validate_json(json.dumps(item)) for item in data["budgets"]),
        )


def find(session: Session, subject: Subject, plan: Plan, rule: Rule, progress: Progress) -> Findings:
    """Measure a subject in a session that has nothing else to do, and judge.

    Raises GateError, BaselineFailed, and what the candidate's activation raises.
    """
    compared = Role.BASELINE in subject.images

    def enough(measured: Measurement) -> bool:
        return compared and gate.clear(measured, rule)

    with open_services(
        session,
        subject.contract,
        subject.images,
        subject.activation,
        subject.lacking,
        subject.timeout_scale,
        subject.client_images,
    ) as services:
        measured = measure.measure(services, subject.transport, plan, enough, progress)
    return Findings(
        _series(subject.case, measured),
        tuple(gate.compare(subject.case, kind, measured, rule) for kind in Kind) if compared else (),
        tuple(_budgets(subject, measured[Role.CANDIDATE])),
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


def _budgets(subject: Subject, candidate: Measured) -> Sequence[BudgetCheck]:
    allowed = {Kind.COLD: subject.contract.budgets.cold_ms, Kind.WARM: subject.contract.budgets.warm_ms}
    return [
        gate.within_budget(subject.case, kind, candidate.of(kind), limit_ms)
        for kind, limit_ms in allowed.items()
        if limit_ms is not None
    ]
