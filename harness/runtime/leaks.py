"""What the harness may leave on a machine, how to find it, and how to remove it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness import standalone
from harness.core.cache import default_folder
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import HarnessError
from harness.guest import guest
from harness.session.factory import cgroup_root
from harness.standalone import cgroups

#: Longest end of a session that was kept, in seconds.
_END_LIMIT_S = 30.0

#: The processes that own a session or a guest.
_SUPERVISORS = ("session_supervisor", "guest_supervisor")


class Kind(StrEnum):
    """What a remnant is."""

    PROCESS = "process"
    CGROUP = "cgroup"
    MOUNT = "mount"
    FOLDER = "folder"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Remnant:
    """One thing of the harness's on this machine."""

    kind: Kind
    #: The process's command line, the folder's path ...
    what: str
    #: Name of the session that it belongs to; empty where it belongs to none.
    session: str = ""
    #: Whether a supervisor lives that will remove it.
    alive: bool = False
    #: Whether the session was kept on purpose.
    kept: bool = False


def find() -> tuple[Remnant, ...]:
    """Return everything of the harness's on this machine, that of living sessions too."""
    return (*_cgroups(), *_supervisors(), *_mounts(), *_folders(), *_containers())


def leaks(*, kept: bool = False) -> tuple[Remnant, ...]:
    """Return what nobody will remove: all but the living sessions' own, and with `kept` those that were kept, too."""
    living = {remnant.session for remnant in find() if remnant.alive}
    found = find()
    held = {remnant.session for remnant in found if remnant.kept} if kept else set()
    return tuple(
        remnant
        for remnant in found
        if remnant.session in held or (not remnant.alive and remnant.session not in living - {""})
    )


def sweep(*, kept: bool = False) -> tuple[Remnant, ...]:
    """Remove what dead owners left and, with `kept`, end the sessions that were kept; return what was found."""
    removed = []
    for folder in _session_cgroups():
        remnant = remnant_of(folder)
        if not remnant.alive:
            cgroups.remove(os.fspath(folder))
            removed.append(remnant)
        elif kept and remnant.kept:
            end(folder)
            removed.append(remnant)
    for folder, owned in guest.folders():
        if not owned:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(Remnant(Kind.FOLDER, os.fspath(folder)))
    return tuple(removed)


def end(folder: Path) -> None:
    """Kill the first process of a kept session; its supervisor does the rest."""
    for pid in cgroups.processes(f"{folder}/init"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended = Deadline.after(_END_LIMIT_S)
    wait_until(lambda: cgroups.owner_of(folder.name), lambda pid: not pid, ended, f"the session '{folder.name}' to end")


def _session_cgroups() -> Iterator[Path]:
    try:
        roots = [os.fspath(cgroup_root()), *cgroups.hierarchies()]
    except HarnessError:
        return
    for path, folders, _files in (found for root in roots for found in os.walk(root)):
        for name in list(folders):
            if cgroups.owner_of(name) is not None:
                folders.remove(name)  # what is below belongs to it
                yield Path(path, name)


def remnant_of(folder: Path) -> Remnant:
    """Return what is to be said of a session's cgroup, by its name alone."""
    kept = (folder / cgroups.KEPT).is_dir()
    return Remnant(Kind.CGROUP, os.fspath(folder), folder.name, bool(cgroups.owner_of(folder.name)), kept)


def _cgroups() -> Iterator[Remnant]:
    for folder in _session_cgroups():
        remnant = remnant_of(folder)
        yield remnant
        for pid in cgroups.processes(os.fspath(folder)):
            if command := _command(pid):
                what = f"{pid} {command.replace(bytes(1), b' ').decode(errors='replace').strip()}"
                yield Remnant(Kind.PROCESS, what, remnant.session, remnant.alive, remnant.kept)


def _supervisors() -> Iterator[Remnant]:
    for folder in Path("/proc").glob("[0-9]*"):
        command = _command(int(folder.name))
        if standalone.script_of(command) in _SUPERVISORS:
            name = cgroups.name_of(int(folder.name))
            yield Remnant(Kind.PROCESS, f"{folder.name} supervisor", name, alive=True)


def _command(pid: int) -> bytes:
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return b""


def _mounts() -> Iterator[Remnant]:
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        target = line.split()[4]
        if target == "/run/harness" or target.startswith(("/run/harness/", f"{default_folder()}/")):
            yield Remnant(Kind.MOUNT, target)


def _folders() -> Iterator[Remnant]:
    """Yield the folders of ordinary users' sessions; a living one's is removed by its supervisor."""
    living = any(remnant.alive for remnant in _supervisors())
    for folder in Path("/run/user").glob("*/harness-*"):
        yield Remnant(Kind.FOLDER, os.fspath(folder), alive=living)
    for folder, owned in guest.folders():
        yield Remnant(Kind.FOLDER, os.fspath(folder), alive=owned)


def _containers() -> Iterator[Remnant]:
    """Yield the containers in the store, where a build that was killed leaves its working container."""
    file = default_folder() / "store" / "overlay-containers" / "containers.json"
    with contextlib.suppress(OSError, ValueError):
        for container in json.loads(file.read_text(encoding="utf-8")) or []:
            building = any(remnant.alive for remnant in _supervisors())
            yield Remnant(Kind.CONTAINER, str(container.get("names") or container["id"]), alive=building)
