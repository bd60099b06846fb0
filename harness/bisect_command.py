"""The command `bisect`: which layer loses the socket of an image."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from harness import bases, bisect, contract, progress
from harness.activation import activations, prepared, provided
from harness.cache import default_folder
from harness.capabilities import Capabilities
from harness.cli import Command, say
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.images import ImageStore
from harness.probes import Supplies
from harness.runtime import lacking, possible
from harness.session import opening
from harness.transports import Transport

#: How long all layers of one transport may take, in seconds.
LIMIT_S = 120.0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("contract", type=Path, metavar="CONTRACT", help="what the image promises: a file or its folder")
    parser.add_argument("--image", metavar="IMAGE", help="the image to look at (default: the contract's own)")
    parser.add_argument(
        "--activation", action="append", choices=tuple(activations()), help="repeatable (default: all that work here)"
    )
    parser.add_argument(
        "--transport", type=Transport, choices=tuple(Transport), help="(default: the contract's first that works here)"
    )


def _bisect(options: argparse.Namespace) -> int:
    """Try every layer; the status is 1 where one of them loses the socket."""
    subject = contract.load(options.contract)
    capabilities = Capabilities()
    without = lacking(capabilities)
    usable = [transport for transport in subject.transports if transport not in without]
    transport = options.transport or next(iter(usable), None)
    if transport not in usable:
        wanted = f"The transport '{transport}'" if transport else "Each of its transports"
        raise UsageError(f"{wanted} is not in the contract '{subject.name}', or this machine has no client for it.")
    store = ImageStore(default_folder(), progress.to_stderr)
    base = store.known_base() or bases.choose()
    image = store.chosen(subject, options.image or "", base)
    clients = store.clients(subject, base)
    # The launcher needs no unit files, so it comes first: each layer adds something to the one before.
    names = sorted(options.activation or possible(capabilities), key=lambda name: (name != "launcher", name))
    ways = {name: activations()[name] for name in names}
    # Not to be taken for a layer that loses the socket.
    capabilities.require(*(need for way in ways.values() for need in way.needs))
    listeners = [table.listener for table in subject.sockets if not without.intersection(table.transports)]
    with opening.testing(store.graph) as session:
        placed = session.place(listeners)
        with session.reserve(placed), provided(session, subject) as secrets:
            workload = prepared(subject, image.reference, placed, session.paths.home)
            uppers = {
                name: partial(way.activate, session, workload) for name, way in ways.items() if not way.refusal(subject)
            }
            limit, supplies = Deadline.after(LIMIT_S), Supplies(clients, secrets)
            probe = bisect.Probe(session, subject, transport, limit, supplies=supplies)
            found = bisect.bisect(probe, workload, uppers, progress.to_stderr)
            text = supplies.masked(str(found))
    say(text.rstrip("\n"))
    return 1 if found.guilty else 0


COMMANDS: tuple[Command, ...] = (
    Command("bisect", "find out which layer loses the socket of an image", _arguments, _bisect),
)
