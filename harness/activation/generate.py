"""The tutorial's way: `podman create`, then `podman generate systemd --name --new`."""

from __future__ import annotations

import shlex

from harness.activation.base import Workload
from harness.activation.units import UnitActivation, socket_units
from harness.contract import Contract, Ready
from harness.core.errors import Blame, CommandError
from harness.core.hints import start_hint
from harness.session.session import Session

_NOTIFY = {Ready.CONTAINER: ("--sdnotify=container",)}


def service_files(session: Session, workload: Workload) -> dict[str, str]:
    """Return name -> text of the service unit that podman generates from a container, which it makes for that."""
    try:
        session.run(create(workload))
    except CommandError as error:
        known = start_hint(error.stderr.decode(errors="replace"))
        error.blame, error.hint = known.blame or Blame.UNKNOWN, known.advice
        raise
    return {f"{workload.name}.service": session.run(generate(workload)).text}


def create(workload: Workload) -> tuple[str, ...]:
    """Return how the container is made; podman generates `Type=notify` by conmon where nothing else is said."""
    return (
        "podman",
        "create",
        *workload.container,
        *_NOTIFY.get(workload.ready, ()),
        workload.image,
        *workload.command,
    )


def generate(workload: Workload) -> tuple[str, ...]:
    """Return how the service unit is made.

    A socket unit of the service's own name is known to systemd; one of another name says `Service=` itself, and the
    service says by podman's options that it needs it.
    """
    units = socket_units(workload)
    others = units if len(units) > 1 else {}
    needed = (f"--{kind}={unit}" for unit in others for kind in ("requires", "after"))
    return ("podman", "generate", "systemd", "--name", "--new", *needed, workload.name)


def preview(workload: Workload) -> dict[str, str]:
    """Return the commands whose output is the service unit."""
    lines = (shlex.join(create(workload)), f"{shlex.join(generate(workload))} > {workload.name}.service")
    return {f"{workload.name}.service is made by": "".join(f"{line}\n" for line in lines)}


def refusal(contract: Contract) -> str:
    """Return that podman generates no other `Type=` than `notify`."""
    return "podman-generate-systemd(1) writes no Type=exec" if contract.image.ready is Ready.EXEC else ""


ACTIVATION = UnitActivation("generate", service_files, preview, refusal, needs=("podman_generate",))
