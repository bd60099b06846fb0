"""How often the gate is wrong: one image against itself, and against itself with a known delay before its program.

All images are measured by turns in one session. Then the gate is replayed many times, each time on as many samples of
the record as its time limit allows: stretches of the record as they were measured, from places that chance decides, one
after the other. That is the moving blocks bootstrap of Künsch (1989), "The Jackknife and the Bootstrap for General
Stationary Observations": it keeps what one activation has to do with the next.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev

from harness import contract as contracts
from harness.cli.command import Command, say
from harness.cli.gate import SUBJECT, no_client
from harness.contract import Contract
from harness.core import progress
from harness.core.errors import UsageError
from harness.core.transports import Transport
from harness.images.store import Image
from harness.results.record import Kind, Role, Verdict
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings
from harness.timing import gate, measure, statistics
from harness.timing.gate import LOOKS, Rule
from harness.timing.measure import Measured, Plan
from harness.timing.statistics import Ratio

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


def mad(values: Sequence[float]) -> float:
    """Return the median absolute deviation from the median, not scaled.

    Rousseeuw and Croux (1993), "Alternatives to the Median Absolute Deviation", equation 1.1 without its factor.
    """
    middle = median(values)
    return median([abs(value - middle) for value in values])


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
    runtime: Runtime, images: Mapping[str, Image], subject: Contract, transport: Transport, seconds: float
) -> dict[str, Measured]:
    """Measure all `images` by turns for so many seconds, by the clients of one transport."""
    with runtime.quiet_session() as session, runtime.services(subject, images, "unit", session) as services:
        plan = Plan(seconds, most=100_000)
        return dict(measure.measure(services, transport, plan, lambda _measured: False, runtime.progress))


def build(runtime: Runtime, subject: Contract, cold_s: float, folder: Path) -> dict[str, Image]:
    """Build the image twice without a delay and once with each, as parts of a cold activation of `cold_s`."""
    plain = runtime.image(delayed(subject, 0.0, folder))
    slower = {
        f"slower-{claim.delay * 100:g}": runtime.image(delayed(subject, claim.delay * cold_s, folder))
        for claim in CLAIMS
        if claim.delay
    }
    return {"baseline": plain, "same": plain, **slower}


def trial(runtime: Runtime, subject: Contract, folder: Path) -> dict[str, Image]:
    """Return images without a delay, as many as `build` does, so that both are measured in the same way."""
    plain = runtime.image(delayed(subject, 0.0, folder))
    return {f"plain-{number}": plain for number in range(2 + sum(claim.delay > 0 for claim in CLAIMS))}


def judge(measured: Mapping[str, Measured], turn_s: float) -> Iterator[Calibration]:
    """Replay the gate for every claim; `turn_s` is what one turn takes. Raises UsageError for a record too short."""
    for claim in CLAIMS:
        name = f"slower-{claim.delay * 100:g}" if claim.delay else "same"
        samples = gate.samples_of({Role.CANDIDATE: measured[name], Role.BASELINE: measured["baseline"]})
        ours, theirs = samples[Kind.COLD]
        count = min(int(claim.limit_s / (2 * turn_s)), max(LOOKS))
        if len(theirs) < count:
            raise UsageError(
                f"The record has {len(theirs)} samples of each image; {claim.limit_s:g} s would take {count}.",
                hint="Record for longer.",
            )
        chance = random.Random(0)  # noqa: S311 -- no secret
        runs = []
        for _ in range(REPLAYS):
            places = _redrawn(chance, len(theirs), count)
            redrawn = {
                kind: ([candidate[place] for place in places], [baseline[place] for place in places])
                for kind, (candidate, baseline) in samples.items()
            }
            runs.append(gate.decide_while_measuring(redrawn, claim.rule))
        cold = [decision.verdicts[Kind.COLD] for decision, _taken in runs]
        shares = {verdict: cold.count(verdict) / len(cold) for verdict in Verdict}
        taken = round(statistics.median([number for _decision, number in runs]))
        yield Calibration(claim, statistics.ratio(ours, theirs), count, shares, taken)


def _redrawn(chance: random.Random, length: int, count: int) -> list[int]:
    """Return `count` places in a record of that length, stretch after stretch."""
    starts = [chance.randrange(length - STRETCH + 1) for _ in range(-(-count // STRETCH))]
    return [start + offset for start in starts for offset in range(STRETCH)][:count]


#: How long the plain image is measured to learn how long its delays are to be, in seconds.
_TRIAL_S = 60.0


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contract", type=Path, default=SUBJECT, metavar="PATH", help="what to activate")
    parser.add_argument("--minutes", type=float, default=12.0, help="how long to record (default: 12)")
    parser.add_argument("--transport", type=Transport, default=Transport.TCP4, choices=tuple(Transport))


def _calibrate(options: argparse.Namespace) -> int:
    """Print how often the gate is wrong here."""
    subject = contracts.load(options.contract)
    runtime = Runtime(Settings(), progress.to_stderr)
    if options.transport in runtime.lacking or options.transport not in subject.transports:
        raise no_client(options.transport)

    def measured_of(images: Mapping[str, Image], seconds: float) -> dict[str, Measured]:
        return record(runtime, images, subject, options.transport, seconds)

    with tempfile.TemporaryDirectory(prefix="harness-calibrate-") as folder:
        plain = trial(runtime, subject, Path(folder, "plain"))
        tried = measured_of(plain, _TRIAL_S)
        cold_s = median([median([one.whole_s for one in found.cold]) for found in tried.values()])
        images = build(runtime, subject, cold_s, Path(folder))
    started = time.monotonic()
    seconds = options.minutes * 60
    measured = measured_of(images, seconds)
    rounds = sum(len(found.cold) for found in measured.values())
    turn_s = (time.monotonic() - started) / rounds
    baseline = [timeline.whole_s for timeline in measured["baseline"].cold]
    middle = median(baseline)
    say(f"cold activation {cold_s * 1000:.0f} ms in a trial of {_TRIAL_S:.0f} s, {middle * 1000:.0f} ms in the record")
    say(f"one round {turn_s * 1000:.0f} ms, {rounds} rounds in {seconds:.0f} s, {len(baseline)} of each image")
    deviation, spread = (of(baseline) / middle for of in (mad, stdev))
    say(f"noise of one cold activation: MAD {deviation:.1%}, standard deviation {spread:.1%} of the median")
    say(f"{'':16} {'ratio, 95 %':>21} {'allowed':>8} {'limit':>6} {'samples':>8}    pass   regr.  incon.  median")
    for one in judge(measured, turn_s):
        shares = "  ".join(f"{one.verdicts[verdict]:6.1%}" for verdict in Verdict)
        claim, ratio = one.claim, one.ratio
        say(
            f"{claim.name:16} {ratio.value:.3f} ({ratio.low:.3f}-{ratio.high:.3f}) {claim.rule.max_slowdown:8.3f} "
            f"{claim.limit_s:4.0f} s {one.count:8}  {shares}  {one.taken * 2 * turn_s:4.0f} s"
        )
    return 0


COMMANDS = (
    Command("calibrate", "find out how often the gate's verdicts are wrong here", _calibrate_arguments, _calibrate),
)
