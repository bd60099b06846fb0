"""A service that somebody wrote by hand around `podman run`."""

from __future__ import annotations

from harness.activation.base import Workload, quote
from harness.activation.units import UnitActivation
from harness.session.session import Session


def service_text(_session: Session, workload: Workload) -> str:
    """Return a service unit that is ready when conmon says that the container runs."""
    command = workload.podman_run("--detach", "--cgroups=no-conmon", "--sdnotify=conmon")
    return f"""\
[Unit]
Description={workload.name} in a container
Requires={workload.name}.socket
After={workload.name}.socket

[Service]
Type=notify
NotifyAccess=all
ExecStart={" ".join(quote(argument) for argument in command)}
ExecStop=/usr/bin/podman stop --ignore {workload.name}
ExecStopPost=/usr/bin/podman rm --force --ignore {workload.name}
"""


ACTIVATION = UnitActivation("unit", service_text)
