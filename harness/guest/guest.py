"""The life of one guest: its exchange folder, its supervisor, and a watch that ends within a bound in any case."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness import standalone
from harness.core.deadline import Deadline
from harness.core.errors import CapabilityMissing, GuestError
from harness.core.locking import is_locked
from harness.core.process import base_environment
from harness.guest.engines.base import BOOT_FILE, FOLDER_VARIABLE, LOCK_FILE, MODULES, Boot, Engine
from harness.session import factory
from harness.standalone import cgroups

#: Longest wait for the supervisor to start, in seconds; it takes 0.05 s.
_SUPERVISOR_LIMIT_S = 20.0

#: Longest end of a guest with all its processes and its folder, in seconds; it takes 0.1 s.
_CLOSE_LIMIT_S = 30.0

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
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Only root's supervisor needs a cgroup: an ordinary user's guest ends with its processes' parents.
        scope = factory.scope() if factory.is_isolated() else ()
        with theirs:
            self._supervisor = subprocess.Popen(
                [*scope, *standalone.command("guest_supervisor")],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=base_environment(),
            )
        try:
            self._send({"folder": os.fspath(self.folder), "cgroup_parent": _cgroup_parent()})
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        while self._ended is None and select.select([self._channel], [], [], 0)[0]:
            message = self._receive()
            if "ended" in message:
                self._ended = int(message["ended"])
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
        self._channel.close()
        assert self._supervisor.stderr is not None
        self._supervisor.stderr.close()
        try:
            self._supervisor.wait(_CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
            raise GuestError(
                f"A guest did not end within {_CLOSE_LIMIT_S:g} s.",
                hint="'python -m harness sweep' removes what is left of it.",
            ) from None

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # then `_receive` says why
            self._channel.send(json.dumps(message).encode())

    def _await_ready(self) -> None:
        self._channel.settimeout(_SUPERVISOR_LIMIT_S)
        try:
            self._receive()
        except TimeoutError:
            raise GuestError(f"The supervisor of a guest did not start within {_SUPERVISOR_LIMIT_S:g} s.") from None

    def _receive(self) -> dict[str, Any]:
        """Return the supervisor's next message; raise GuestError when it has failed."""
        try:
            data = self._channel.recv(65536)
        except ConnectionResetError:
            data = b""
        message: dict[str, Any] = json.loads(data) if data else {"error": "it ended"}
        if "error" in message:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(0.5)
            assert self._supervisor.stderr is not None
            os.set_blocking(self._supervisor.stderr.fileno(), False)
            said = (self._supervisor.stderr.read() or b"").decode(errors="replace")
            raise GuestError(f"The supervisor of a guest failed: {message['error']}.", evidence={"supervisor": said})
        return message


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
