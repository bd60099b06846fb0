"""The tutorial's way: `podman create`, then `podman generate systemd --name --new`."""

from __future__ import annotations

from harness.activation.base import Workload
from harness.activation.units import UnitActivation
from harness.errors import Blame, CommandError
from harness.session.session import Session


def service_text(session: Session, workload: Workload) -> str:
    """Return the service unit that podman generates from a container, which it makes for that."""
    options = ("--rm", "--replace", f"--name={workload.name}", "--network=none", "--pull=never", *workload.options)
    try:
        session.run(["podman", "create", *options, workload.image, *workload.command])
    except CommandError as error:
        error.blame = Blame.IMAGE
        raise
    return session.run(["podman", "generate", "systemd", "--name", "--new", workload.name]).text


ACTIVATION = UnitActivation("generate", service_text)
