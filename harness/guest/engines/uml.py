"""User-mode Linux: the kernel as an ordinary program, with the machine's files by hostfs.

See Documentation/virt/uml/user_mode_linux_howto_v2.rst of the kernel.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness import standalone
from harness.core.account import Account
from harness.core.errors import CapabilityMissing
from harness.core.machine import Machine
from harness.core.process import SYSTEM_PATH
from harness.guest.engines.base import Boot, EngineName, Launch
from harness.guest.engines.uml_kernel import UmlKernel, kernels

#: Size of a machine's disk, and longest making of it, in seconds; it takes 0.05 s.
_DISK_SIZE, _DISK_LIMIT_S = "8G", 30.0


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
        if problem := self._found()[1]:
            return problem
        if self.machine.program("mke2fs") is None:
            return "there is no program 'mke2fs' (install the package 'e2fsprogs')"
        return ""

    def kernel(self) -> str:
        """Return the release of its kernel."""
        kernel, _problem = self._found()
        return kernel.release if kernel else ""

    def _found(self) -> tuple[UmlKernel | None, str]:
        """Return the first kernel that can be used and "", or None and what is wrong with each."""
        problems = []
        for kernel in kernels(self.machine):
            problem = kernel.problem(self.machine)
            if not problem:
                return kernel, ""
            problems.append(problem)
        return None, "; ".join(problems) or "there is no program 'linux.uml' (install the package 'user-mode-linux')"

    def launch(self, boot: Boot) -> Launch:
        """Return the kernel's command line; the init is a script, since a path in that line can't have a space."""
        kernel, problem = self._found()
        if kernel is None:
            raise CapabilityMissing(self.name, problem, "python3 -m harness setup")
        init = boot.folder / "init"
        command = standalone.command("guest_init", os.fspath(boot.folder))
        init.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n", encoding="utf-8")
        init.chmod(0o700)
        argv = (
            *(_as(boot.system.account) if boot.system else ()),
            *kernel.program,
            f"mem={boot.memory_mb}M",
            f"ubd0={self._disk(boot.folder)}",
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"),
            *(f"uml_dir={boot.folder}/uml/", "umid=guest"),
            *("con0=null,fd:1", "con=null", "ssl=null"),
            # A panic ends the program at once; warnings and worse go to the console.
            *("panic=-1", "loglevel=5", f"init={init}"),
        )
        # The memory is a file without a name in TMPDIR, which the supervisor has made for it where it could.
        env = {"PATH": SYSTEM_PATH, "HOME": os.fspath(boot.folder), "TMPDIR": "/dev/shm"}  # noqa: S108
        return Launch(argv, env, modules=os.fspath(kernel.modules), pinned=True, disk="/dev/ubda")

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
