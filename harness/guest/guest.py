"""The life of one guest: its exchange folder, its supervisor, and a watch that ends within a bound in any case."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from harness.core.deadline import Deadline
from harness.core.errors import CapabilityMissing, GuestError
from harness.core.locking import is_locked
from harness.core.process import base_environment
from harness.guest.engines.base import BOOT_FILE, FOLDER_VARIABLE, LOCK_FILE, MODULES, Boot, Engine
from harness.session import factory
from harness.session.owned_process import OwnedProcess
from harness.standalone import cgroups

#: Longest wait for the supervisor to start, in seconds; it takes 0.05 s.
_SUPERVISOR_LIMIT_S = 20.0

#: Pause between two looks at the exchange folder, in seconds.
_LOOK_S = 0.05

#: What the kernel begins the message of its own end with, and the harness what it has seen before its run could begin.
_LAST_WORDS = ("Kernel panic", "init: ")

#: The name that `cgroups.name_of` gives the owner, and a random number.
_NAME = re.compile(r"^harness-guest-(\d+-\d+-\d+)-[0-9a-f]+$")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a watch gives up, all in seconds."""

    #: Up to the start of the command.
    boot_s: float
    #: Without any sign of progress after that.
    stall_s: float


def new_folder() -> Path:
    """Return the name of a new exchange folder; a kernel's command line can't have a path with a space in it."""
    parent = tempfile.gettempdir()
    if not re.fullmatch(r"[\w./+:@%-]+", parent, re.ASCII):
        parent = "/tmp"  # noqa: S108
    owner = cgroups.name_of(os.getpid()).removeprefix("harness-")
    return Path(parent, f"harness-guest-{owner}-{secrets.token_hex(4)}")


def folders() -> Iterator[tuple[Path, bool]]:
    """Yield every exchange folder on the machine but one's own, and whether its owner lives.

    Of owners in other process namespaces that share /tmp nothing can be said, so their folders are left out.
    """
    for parent in {tempfile.gettempdir(), "/tmp"}:  # noqa: S108
        for folder in Path(parent).glob("harness-guest-*"):
            match = _NAME.match(folder.name)
            owner = cgroups.owner_of(f"harness-{match[1]}") if match else None
            if owner is not None and os.fspath(folder) != os.environ.get(FOLDER_VARIABLE):
                yield folder, owner != 0 or is_locked(folder / LOCK_FILE)


class Guest:
    """An exchange folder that lives as long as this object, and the guest that uses it; close it, or use `with`.

    A supervisor process owns both, and takes both away when this process ends, however it ends.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or new_folder()
        self._engine: Engine | None = None
        self._ended: int | None = None
        # Only root's supervisor needs a cgroup: an ordinary user's guest ends with its processes' parents.
        scope = factory.scope() if factory.is_isolated() else ()
        self._supervisor = OwnedProcess("guest", GuestError, scope, base_environment())
        try:
            self._send({"folder": os.fspath(self.folder), "cgroup_parent": _cgroup_parent()})
            if self._heard(_SUPERVISOR_LIMIT_S) is None:
                raise GuestError(f"The supervisor of a guest did not start within {_SUPERVISOR_LIMIT_S:g} s.")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the guest ----------------------------------------------------------------------------------------------

    def boot(self, engine: Engine, boot: Boot) -> None:
        """Start the guest and return at once; `watch` tells how it goes."""
        launch = engine.launch(boot)
        task = {
            "command": boot.command,
            "cwd": boot.cwd,
            "env": dict(boot.env),
            "modules_folder": launch.modules,
            "modules": MODULES,
            "disk": launch.disk,
            "system": boot.system and boot.system.task(self.folder, launch.modules),
        }
        (self.folder / BOOT_FILE).write_text(json.dumps(task), encoding="utf-8")
        if boot.system:
            boot.system.give(self.folder)
        self._engine = engine
        self._send(
            {
                "argv": launch.argv,
                "env": dict(launch.env),
                "folder": os.fspath(self.folder),
                "memory_mb": boot.memory_mb,
                "pinned": launch.pinned,
            }
        )

    def watch(
        self, limits: Limits, progress: Callable[[], object] = lambda: None, stopped: Callable[[], bool] = lambda: False
    ) -> int | None:
        """Return the command's exit status once the guest has ended, or None as soon as `stopped()` holds.

        Raises GuestError when the guest does not boot, ends without its command's status, or when `progress()` stays
        the same for too long.
        """
        boot, stalled = Deadline.after(limits.boot_s), Deadline.after(limits.stall_s)
        booted, seen = False, progress()
        while not stopped():
            ended = self.ended()
            if (status := self.status()) is not None:
                return status
            if ended is not None:
                raise self._error(f"ended by itself, with status {ended}, before its command did")
            if not booted:
                booted = (self.folder / "booted").exists()
                stalled = Deadline.after(limits.stall_s)
                if boot.expired:
                    raise self._error(f"did not boot within {limits.boot_s:g} s")
            elif (now := progress()) != seen:
                seen, stalled = now, Deadline.after(limits.stall_s)
            elif stalled.expired:
                raise self._error(f"made no progress for {limits.stall_s:g} s")
            time.sleep(_LOOK_S)
        return None

    def ended(self) -> int | None:
        """Return the exit status of the guest's program, None while it runs."""
        while self._ended is None and (message := self._heard(0)):
            self._ended = message.get("ended")
        return self._ended

    def status(self) -> int | None:
        """Return the exit status of the command inside, None before its end."""
        try:
            return int((self.folder / "status").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def console(self) -> str:
        """Return what the guest's kernel and its init have said so far."""
        return _read(self.folder / "console")

    def output(self) -> str:
        """Return what the command inside has printed so far."""
        return _read(self.folder / "output")

    def _error(self, what: str) -> GuestError:
        assert self._engine is not None
        console = self.console()
        words = [line[line.index(word) :] for line in console.splitlines() for word in _LAST_WORDS if word in line]
        said = f": {words[-1]}" if words else ""
        return GuestError(
            f"The guest '{self._engine.name}' (kernel {self._engine.kernel()}) {what}{said}.",
            hint="Try --harness-guest-engine with another one; --harness-guest=never skips what needs a guest.",
            evidence={"output": self.output(), "console": console},
        )

    # -- the supervisor ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the guest and remove the exchange folder."""
        self._supervisor.end()

    def _send(self, message: dict[str, Any]) -> None:
        self._supervisor.send(json.dumps(message).encode())

    def _heard(self, limit_s: float) -> dict[str, Any] | None:
        """Return the supervisor's next message, None when none comes in time; raise GuestError when it has failed."""
        message = self._supervisor.receive(limit_s)
        if message is None or (message and "error" not in message):
            return message
        why = message.get("error", "it ended")
        raise GuestError(f"The supervisor of a guest failed: {why}.", evidence={"supervisor": self._supervisor.said()})


def _cgroup_parent() -> str:
    """Return below which cgroup a guest's is made; empty where it has none."""
    if not factory.is_isolated():
        return ""
    try:
        return os.fspath(factory.cgroup_root())
    except CapabilityMissing:
        return ""


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
