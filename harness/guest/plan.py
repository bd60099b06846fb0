"""Whether a guest is used, and which engine boots it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.guest.engine import Engine, EngineName, Mode
from harness.guest.uml import Uml
from harness.guest.virtme import Virtme
from harness.machine import Machine


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
