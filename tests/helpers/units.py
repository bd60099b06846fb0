"""Folders of unit files as the only contracts of a runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.activation.service import Service
from harness.battery.promises import attempt
from harness.battery.trial import Trial
from harness.contract import Promise
from harness.runtime.runtime import Runtime


def of(folder: Path, runtime: Runtime, *instances: str) -> Runtime:
    """Return a runtime for one folder of unit files, in the userland of another."""
    settings = replace(runtime.settings, contracts=(), units=(folder,), instances=instances)
    return Runtime(settings, runtime.progress, runtime.base, runtime.store, runtime.name)


def served(folder: Path, runtime: Runtime, *instances: str) -> Iterator[Service]:
    """Yield the service of the only contract of a folder."""
    with of(folder, runtime, *instances) as own:
        (contract,) = own.contracts.values()
        with own.service(contract) as service:
            yield service


def every_socket(folder: Path, runtime: Runtime, *instances: str) -> set[str]:
    """Try every socket of a folder, and return what reports call them."""
    for service in served(folder, runtime, *instances):
        first = next(iter(service.activated.workload.endpoints))
        attempt(Promise.EVERY_SOCKET, Trial(service, first))
        return {
            selected.label(transport) for selected in service.contract.selections for transport in selected.transports
        }
    raise AssertionError
