"""The commands of the gate: compare two images without pytest, and find out how often its verdicts are wrong."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from harness import __version__, bases, calibrate, contract, progress, record, statistics
from harness.activation import activations
from harness.cache import default_folder
from harness.capabilities import Capabilities
from harness.cli import Command, say
from harness.environment import environment
from harness.errors import UsageError
from harness.findings import Findings, Subject, find
from harness.gate import Rule
from harness.images import Image, ImageStore
from harness.measure import Measured, Plan
from harness.record import Results, Role, Verdict
from harness.runtime import lacking
from harness.session import opening
from harness.transports import Transport

#: Exit statuses of `gate`; those of wrong input (2) and of the machine (3) are every command's.
REGRESSION, UNCLEAR = 1, 4

_SUBJECT = Path("containers/echo")

# --- gate -------------------------------------------------------------------------------------------------------------


def _gate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contract", type=Path, default=_SUBJECT, metavar="PATH", help="what both images promise")
    parser.add_argument("--candidate", metavar="IMAGE", help="the image to judge (default: the contract's own)")
    parser.add_argument("--baseline", metavar="IMAGE", required=True, help="the image that it is compared with")
    parser.add_argument("--max-slowdown", type=float, default=1.10, metavar="RATIO", help="allow this (default: 1.10)")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="per transport (default: 60)")
    parser.add_argument("--activation", choices=tuple(activations()), default="unit", help="(default: unit)")
    parser.add_argument("--transport", type=Transport, action="append", choices=tuple(Transport), help="repeatable")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write results.json there")


def _gate(options: argparse.Namespace) -> int:
    """Compare two images; the status is 0 (pass), 1 (regression), 4 (inconclusive), 2 or 3 (no verdict)."""
    if options.max_slowdown <= 1 or options.limit <= 0:
        raise UsageError("'--max-slowdown' is a number above 1, and '--limit' one above 0.")
    began, started = datetime.now().astimezone(), time.monotonic()
    subject = contract.load(options.contract)
    capabilities = Capabilities()
    store = ImageStore(default_folder(), progress.to_stderr)
    base = store.known_base() or bases.choose()
    images: dict[str, Image] = {
        Role.CANDIDATE: store.chosen(subject, options.candidate or "", base),
        Role.BASELINE: store.existing(subject.name, options.baseline),
    }
    clients = store.clients(subject, base)
    activation, without = activations()[options.activation], lacking(capabilities)
    capabilities.require(*activation.needs)
    wanted = options.transport or [transport for transport in subject.transports if transport not in without]
    found = Findings()
    for transport in wanted:
        if transport not in subject.transports or transport in without:
            raise _no_client(transport)
        one = Subject(subject, images, activation, transport, without, client_images=clients)
        with opening.testing(store.graph) as session:
            found = found.with_(find(session, one, Plan(options.limit), Rule(options.max_slowdown), progress.to_stderr))
    for line in (*found.wrong, *found.unclear, *found.fine):
        say(line)
    if options.results:
        results = Results(
            version=__version__,
            started=began.isoformat(timespec="seconds"),
            duration_s=time.monotonic() - started,
            environment=environment(capabilities, str(base), strict=False),
            series=found.series,
            comparisons=found.comparisons,
            budgets=found.budgets,
        )
        record.write(results, options.results)
    return REGRESSION if found.wrong else UNCLEAR if found.unclear else 0


def _no_client(transport: Transport) -> UsageError:
    return UsageError(f"The transport '{transport}' is not in the contract, or this machine has no client for it.")


# --- calibrate --------------------------------------------------------------------------------------------------------


#: How long the plain image is measured to learn how long its delays are to be, in seconds.
_TRIAL_S = 60.0


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contract", type=Path, default=_SUBJECT, metavar="PATH", help="what to activate")
    parser.add_argument("--minutes", type=float, default=12.0, help="how long to record (default: 12)")
    parser.add_argument("--transport", type=Transport, default=Transport.TCP4, choices=tuple(Transport))


def _calibrate(options: argparse.Namespace) -> int:
    """Print how often the gate is wrong here."""
    subject = contract.load(options.contract)
    store = ImageStore(default_folder(), progress.to_stderr)
    base = store.known_base() or bases.choose()
    unit, without = activations()["unit"], lacking(Capabilities())
    if options.transport in without or options.transport not in subject.transports:
        raise _no_client(options.transport)

    def measured_of(images: Mapping[str, Image], seconds: float) -> dict[str, Measured]:
        return calibrate.record(
            store, images, subject, base, unit, options.transport, without, seconds, progress.to_stderr
        )

    with tempfile.TemporaryDirectory(prefix="harness-calibrate-") as folder:
        plain = calibrate.trial(store, subject, base, Path(folder, "plain"))
        tried = measured_of(plain, _TRIAL_S)
        cold_s = statistics.median([found.median_s for found in tried.values()])
        images = calibrate.build(store, subject, base, cold_s, Path(folder))
    started = time.monotonic()
    seconds = options.minutes * 60
    measured = measured_of(images, seconds)
    turns = sum(len(found.cold) for found in measured.values())
    turn_s = (time.monotonic() - started) / turns
    baseline = [timeline.whole_s for timeline in measured["baseline"].cold]
    middle = statistics.median(baseline)
    say(f"cold activation {cold_s * 1000:.0f} ms in a trial of {_TRIAL_S:.0f} s, {middle * 1000:.0f} ms in the record")
    say(f"one turn {turn_s * 1000:.0f} ms, {turns} turns in {seconds:.0f} s, {len(baseline)} of each image")
    deviation, spread = (of(baseline) / middle for of in (statistics.mad, statistics.deviation))
    say(f"noise of one cold activation: MAD {deviation:.1%}, standard deviation {spread:.1%} of the median")
    say(f"{'':16} {'ratio, 95 %':>21} {'allowed':>8} {'limit':>6} {'samples':>8}    pass   regr.  incon.  median")
    for one in calibrate.judge(measured, turn_s):
        shares = "  ".join(f"{one.verdicts[verdict]:6.1%}" for verdict in Verdict)
        claim, ratio = one.claim, one.ratio
        say(
            f"{claim.name:16} {ratio.value:.3f} ({ratio.low:.3f}-{ratio.high:.3f}) {claim.rule.max_slowdown:8.3f} "
            f"{claim.limit_s:4.0f} s {one.count:8}  {shares}  {one.taken * 2 * turn_s:4.0f} s"
        )
    return 0


COMMANDS: tuple[Command, ...] = (
    Command("gate", "compare two images of one contract, and judge", _gate_arguments, _gate),
    Command("calibrate", "find out how often the gate's verdicts are wrong here", _calibrate_arguments, _calibrate),
)
