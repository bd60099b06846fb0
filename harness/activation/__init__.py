"""Activations, found by their modules: a new one is one file here with an `ACTIVATION`."""

from __future__ import annotations

import importlib
import pkgutil

from harness.activation.base import Activated, Activation, Workload
from harness.activation.container import prepared, provided

__all__ = ["Activated", "Activation", "Workload", "activations", "prepared", "provided"]


def activations() -> dict[str, Activation]:
    """Return name -> activation, in alphabetical order."""
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        activation = getattr(importlib.import_module(f"{__name__}.{module.name}"), "ACTIVATION", None)
        if isinstance(activation, Activation):
            found[activation.name] = activation
    return found
