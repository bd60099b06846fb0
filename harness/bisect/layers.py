"""The inner layers that a socket passes, each tried alone: the program without a container, and `podman run`.

There is no systemd in them: a parent of our own hands over the sockets, see `harness.bisect.fd_passing`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from harness.activation import Workload
from harness.bisect.fd_passing import pass_sockets
from harness.session.session import Session


class Layer(StrEnum):
    """Who can lose a socket, the innermost first."""

    PROGRAM = "the program in the container"
    CONTAINER = "podman, the OCI runtime or the options of the container"
    LAUNCHER = "systemd-socket-activate"
    UNIT = "the systemd unit"


#: Opens a layer with its sockets listening; what is yielded is the unit whose output is that of the program.
Open = Callable[[Session, Workload], contextlib.AbstractContextManager[str]]

#: `podman unshare` lets a container's root folder be mounted; all of them end by becoming the next, so that the process
#: which LISTEN_PID names is the image's own. The arguments are variables, and a chroot(1) to where it is called.
_MOUNTED = 'root=$(podman mount "$0") && exec unshare --mount /bin/sh -c "$1" "$root" "$@"'
_IN_ROOT = """\
cd "$0" && shift && {
    [ ! -d proc ] || mount --rbind /proc proc
    [ ! -d dev ] || mount --rbind /dev dev
} && exec env -i "LISTEN_PID=$$" "LISTEN_FDS=$LISTEN_FDS" "LISTEN_FDNAMES=$LISTEN_FDNAMES" "$@"
"""


#: Options of a container that a program does without; `--env` it is given.
_OF_NO_ACCOUNT = ("--network=", "--read-only", "--init", "--env=")


@dataclass(frozen=True, slots=True)
class _Config:
    """What an image says of its program."""

    environment: tuple[str, ...]
    user: str
    folder: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]


def inapplicable(session: Session, workload: Workload) -> str:
    """Return why the program can't be tried without a container, "" where it can."""
    if not session.own_network:
        return "an image's program is not run outside of a container with your own account's rights"
    if options := [option for option in workload.options if not option.startswith(_OF_NO_ACCOUNT)]:
        return f"the container has options that a program can't have: {' '.join(options)}"
    folder = _config(session, workload.image).folder
    return "" if folder in ("", "/") else f"the image's working folder is '{folder}', which chroot(1) can't enter"


@contextlib.contextmanager
def program(session: Session, workload: Workload) -> Iterator[str]:
    """Run the image's program in the image's root folder, as its user and with its environment, in no container."""
    config = _config(session, workload.image)
    name = f"{workload.name}-program"
    with _removed(session, name):
        create = ("podman", "create", "--replace", f"--name={name}", "--pull=never", "--network=none")
        session.run([*create, workload.image, *workload.command])
        as_user = [f"--userspec={config.user}"] if config.user else []
        change = (*config.environment, *_told(workload), "/usr/sbin/chroot", *as_user, ".")
        run = (*change, *config.entrypoint, *(workload.command or config.command))
        with pass_sockets(
            session,
            workload.listeners,
            ("podman", "unshare", "/bin/sh", "-c", _MOUNTED, name, _IN_ROOT, *run),
            f"{name}.service",
        ):
            yield f"{name}.service"


@contextlib.contextmanager
def container(session: Session, workload: Workload, network: str = "") -> Iterator[str]:
    """Run `podman run` as every activation does, by another network if one is named."""
    made = replace(workload, name=f"{workload.name}-container")
    if network:
        others = (option for option in made.options if not option.startswith("--network="))
        made = replace(made, options=(f"--network={network}", *others))
    with (
        _removed(session, made.name),
        pass_sockets(session, made.listeners, made.podman_run(), f"{made.name}.service"),
    ):
        yield f"{made.name}.service"


def variants(session: Session, workload: Workload) -> dict[str, Open]:
    """Return what may make the difference for a container -> the layer with just that changed."""
    config = _config(session, workload.image)

    def with_options(*options: str) -> Open:
        return lambda session, workload: container(session, replace(workload, options=(*workload.options, *options)))

    def without_entrypoint(session: Session, workload: Workload) -> contextlib.AbstractContextManager[str]:
        # podman-run(1): what stands behind an empty entrypoint is all that is run.
        command = workload.command or config.command
        return container(session, replace(workload, options=(*workload.options, "--entrypoint="), command=command))

    return {
        **({"without the image's ENTRYPOINT (--entrypoint=)": without_entrypoint} if config.entrypoint else {}),
        "with an init process (--init)": with_options("--init"),
        "as root (--user=root)": with_options("--user=root"),
        "in the session's network (--network=host)": partial(container, network="host"),
    }


def _told(workload: Workload) -> list[str]:
    """Return the variables that the container is given."""
    return [option.removeprefix("--env=") for option in workload.container if option.startswith("--env=")]


def _config(session: Session, image: str) -> _Config:
    (document,) = json.loads(session.run(["podman", "image", "inspect", image]).text)
    config = document.get("Config") or {}
    return _Config(
        tuple(config.get("Env") or ()),
        config.get("User") or "",
        config.get("WorkingDir") or "",
        tuple(config.get("Entrypoint") or ()),
        tuple(config.get("Cmd") or ()),
    )


@contextlib.contextmanager
def _removed(session: Session, name: str) -> Iterator[None]:
    """Remove the container at the end."""
    try:
        yield
    finally:
        session.run(["podman", "rm", "--force", "--ignore", "--time=0", name], check=False)
