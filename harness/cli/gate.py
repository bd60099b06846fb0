"""The command `gate`: compares two images without pytest."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from pathlib import Path

from harness import __version__, contract
from harness.activation import activations
from harness.cli.command import say
from harness.core import progress
from harness.core.errors import UsageError
from harness.core.transports import Transport
from harness.results import record
from harness.results.record import Case, Results
from harness.runtime.environment import environment
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings
from harness.timing.gate import Rule
from harness.timing.measure import Plan
from harness.timing.verdict import Verdicts, find

#: Exit statuses of `gate`; those of wrong input (2) and of the machine (10) are every command's.
REGRESSION, UNCLEAR = 1, 4

SUBJECT = Path("containers/echo")

# --- gate -------------------------------------------------------------------------------------------------------------


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contract", type=Path, default=SUBJECT, metavar="PATH", help="what both images promise")
    parser.add_argument("--candidate", metavar="IMAGE", help="the image to judge (default: the contract's own)")
    parser.add_argument("--baseline", metavar="IMAGE", required=True, help="the image that it is compared with")
    parser.add_argument("--max-slowdown", type=float, default=1.10, metavar="RATIO", help="allow this (default: 1.10)")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="per transport (default: 60)")
    parser.add_argument("--activation", choices=tuple(activations()), default="unit", help="(default: unit)")
    parser.add_argument("--transport", type=Transport, action="append", choices=tuple(Transport), help="repeatable")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write results.json there")


def run(options: argparse.Namespace) -> int:
    """Compare two images; the status is 0 (pass), 1 (regression), 4 (inconclusive), 2 or 10 (no verdict)."""
    if options.max_slowdown <= 1 or options.limit <= 0:
        raise UsageError("'--max-slowdown' is a number above 1, and '--limit' one above 0.")
    began, started = datetime.now().astimezone(), time.monotonic()
    subject = contract.load(options.contract)
    chosen = {subject.name: options.candidate} if options.candidate else {}
    runtime = Runtime(Settings(images=chosen, baselines={subject.name: options.baseline}), progress.to_stderr)
    images = runtime.measured(subject)
    without, plan, rule = runtime.lacking, Plan(options.limit), Rule(options.max_slowdown)
    wanted = options.transport or [transport for transport in subject.transports if transport not in without]
    found = Verdicts()
    for transport in wanted:
        if transport not in subject.transports or transport in without:
            raise no_client(transport)
        case = Case(userland=runtime.name, contract=subject.name, activation=options.activation, transport=transport)
        with (
            runtime.quiet_session() as session,
            runtime.services(subject, images, options.activation, session) as services,
        ):
            found = found.with_(find(services, transport, case, plan, rule, runtime.progress))
    for line in (*found.failed, *found.inconclusive, *found.passed):
        say(line)
    if options.results:
        results = Results(
            version=__version__,
            started=began.isoformat(timespec="seconds"),
            duration_s=time.monotonic() - started,
            environment=environment(runtime.capabilities, str(runtime.base), strict=False),
            series=found.series,
            comparisons=found.comparisons,
            budgets=found.budgets,
        )
        record.write(results, options.results)
    return REGRESSION if found.failed else UNCLEAR if found.inconclusive else 0


def no_client(transport: Transport) -> UsageError:
    return UsageError(f"The transport '{transport}' is not in the contract, or this machine has no client for it.")
