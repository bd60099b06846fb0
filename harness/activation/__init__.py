"""Activations: a new one is one file here and a line of the table, or an entry point of another package."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from harness.activation import generate, launcher, proxied, quadlet, shipped, unit
from harness.activation.base import Activated, Activation, Workload
from harness.activation.container import build_workload, own_name, preview_workload, provision
from harness.contract import Contract
from harness.core.errors import UsageError
from harness.core.extensions import extended

__all__ = [
    "Activated",
    "Activation",
    "Workload",
    "activations",
    "activations_for",
    "build_workload",
    "named",
    "own_name",
    "preview_workload",
    "provision",
    "refuse_other",
]

#: The group of entry points by which other packages add activations, each the object itself under its name.
GROUP = "harness.activations"

#: The ways that leave no choice, each for contracts of its own kind.
_ONLY: dict[str, Activation] = {item.name: item for item in (proxied.PROXIED, shipped.SHIPPED)}

_OWN = {item.ACTIVATION.name: item.ACTIVATION for item in (generate, launcher, quadlet, unit)}


@functools.cache
def activations() -> dict[str, Activation]:
    """Return name -> activation, in alphabetical order; raise UsageError for one of another package that can't be."""
    return extended(GROUP, _OWN, _refusal)


def activations_for(contract: Contract, chosen: Mapping[str, Activation]) -> Mapping[str, Activation]:
    """Return name -> activation of those that are for a contract.

    Unit files are activated as they are, and a program that takes no sockets behind a proxy; all others by what was
    chosen.
    """
    only = shipped.SHIPPED if contract.units else proxied.PROXIED if contract.image.backend else None
    return {only.name: only} if only else chosen


def refuse_other(contract: Contract, way: Activation) -> None:
    """Raise UsageError where a contract is of a kind that has one way only, and this is another."""
    if way.name not in (known := activations_for(contract, {way.name: way})):
        raise UsageError(f"The contract '{contract.name}' can only be activated by '{', '.join(known)}'.")


def named(name: str) -> Activation:
    """Return the activation of that name, one that leaves no choice or another."""
    return _ONLY.get(name) or activations()[name]


def _refusal(name: str, value: object) -> str:
    if not isinstance(value, Activation):
        return f"it is no object of harness.activation.Activation, but {type(value).__name__}"
    return "" if value.name == name else f"the activation calls itself '{value.name}'"
