"""An integration test harness for socket-activated containers.

`from harness import NAME` is the interface for suites in your own repository: the names of `__all__`, and the plugin's
fixtures and marks, which begin with `harness_` or `socket_activated`. All else may change without notice. A name is
imported at its first use, so that `import harness` costs nothing.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.activation.base import Activated, Activation, Workload
    from harness.activation.service import Service
    from harness.capabilities.table import Capabilities
    from harness.contract import Contract
    from harness.core.deadline import Deadline, wait_until
    from harness.core.errors import Blame, HarnessError, ProbeFailed, UnitFailed, WaitTimeout
    from harness.core.transports import Endpoint, Listener, Transport
    from harness.images.store import Image
    from harness.plugin.fixtures import SocketActivated, contract_fixture
    from harness.plugin.parametrize import Case
    from harness.probes import Client, Reply, ask_bytes
    from harness.runtime.runtime import Runtime
    from harness.session.processes import Process, processes
    from harness.session.session import Session
    from harness.timing.timeline import cold as time_cold
    from harness.timing.verdict import Verdicts

__version__ = "0.1.0"

__all__ = [
    "Activated",
    "Activation",
    "Blame",
    "Capabilities",
    "Case",
    "Client",
    "Contract",
    "Deadline",
    "Endpoint",
    "HarnessError",
    "Image",
    "Listener",
    "ProbeFailed",
    "Process",
    "Reply",
    "Runtime",
    "Service",
    "Session",
    "SocketActivated",
    "Transport",
    "UnitFailed",
    "Verdicts",
    "WaitTimeout",
    "Workload",
    "ask_bytes",
    "contract_fixture",
    "processes",
    "time_cold",
    "wait_until",
]

#: Where each of them is, by pkgutil.resolve_name().
_PLACES = {
    "Activated": "harness.activation.base:Activated",
    "Activation": "harness.activation.base:Activation",
    "Blame": "harness.core.errors:Blame",
    "Capabilities": "harness.capabilities.table:Capabilities",
    "Case": "harness.plugin.parametrize:Case",
    "Client": "harness.probes:Client",
    "Contract": "harness.contract:Contract",
    "Deadline": "harness.core.deadline:Deadline",
    "Endpoint": "harness.core.transports:Endpoint",
    "HarnessError": "harness.core.errors:HarnessError",
    "Image": "harness.images.store:Image",
    "Listener": "harness.core.transports:Listener",
    "ProbeFailed": "harness.core.errors:ProbeFailed",
    "Process": "harness.session.processes:Process",
    "Reply": "harness.probes:Reply",
    "Runtime": "harness.runtime.runtime:Runtime",
    "Service": "harness.activation.service:Service",
    "Session": "harness.session.session:Session",
    "SocketActivated": "harness.plugin.fixtures:SocketActivated",
    "Transport": "harness.core.transports:Transport",
    "UnitFailed": "harness.core.errors:UnitFailed",
    "Verdicts": "harness.timing.verdict:Verdicts",
    "WaitTimeout": "harness.core.errors:WaitTimeout",
    "Workload": "harness.activation.base:Workload",
    "ask_bytes": "harness.probes:ask_bytes",
    "contract_fixture": "harness.plugin.fixtures:contract_fixture",
    "processes": "harness.session.processes:processes",
    "time_cold": "harness.timing.timeline:cold",
    "wait_until": "harness.core.deadline:wait_until",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    return globals().setdefault(name, pkgutil.resolve_name(_PLACES[name]))
