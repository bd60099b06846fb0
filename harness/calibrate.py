"""How often the gate is wrong: one image against itself, and against itself with a known delay before its program.

All images are measured by turns in one session. Then the gate is replayed many times, each time on as many samples of
the record as its time limit allows: stretches of the record as they were measured, from places that chance decides, one
after the other. That is the moving blocks bootstrap of Künsch (1989), "The Jackknife and the Bootstrap for General
Stationary Observations": it keeps what one activation has to do with the next.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import contract as contracts
from harness import gate, measure, statistics
from harness.activation import Activation
from harness.bases import Base
from harness.contract import Contract
from harness.errors import UsageError
from harness.gate import LOOKS, Rule
from harness.images import Image, ImageStore
from harness.measure import Measured, Plan
from harness.progress import Progress
from harness.record import Verdict
from harness.service import open_services
from harness.session import opening
from harness.statistics import Ratio
from harness.transports import Transport

#: Runs the image's own command a while later; both the image and what it is compared with get this, one with 0.
_ENTRYPOINT = 'ENTRYPOINT ["/bin/sh", "-c", "sleep {delay_s:.4f}; exec \\"$0\\" \\"$@\\""]\n'


#: Replays of the gate for each claim, and samples of each image in a stretch of the record.
REPLAYS, STRETCH = 1000, 16


@dataclass(frozen=True, slots=True)
class Claim:
    """What the gate is to show: of an image with this delay, with this rule, within this time."""

    name: str
    #: Part of the cold activation by which the program is delayed.
    delay: float
    rule: Rule
    limit_s: float


#: A slow-down is looked for with half of it allowed, so that the verdict is beyond chance and beyond what is allowed.
CLAIMS = (
    Claim("the same image", 0.0, Rule(1.05), 60.0),
    Claim("the same image", 0.0, Rule(1.025), 120.0),
    Claim("10 % slower", 0.10, Rule(1.05), 60.0),
    Claim("5 % slower", 0.05, Rule(1.025), 120.0),
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What came of one claim."""

    claim: Claim
    #: How much slower the image really was in the whole record, as the gate counts it.
    ratio: Ratio
    #: Samples of each image within the time limit.
    count: int
    verdicts: Mapping[Verdict, float]
    #: Samples of each image that the median replay took until its verdict.
    taken: int


def delayed(subject: Contract, delay_s: float, folder: Path) -> Contract:
    """Return the same contract for an image whose program starts later; its sources are copied below `folder`.

    Raises UsageError for a contract that names a ready-made image or an image with an ENTRYPOINT of its own.
    """
    copy = folder / f"{subject.name}-{delay_s * 1000:g}ms"
    shutil.copytree(subject.folder, copy)
    files = list(copy.glob(f"{subject.image.containerfile}*"))
    if subject.image.reference or not files:
        raise UsageError(f"The contract '{subject.name}' has no Containerfile to which a delay could be added.")
    for file in files:
        text = file.read_text(encoding="utf-8")
        if "ENTRYPOINT" in text:
            raise UsageError(f"The image of '{subject.name}' has an ENTRYPOINT already, so no delay can be added.")
        file.write_text(text.rstrip("\n") + "\n" + _ENTRYPOINT.format(delay_s=delay_s), encoding="utf-8")
    return contracts.load(copy)


def record(
    store: ImageStore,
    images: Mapping[str, Image],
    subject: Contract,
    base: Base,
    activation: Activation,
    transport: Transport,
    lacking: frozenset[Transport],
    seconds: float,
    progress: Progress,
) -> dict[str, Measured]:
    """Measure all `images` by turns for so many seconds, by the clients of one transport."""
    clients = store.clients(subject, base)
    with (
        opening.testing(store.graph) as session,
        open_services(session, subject, images, activation, lacking, client_images=clients) as services,
    ):
        plan = Plan(seconds, most=100_000)
        return dict(measure.measure(services, transport, plan, lambda _measured: False, progress))


def build(store: ImageStore, subject: Contract, base: Base, cold_s: float, folder: Path) -> dict[str, Image]:
    """Build the image twice without a delay and once with each, as parts of a cold activation of `cold_s`."""
    plain = store.image(delayed(subject, 0.0, folder), base)
    slower = {
        f"slower-{claim.delay * 100:g}": store.image(delayed(subject, claim.delay * cold_s, folder), base)
        for claim in CLAIMS
        if claim.delay
    }
    return {"baseline": plain, "same": plain, **slower}


def trial(store: ImageStore, subject: Contract, base: Base, folder: Path) -> dict[str, Image]:
    """Return images without a delay, as many as `build` does, so that both are measured in the same way."""
    plain = store.image(delayed(subject, 0.0, folder), base)
    return {f"plain-{number}": plain for number in range(2 + sum(claim.delay > 0 for claim in CLAIMS))}


def judge(measured: Mapping[str, Measured], turn_s: float) -> Iterator[Calibration]:
    """Replay the gate for every claim; `turn_s` is what one turn takes. Raises UsageError for a record too short."""
    for claim in CLAIMS:
        name = f"slower-{claim.delay * 100:g}" if claim.delay else "same"
        ours = [timeline.whole_s for timeline in measured[name].cold]
        theirs = [timeline.whole_s for timeline in measured["baseline"].cold]
        count = min(int(claim.limit_s / (2 * turn_s)), max(LOOKS))
        if len(theirs) < count:
            raise UsageError(
                f"The record has {len(theirs)} samples of each image; {claim.limit_s:g} s would take {count}.",
                remedy="Record for longer.",
            )
        chance = random.Random(0)  # noqa: S311 -- no secret
        runs = []
        for _ in range(REPLAYS):
            places = _redrawn(chance, len(theirs), count)
            runs.append(_replay([ours[place] for place in places], [theirs[place] for place in places], claim.rule))
        shares = {verdict: sum(said is verdict for said, _n in runs) / len(runs) for verdict in Verdict}
        taken = round(statistics.median([n for _said, n in runs]))
        yield Calibration(claim, statistics.ratio(ours, theirs), count, shares, taken)


def _redrawn(chance: random.Random, length: int, count: int) -> list[int]:
    """Return `count` places in a record of that length, stretch after stretch."""
    starts = [chance.randrange(length - STRETCH + 1) for _ in range(-(-count // STRETCH))]
    return [start + offset for start in starts for offset in range(STRETCH)][:count]


def _replay(ours: Sequence[float], theirs: Sequence[float], rule: Rule) -> tuple[Verdict, int]:
    """Return the gate's verdict, and after how many samples of each image."""
    for count in LOOKS:
        if count < len(ours) and (said := gate.look(ours[:count], theirs[:count], rule)):
            return said, count
    return gate.verdict(ours, theirs, rule), len(ours)
