"""Whether a guest is used, and which engine boots it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.guest.engine import Engine, EngineName, Mode
from harness.guest.uml import Uml
from harness.machine import Machine

#: What to do where a guest is needed and no engine can boot one.
REMEDY = "install the package 'user-mode-linux', where the distribution has it"


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


def engines(machine: Machine) -> dict[EngineName, Engine]:
    """Return every engine, the preferred one first."""
    return {EngineName.UML: Uml(machine)}


def choose(mode: Mode, name: EngineName | None, machine: Machine | None = None) -> Plan:
    """Choose the engine called `name`, or the first that can be used here."""
    if mode is Mode.NEVER:
        return Plan(mode, None, "--harness-guest=never")
    problems = []
    for engine in engines(machine or Machine()).values():
        if name not in (None, engine.name):
            continue
        problem = engine.problem()
        if not problem:
            return Plan(mode, engine)
        problems.append(f"{engine.name}: {problem}")
    return Plan(mode, None, "; ".join(problems))
