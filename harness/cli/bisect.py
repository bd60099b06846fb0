"""The command `bisect`: which layer loses the socket of an image."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from harness import contract
from harness.activation import activations, build_workload, provision
from harness.bisect import bisect
from harness.cli.command import say
from harness.core import progress
from harness.core.deadline import Deadline
from harness.core.errors import UsageError
from harness.core.transports import Transport
from harness.probes import Supplies
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings

#: How many times the contract's limit of a reply all layers may take together: more than there are of them.
_LAYERS = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("contract", type=Path, metavar="CONTRACT", help="what the image promises: a file or its folder")
    parser.add_argument("--image", metavar="IMAGE", help="the image to look at (default: the contract's own)")
    parser.add_argument(
        "--activation", action="append", choices=tuple(activations()), help="repeatable (default: all that work here)"
    )
    parser.add_argument(
        "--transport", type=Transport, choices=tuple(Transport), help="(default: the contract's first that works here)"
    )


def run(options: argparse.Namespace) -> int:
    """Try every layer; the status is 1 where one of them loses the socket."""
    subject = contract.load(options.contract)
    if subject.image.backend:
        raise UsageError(
            f"The program of '{subject.name}' takes no sockets, so no layer can lose one.",
            hint="Look at the output of its two units, in the bundle of the test that failed.",
        )
    runtime = Runtime(Settings(images={subject.name: options.image} if options.image else {}), progress.to_stderr)
    without = runtime.lacking
    usable = [transport for transport in subject.transports if transport not in without]
    transport = options.transport or next(iter(usable), None)
    if transport not in usable:
        wanted = f"The transport '{transport}'" if transport else "Each of its transports"
        raise UsageError(f"{wanted} is not in the contract '{subject.name}', or this machine has no client for it.")
    image, clients = runtime.image(subject), runtime.client_images(subject)
    # The launcher needs no unit files, so it comes first: each layer adds something to the one before.
    names = sorted(options.activation or runtime.activations, key=lambda name: (name != "launcher", name))
    # What is missing here is not to be taken for a layer that loses the socket.
    ways = {name: runtime.activation(name) for name in names}
    listeners = [table.listener for table in subject.sockets if not without.intersection(table.transports)]
    with runtime.quiet_session() as session:
        placed = session.assign_addresses(listeners)
        with session.lock_ports(placed), provision(session, subject) as secrets:
            workload = build_workload(subject, image.reference, placed, session.paths.home)
            uppers = {
                name: partial(way.activate, session, workload) for name, way in ways.items() if not way.refusal(subject)
            }
            limit, supplies = Deadline.after(_LAYERS * subject.limits.first_start_s), Supplies(clients, secrets)
            probe = bisect.Probe(session, subject, transport, limit, supplies=supplies)
            found = bisect.bisect(probe, workload, uppers, progress.to_stderr)
            text = supplies.masked(str(found))
    say(text.rstrip("\n"))
    return 1 if found.guilty else 0
