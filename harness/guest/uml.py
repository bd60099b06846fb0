"""User-mode Linux: the kernel as an ordinary program, with the machine's files by hostfs.

See Documentation/virt/uml/user_mode_linux_howto_v2.rst of the kernel. Debian's package brings kernel and modules.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.command import SYSTEM_PATH
from harness.guest.engine import Boot, EngineName, Launch
from harness.machine import Machine
from harness.session.account import Account

#: Where Debian's package puts the modules, in a folder named by the release.
MODULES_FOLDER = Path("/usr/lib/uml/modules")

INIT = Path(__file__).with_name("init.py")

#: Longest answer of `linux.uml --version`, in seconds.
_VERSION_LIMIT_S = 5.0

#: Size of a machine's disk, and longest making of it, in seconds; it takes 0.05 s.
_DISK_SIZE, _DISK_LIMIT_S = "8G", 30.0

_REMEDY = "install the package 'user-mode-linux', where the distribution has it"


@dataclass(frozen=True, slots=True)
class Uml:
    """The engine `uml`."""

    machine: Machine
    name: EngineName = EngineName.UML
    #: Measured: a cold start takes 1 to 2 s where the machine takes 0.15 s; contracts allow for a slow machine already.
    time_scale: float = 4.0
    boot_limit_s: float = 60.0

    def problem(self) -> str:
        """Return why it can't be used here, or ""."""
        if self._program() is None:
            return f"there is no program 'linux.uml' ({_REMEDY})"
        release = self.kernel()
        if not release:
            return "'linux.uml' does not tell its version"
        if self.machine.first(f"{MODULES_FOLDER}/{release}/modules.dep") is None:
            return f"there are no modules in '{MODULES_FOLDER}/{release}'"
        if self.machine.program("mke2fs") is None:
            return "there is no program 'mke2fs' (install the package 'e2fsprogs')"
        return ""

    def kernel(self) -> str:
        """Return the release of its kernel."""
        program = self._program()
        if program is None:
            return ""
        return self.machine.run([program, "--version"], timeout_s=_VERSION_LIMIT_S, check=False).text.strip()

    def launch(self, boot: Boot) -> Launch:
        """Return the kernel's command line; the init is a script, since a path in that line can't have a space."""
        init = boot.folder / "init"
        command = (os.path.realpath(sys.executable), "-I", "-S", "-B", os.fspath(INIT), os.fspath(boot.folder))
        init.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n", encoding="utf-8")
        init.chmod(0o700)
        argv = (
            *(_as(boot.system.account) if boot.system else ()),
            self._program() or "linux.uml",
            f"mem={boot.memory_mb}M",
            f"ubd0={self._disk(boot.folder)}",
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"),
            *(f"uml_dir={boot.folder}/uml/", "umid=guest"),
            *("con0=null,fd:1", "con=null", "ssl=null"),
            # A panic ends the program at once; warnings and worse go to the console.
            *("panic=-1", "loglevel=5", f"init={init}"),
        )
        # The memory is a file without a name in TMPDIR, which the keeper has made for it where it could.
        env = {"PATH": SYSTEM_PATH, "HOME": os.fspath(boot.folder), "TMPDIR": "/dev/shm"}  # noqa: S108
        modules = os.fspath(MODULES_FOLDER / self.kernel())
        return Launch(argv, env, modules=modules, pinned=True, disk="/dev/ubda")

    def _disk(self, folder: Path) -> Path:
        """Make the disk, a file that takes as much room as is written to it; return its path."""
        disk = folder / "disk"
        # What would survive a crash is of no use here.
        command = [
            self.machine.program("mke2fs") or "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-E",
            "nodiscard",
            os.fspath(disk),
            _DISK_SIZE,
        ]
        self.machine.run(command, timeout_s=_DISK_LIMIT_S)
        return disk

    def _program(self) -> str | None:
        return self.machine.program("linux.uml")


def _as(account: Account) -> tuple[str, ...]:
    """Return the command prefix for a kernel whose user `account` can write to what it makes in a shared folder.

    By hostfs a new file belongs to who runs the kernel. It keeps of root's capabilities only that of reading all files;
    the bit keeps that for access(2), too, by which hostfs asks first.
    """
    if os.geteuid() == account.uid:
        return ()
    ids = (f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups")
    kept = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return ("/usr/bin/setpriv", *ids, "--securebits=+no_setuid_fixup", *kept, "--")
