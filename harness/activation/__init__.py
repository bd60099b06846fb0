"""Activations: a new one is one file here and a line of the table, or an entry point of another package."""

from __future__ import annotations

import functools

from harness.activation import generate, launcher, quadlet, unit
from harness.activation.base import Activated, Activation, Workload
from harness.activation.container import build_workload, own_name, preview_workload, provision
from harness.core.extensions import extended

__all__ = [
    "Activated",
    "Activation",
    "Workload",
    "activations",
    "build_workload",
    "own_name",
    "preview_workload",
    "provision",
]

#: The group of entry points by which other packages add activations, each the object itself under its name.
GROUP = "harness.activations"

_OWN = {item.ACTIVATION.name: item.ACTIVATION for item in (generate, launcher, quadlet, unit)}


@functools.cache
def activations() -> dict[str, Activation]:
    """Return name -> activation, in alphabetical order; raise UsageError for one of another package that can't be."""
    return extended(GROUP, _OWN, _refusal)


def _refusal(name: str, value: object) -> str:
    if not isinstance(value, Activation):
        return f"it is no object of harness.activation.Activation, but {type(value).__name__}"
    return "" if value.name == name else f"the activation calls itself '{value.name}'"
