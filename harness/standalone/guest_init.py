"""The first process of a guest: makes the usual file systems, loads modules, runs one command, switches off.

Run by the guest's kernel as `python -I -S standalone guest_init FOLDER`; FOLDER is the exchange folder. Where the guest
is to be a whole machine of another userland, it does not run the command itself, but becomes that userland's systemd,
which does.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from pathlib import Path

import guest_command  # type: ignore[import-not-found,unused-ignore]
import switch_root  # type: ignore[import-not-found,unused-ignore]
import syscalls  # type: ignore[import-not-found,unused-ignore]

#: As in `harness.guest.engines.base`, which needs more than the standard library's start here.
EXCHANGE_MOUNT = "/run/harness-exchange"

#: LINUX_REBOOT_CMD_POWER_OFF of reboot(2).
_POWER_OFF = 0x4321FEDC

#: MODULE_INIT_COMPRESSED_FILE of finit_module(2).
_COMPRESSED = 4

#: The number of finit_module(2) by machine.
_FINIT_MODULE = {"x86_64": 313, "i686": 350, "aarch64": 273}

#: Target, type, options of every file system that a system has when it has booted.
_MOUNTS = (
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/dev", "devtmpfs", "mode=755"),
    ("/dev/shm", "tmpfs", "mode=1777"),
    ("/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"),
    ("/run", "tmpfs", "mode=755"),
    ("/sys/fs/cgroup", "cgroup2", ""),
)


def make_file_systems() -> None:
    """Mount what a system has and is not there yet: some kernels mount /dev by themselves, virtme's init nearly all."""
    for target, kind, options in _MOUNTS:
        if (target, kind) not in mounted():
            os.makedirs(target, exist_ok=True)
            syscalls.mount(kind, target, kind, 0, options)
    os.makedirs("/run/tmp", exist_ok=True)
    os.chmod("/run/tmp", 0o1777)


def mounted() -> set[tuple[str, str]]:
    """Return target and type of what is mounted; nothing, while /proc is not."""
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except FileNotFoundError:
        return set()
    return {(row[1], row[2]) for row in rows}


def share(folder: str) -> None:
    """Make the exchange folder writable; the root is the machine's and read-only."""
    if ("/", "hostfs") in mounted():
        syscalls.mount("none", folder, "hostfs", 0, folder)
    elif os.path.ismount(EXCHANGE_MOUNT):
        syscalls.bind(EXCHANGE_MOUNT, folder, read_only=False)


def load_modules(folder: str, names: list[str]) -> None:
    """Load modules with all that they need, as modprobe(8) does, which is not on every machine."""
    needs: dict[str, list[str]] = {}
    for line in Path(folder, "modules.dep").read_text(encoding="utf-8").splitlines():
        file, _colon, others = line.partition(":")
        needs[os.path.basename(file).partition(".")[0].replace("-", "_")] = [file, *others.split()]
    libc = ctypes.CDLL(None, use_errno=True)
    loaded = set()
    for file in (file for name in names for file in reversed(needs.get(name, []))):
        if file in loaded:
            continue
        loaded.add(file)
        descriptor = os.open(f"{folder}/{file}", os.O_RDONLY)
        flags = 0 if file.endswith(".ko") else _COMPRESSED
        if libc.syscall(_FINIT_MODULE[os.uname().machine], descriptor, b"", flags) != 0:
            print(f"init: the module '{file}' was not loaded: {os.strerror(ctypes.get_errno())}")
        os.close(descriptor)


def mount_disk(device: str) -> None:
    """Mount what is made for this guest, and tell the harness inside of it.

    Before Linux 6.6, tmpfs takes no user attributes, without which Podman 5 refuses to keep containers there.
    """
    os.makedirs(switch_root.DISK)
    syscalls.mount(device, switch_root.DISK, "ext4", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    os.environ["HARNESS_SESSION_DISK"] = switch_root.DISK


def main(folder: str) -> None:
    """Do it all, say in the exchange folder how it ended, and switch the guest off."""
    try:
        _make_and_run(folder)
    except BaseException:  # the console is the only place left
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpid() == 1:
        os.sync()
        ctypes.CDLL(None).reboot(_POWER_OFF)


def _make_and_run(folder: str) -> None:
    make_file_systems()
    share(folder)
    task = guest_command.read(folder)
    if task["modules_folder"]:
        load_modules(task["modules_folder"], task["modules"])
    syscalls.bring_up_loopback()
    if task["disk"]:
        mount_disk(task["disk"])
    if task["system"]:
        switch_root.to_systemd(task["system"], folder)
    guest_command.main(folder)
