"""Activations with the noise of an idle machine, made of numbers."""

from __future__ import annotations

import random

from harness.images.store import Image
from harness.results.record import Case, Role
from harness.timing import timeline
from harness.timing.measure import Measured
from harness.timing.timeline import Mark, Timeline

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
