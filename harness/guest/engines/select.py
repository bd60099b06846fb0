"""Whether a guest is used, and which engine boots it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.machine import Machine
from harness.core.userland import HOST
from harness.guest.engines.base import Engine, EngineName, Mode
from harness.guest.engines.uml import Uml
from harness.guest.engines.virtme import Virtme


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided."""

    mode: Mode
    #: None where no guest can be booted, or none may.
    engine: Engine | None
    #: Why there is no engine.
    problem: str = ""

    @property
    def name(self) -> str:
        """What the header and reports call the guest."""
        return f"{self.engine.name}, kernel {self.engine.kernel()}" if self.engine else "none"


def refusal(plan: Plan, userlands: Sequence[str]) -> str:
    """Return why the tests of these userlands can't run in the guest that was planned, or ""."""
    if plan.mode is not Mode.ALWAYS:
        return ""
    if plan.engine is None:
        return f"no guest can be booted: {plan.problem}"
    if userlands == (HOST.name,):
        return ""
    if len(userlands) > 1:
        return f"a guest has one userland, and --harness-userland names {len(userlands)}: {', '.join(userlands)}"
    if plan.engine.name is not EngineName.UML:
        return f"only the engine 'uml' boots another userland than the machine's own, and not '{plan.engine.name}'"
    return ""


def engines(machine: Machine, kernel: str = "") -> tuple[Engine, ...]:
    """Return every engine, the preferred one first; `kernel` is for those that can boot any."""
    return (Uml(machine), Virtme(machine, kernel))


def choose(mode: Mode, name: EngineName | None, kernel: str = "", machine: Machine | None = None) -> Plan:
    """Choose the engine called `name`, or the first that can be used here and, if one is wanted, boot the kernel."""
    if mode is Mode.NEVER:
        return Plan(mode, None, "--harness-guest=never")
    problems = []
    for engine in engines(machine or Machine(), kernel):
        if name not in (None, engine.name) or (kernel and engine.name is EngineName.UML):
            continue
        problem = engine.problem()
        if not problem:
            return Plan(mode, engine)
        problems.append(f"{engine.name}: {problem}")
    return Plan(mode, None, "; ".join(problems))
