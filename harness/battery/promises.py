"""The table of promises: how each is tried, and what it concerns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.activation import Activation
from harness.battery import ending, instances, serving
from harness.battery.trial import Trial
from harness.contract import Contract, EchoProbe, Promise, Ready
from harness.core.transports import ROWS, Directive, Transport
from harness.probes import Client, timed

Concerns = Callable[[Contract, Transport, Activation], bool]


def _all(_contract: Contract, _transport: Transport, _activation: Activation) -> bool:
    return True


def _stream(_contract: Contract, transport: Transport, _activation: Activation) -> bool:
    return ROWS[transport].directive is Directive.STREAM


def _echo(contract: Contract, transport: Transport, _activation: Activation) -> bool:
    return isinstance(contract.probe(transport), EchoProbe)


def _measured(contract: Contract, transport: Transport, _activation: Activation) -> bool:
    """Whether a client has times of the service alone: the start of a program is in its own."""
    return timed(contract.probe(transport)) is Client.NATIVE


def _idles(contract: Contract, _transport: Transport, _activation: Activation) -> bool:
    return contract.limits.idle_exit_s is not None


def _says_ready(contract: Contract, _transport: Transport, activation: Activation) -> bool:
    """Whether the program says READY=1 to a unit; a launcher's has nobody to say it to."""
    return contract.image.ready is Ready.CONTAINER and activation.keeps_sockets


def _goes_on(_contract: Contract, _transport: Transport, activation: Activation) -> bool:
    return activation.keeps_sockets


@dataclass(frozen=True, slots=True)
class Row:
    """A promise: how it is tried, whether for each socket or once, and what has it."""

    attempt: Callable[[Trial], None]
    each_socket: bool = False
    concerns: Concerns = _all


PROMISES: dict[Promise, Row] = {
    Promise.EVERY_SOCKET: Row(serving.every_socket),
    Promise.SAME_RUN: Row(serving.same_run, each_socket=True),
    Promise.CROWD: Row(serving.crowd, each_socket=True, concerns=_stream),
    Promise.SIZES: Row(serving.every_size, each_socket=True, concerns=_echo),
    Promise.RUDE_CLIENTS: Row(serving.rude_clients, each_socket=True, concerns=_stream),
    Promise.EVEN: Row(serving.even, each_socket=True, concerns=_measured),
    Promise.FLAT: Row(serving.flat),
    Promise.STOP: Row(ending.stop),
    Promise.SOCKETS_UNHARMED: Row(ending.sockets_unharmed),
    Promise.NOBODY_ELSE_LISTENS: Row(ending.nobody_else_listens),
    Promise.CRASH: Row(ending.crash),
    Promise.NO_REPLY_LOST: Row(ending.no_reply_lost, concerns=_goes_on),
    Promise.IDLE: Row(ending.idle, concerns=_idles),
    Promise.READY: Row(ending.ready, concerns=_says_ready),
    Promise.QUIET: Row(ending.quiet),
    Promise.INSTANCES: Row(instances.instances, each_socket=True),
}


def attempt(promise: Promise, trial: Trial) -> None:
    """Try a promise; raise PromiseBroken, too, where it was kept and the session's bounds were met."""
    PROMISES[promise].attempt(trial)
    trial.check_bounds()


def promises(
    contract: Contract, activation: Activation, asked: Sequence[Transport], lacking: frozenset[Transport]
) -> list[tuple[Promise, Contract, Transport]]:
    """Return what is to be tried of a contract by an activation: each promise with the socket that it is tried over.

    A socket is a transport in one of the contract's selections.

    A promise that is not for each socket is tried over the first that this machine has clients for; the container
    behind it is the one that it is about.
    """
    found = []
    for promise, row in PROMISES.items():
        sockets = [(selected, item) for selected in contract.selections for item in selected.transports]
        # Of a socket whose clients systemd accepts, every other promise is about a run that is nobody's.
        wanted = [(one, item) for one, item in sockets if one.socket(item).accept == (promise is Promise.INSTANCES)]
        about = [(one, item) for one, item in wanted if item in asked and row.concerns(one, item, activation)]
        reached = [(one, item) for one, item in about if item not in lacking] or about
        found += [(promise, *place) for place in (about if row.each_socket else reached[:1])]
    return found
