"""A service that somebody wrote by hand around `podman run`."""

from __future__ import annotations

from harness.activation.base import Workload
from harness.activation.units import UnitActivation, unit_section
from harness.contract import Ready


def files(workload: Workload) -> dict[str, str]:
    """Return name -> text of the service unit."""
    return {f"{workload.name}.service": text(workload)}


def text(workload: Workload) -> str:
    """Return a service unit that is ready when the contract's word for it has come, by default conmon's."""
    return f"""\
{unit_section(workload)}
[Service]
{"Type=exec" if workload.ready is Ready.EXEC else "Type=notify"}
NotifyAccess=all
ExecStart={_command(workload)}
ExecStop=podman stop --ignore {workload.name}
ExecStopPost=podman rm --force --ignore {workload.name}
"""


def _command(workload: Workload) -> str:
    """Return how podman is started: in the foreground where nobody else tells systemd which process is the service."""
    if workload.ready is Ready.EXEC:
        return workload.exec_start("--cgroups=no-conmon", "--sdnotify=ignore")
    return workload.exec_start("--detach", "--cgroups=no-conmon", f"--sdnotify={workload.ready}")


ACTIVATION = UnitActivation("unit", lambda _session, workload: files(workload), files)
