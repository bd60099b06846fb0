"""What every way to boot a guest kernel is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the doctor asks the engines, and must do without the harness's packages
    from harness.guest.system import System


class Mode(StrEnum):
    """When tests run in a guest."""

    #: Those that need what only a guest can do here.
    AUTO = "auto"
    NEVER = "never"
    #: All of them, on the guest's kernel.
    ALWAYS = "always"


class EngineName(StrEnum):
    """How a guest kernel is booted."""

    #: User-mode Linux: needs neither root nor KVM.
    UML = "uml"
    #: virtme-ng: any distribution's kernel, in QEMU.
    VIRTME = "virtme"


#: Kernel modules that sessions and transports use; one that a kernel lacks is built in, or missed by its own name.
MODULES = ("vsock_loopback", "overlay", "ipv6", "tun", "fuse")

#: The file in the exchange folder that tells the guest's init what to do.
BOOT_FILE = "boot.json"

#: The file in the exchange folder that its supervisor holds a lock on, see flock(2).
LOCK_FILE = "lock"

#: Where an engine that can't share the exchange folder at its own path mounts it; the guest's init then binds it there.
EXCHANGE_MOUNT = "/run/harness-exchange"

#: Environment variable that names the userland which the guest was booted with, to the run inside; unset for the
#: machine's own.
USERLAND_VARIABLE = "HARNESS_GUEST_USERLAND"

#: Environment variable that names the exchange folder to the run inside.
FOLDER_VARIABLE = "HARNESS_GUEST_FOLDER"


@dataclass(frozen=True, slots=True)
class Boot:
    """What a boot needs."""

    #: The exchange folder: the only one of the machine's that the guest may write to, at the same path inside.
    folder: Path
    #: The command to run inside; the guest powers off when it ends.
    command: tuple[str, ...]
    cwd: str
    #: The command's whole environment.
    env: Mapping[str, str]
    memory_mb: int = 2048
    #: The whole machine that the guest is to be; None for this machine's own files without its systemd.
    system: System | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """The program that is the guest, as its supervisor starts it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    #: Where the kernel modules are, as the guest sees them; empty where the engine loads them itself.
    modules: str = ""
    #: Whether it runs faster on one processor than when the machine's scheduler moves it about.
    pinned: bool = False
    #: The block device, as the guest sees it, with an empty ext4; "" where it has none.
    disk: str = ""


class Engine(Protocol):
    """A way to boot a guest kernel."""

    @property
    def name(self) -> EngineName:
        """Its name."""

    @property
    def time_scale(self) -> float:
        """How many times longer than on the machine itself a test may take."""

    @property
    def boot_limit_s(self) -> float:
        """Longest boot up to the start of the command, in seconds."""

    def problem(self) -> str:
        """Return why it can't be used here, or ""."""

    def kernel(self) -> str:
        """Return the release of the kernel that it would boot."""

    def launch(self, boot: Boot) -> Launch:
        """Return the program to start."""
