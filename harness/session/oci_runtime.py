"""The OCI runtime of a session: crun, or runc where crun can't have its cgroups from systemd."""

from __future__ import annotations

import functools

from harness.core.machine import Machine
from harness.core.userland import Userland

#: Longest answer of `crun --version`, in seconds; it takes 5 ms.
_VERSION_LIMIT_S = 5.0

#: What crun says of itself when it was built with libsystemd.
SYSTEMD = "+SYSTEMD"


@functools.cache
def choose(userland: Userland) -> str:
    """Return the name of the runtime that sessions of a userland use; found out once."""
    return runtime_of(Machine().within(userland))


def runtime_of(machine: Machine) -> str:
    """Return crun, or runc where crun is not there or says that it was built without libsystemd."""
    if crun := machine.program("crun"):
        said = machine.run([crun, "--version"], timeout_s=_VERSION_LIMIT_S * machine.patience, check=False).text
        if SYSTEMD in said.split():
            return "crun"
    return "runc" if machine.program("runc") else "crun"
