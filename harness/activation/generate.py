"""The tutorial's way: `podman create`, then `podman generate systemd --name --new`."""

from __future__ import annotations

from harness.activation.base import Workload
from harness.activation.units import UnitActivation, socket_units
from harness.contract import Ready
from harness.errors import Blame, CommandError
from harness.session.session import Session

_NOTIFY = {Ready.CONTAINER: ("--sdnotify=container",), Ready.EXEC: ("--sdnotify=ignore",)}


def service_text(session: Session, workload: Workload) -> str:
    """Return the service unit that podman generates from a container, which it makes for that."""
    try:
        session.run(["podman", "create", *create_options(workload), workload.image, *workload.command])
    except CommandError as error:
        error.blame = Blame.IMAGE
        raise
    return session.run(["podman", "generate", "systemd", *generate_options(workload), workload.name]).text


def create_options(workload: Workload) -> tuple[str, ...]:
    """Return the options for `podman create`; podman generates `Type=notify` by conmon where nothing else is said."""
    return workload.container if workload.ready is Ready.CONMON else (*workload.container, *_NOTIFY[workload.ready])


def generate_options(workload: Workload) -> tuple[str, ...]:
    """Return the options for `podman generate systemd`.

    A socket unit of the service's own name is known to systemd; one of another name says `Service=` itself, and the
    service says by podman's options that it needs it.
    """
    units = socket_units(workload)
    others = units if len(units) > 1 else {}
    return ("--name", "--new", *(f"--{kind}={unit}" for unit in others for kind in ("requires", "after")))


ACTIVATION = UnitActivation("generate", service_text)
