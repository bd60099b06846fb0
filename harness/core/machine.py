"""The machine, or a userland on it, that capability probes look at, and what they find."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core import account, process
from harness.core.account import Account
from harness.core.process import SYSTEM_PATH, Completed
from harness.core.userland import Userland

#: Runs a program in a folder's root without writing there; podman and crun read /proc and make folders in /run. The
#: mounts are seen by this program alone.
_ENTER = (
    *("unshare", "--mount", "--propagation=private", "--", "/bin/sh", "-c"),
    'mount --bind -o ro "$0" "$0" && mount --rbind /proc "$0/proc" && mount -t tmpfs tmpfs "$0/run" '
    '&& exec chroot "$0" "$@"',
)


def caller() -> Account:
    """Return the caller's account; its number for a name where passwd has none, as in many CI containers."""
    try:
        return account.current()
    except KeyError:
        uid = os.getuid()
        return Account(str(uid), uid, os.getgid(), "/", os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{uid}"))


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that probes look at: this one, unless a test says otherwise."""

    #: Folder below which the machine's files are.
    root: Path = Path("/")
    #: Who would run the suites.
    account: Account = field(default_factory=caller)
    #: Runs a program, as `harness.core.process.run` does.
    run: Callable[..., Completed] = process.run
    #: Factor for the time limits of probes; an emulated machine takes its time.
    patience: float = 1.0

    def file(self, path: str) -> Path:
        """Return where the machine's absolute `path` is."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str | None:
        """Return the text of a small file without white space around it, None where it can't be read."""
        try:
            return self.file(path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def program(self, *names: str) -> str | None:
        """Return the path of the first program there is; a name with a slash is looked for as that file only."""
        folders = os.pathsep.join(os.fspath(self.file(folder)) for folder in SYSTEM_PATH.split(os.pathsep))
        for name in names:
            found = shutil.which(self.file(name) if "/" in name else name, path=folders)
            if found:
                return os.fspath(found)
        return None

    def inside(self, path: str) -> str:
        """Return what a path below the root is called by the programs there."""
        return os.fspath(Path("/", Path(path).relative_to(self.root))) if Path(path).is_relative_to(self.root) else path

    def first(self, *paths: str) -> Path | None:
        """Return the first of the machine's files that exists."""
        return next((file for file in map(self.file, paths) if file.exists()), None)

    def within(self, userland: Userland) -> Machine:
        """Return the same machine with the programs of a userland, run in its root, which takes root."""
        if userland.is_host:
            return self

        def enter(argv: Sequence[str], **options: Any) -> Completed:
            return self.run([*_ENTER, os.fspath(userland.root), there.inside(argv[0]), *argv[1:]], **options)

        there = replace(self, root=userland.root, run=enter)
        return there

    def kernel(self) -> str:
        """Return the kernel's release."""
        return self.read("/proc/sys/kernel/osrelease") or platform.release()


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe found."""

    present: bool
    version: str
    detail: str
    #: The way out for this very finding, where it is another than the table's.
    hint: str = ""


Probe = Callable[[Machine], Found]
