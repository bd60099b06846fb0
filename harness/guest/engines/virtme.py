"""virtme-ng: any distribution's kernel, in QEMU, with the machine's files by 9p.

See https://github.com/arighi/virtme-ng.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import standalone
from harness.core.errors import CommandError
from harness.core.machine import Machine
from harness.core.process import SYSTEM_PATH, run
from harness.guest.engines.base import EXCHANGE_MOUNT, Boot, EngineName, Launch

#: Longest boot of a kernel to its panic for want of a root file system under KVM, in seconds; it takes 1 to 2 s.
KVM_LIMIT_S = 10.0

#: Where bzImage says where its version is, see Documentation/arch/x86/boot.rst.
_VERSION_POINTER = 0x20E

_QEMU = "qemu-system-x86_64"


@dataclass(frozen=True, slots=True)
class Virtme:
    """The engine `virtme`."""

    machine: Machine
    #: A release or the path of an image; empty for the newest kernel that is installed.
    wanted: str = ""
    name: EngineName = EngineName.VIRTME

    @property
    def time_scale(self) -> float:
        """How many times longer than on the machine itself a test may take; emulated, a cold start takes 3 to 7 s."""
        return 2.0 if self.kvm else 10.0

    @property
    def boot_limit_s(self) -> float:
        """Longest boot, in seconds; emulated, it takes 20 to 80 s."""
        return 60.0 if self.kvm else 240.0

    @property
    def kvm(self) -> bool:
        """Whether KVM boots a kernel here."""
        image = self._image()
        return image is not None and kvm_boots(os.fspath(image))

    def problem(self) -> str:
        """Return why it can't be used here, or ""."""
        if self._program() is None:
            return "there is no program 'virtme-run' (pip install virtme-ng)"
        if self.machine.program(_QEMU) is None:
            return f"there is no program '{_QEMU}' (python3 -m harness setup --virtme)"
        if self.machine.program("busybox") is None:
            return "there is no program 'busybox' (python3 -m harness setup --virtme)"
        if self._image() is None:
            return f"there is no kernel '{self.wanted or 'vmlinuz-*'}' (--harness-guest-kernel names one)"
        return ""

    def kernel(self) -> str:
        """Return the release of the kernel."""
        image = self._image()
        return release_of(image) if image else ""

    def launch(self, boot: Boot) -> Launch:
        """Return the command of virtme-run, below script(1), since it takes a terminal for its output."""
        init = standalone.command("guest_init", os.fspath(boot.folder))
        release, image = self.kernel(), os.fspath(self._image() or "")
        modules = self.machine.file(f"/lib/modules/{release}")
        # An installed kernel is called by its release, so that its modules are found.
        installed = image == os.fspath(self.machine.file(f"/boot/vmlinuz-{release}"))
        # fmt: off
        command = (
            self._program() or "virtme-run",
            "--kimg", release if installed else image, "--mods", "auto",
            "--memory", f"{boot.memory_mb}M", "--cpus", "1" if not self.kvm else "2",
            "--force-9p", "--disable-microvm", *(() if self.kvm else ("--disable-kvm",)),
            f"--rwdir={EXCHANGE_MOUNT}={boot.folder}", "--show-boot-console", "--script-sh", shlex.join(init),
        )
        # fmt: on
        env = {"PATH": SYSTEM_PATH, "HOME": os.fspath(boot.folder), "TMPDIR": "/dev/shm", "TERM": "dumb"}  # noqa: S108
        script = self.machine.program("script") or "script"
        there = os.fspath(modules) if modules.is_dir() else ""
        return Launch((script, "-qefc", shlex.join(command), "/dev/null"), env, modules=there)

    def _program(self) -> str | None:
        return self.machine.program("virtme-run", os.fspath(Path(sys.executable).with_name("virtme-run")))

    def _image(self) -> Path | None:
        if "/" in self.wanted:
            image = Path(self.wanted).absolute()
            return image if image.is_file() else None
        images = self.machine.file("/boot").glob(f"vmlinuz-{self.wanted or '*'}")
        return max(images, key=lambda image: _ordered(image.name), default=None)


def _ordered(name: str) -> list[int]:
    """Return the numbers in a file's name, by which releases are ordered."""
    return [int(number) for number in re.findall(r"\d+", name)]


def release_of(image: Path) -> str:
    """Return the release that an x86 kernel image says it is; its file's name where it says none."""
    with image.open("rb") as file:
        file.seek(_VERSION_POINTER)
        file.seek(int.from_bytes(file.read(2), "little") + 0x200)
        text = file.read(100).partition(b"\0")[0].decode("ascii", errors="replace")
    release = text.partition(" ")[0]
    return release if re.match(r"\d+\.\d+", release) else image.name.removeprefix("vmlinuz-")


@functools.cache
def kvm_boots(image: str) -> bool:
    """Boot a kernel under KVM up to its panic, for it has no root; some machines open /dev/kvm and then hang.

    It does not look at the device first: QEMU does, and ends at once where there is none.
    """
    # fmt: off
    command = [
        _QEMU, "-machine", "accel=kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
        "-serial", "stdio", "-kernel", image, "-append", "console=ttyS0 panic=-1 root=none",
    ]
    # fmt: on
    try:
        return b"Linux version" in run(command, timeout_s=KVM_LIMIT_S, check=False).stdout
    except CommandError:
        return False
