"""Makes an unpacked distribution the root of a guest, and hands process 1 over to its systemd.

Only the standard library: the guest's init imports this.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import session_supervisor  # type: ignore[import-not-found,unused-ignore]
import syscalls  # type: ignore[import-not-found,unused-ignore]

#: Where the guest's disk is mounted, until the userland's systemd takes over.
DISK = "/run/harness-guest/disk"

#: What udev(7) lets every user open, where there is no udev to do so.
_OPEN_DEVICES = ("/dev/fuse", "/dev/net/tun", "/dev/vsock")

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

System = dict[str, Any]


def to_systemd(system: System, folder: str) -> NoReturn:
    """Become the systemd of `system`, which sees `folder`, the exchange folder, where it is; never return."""
    binds = [
        *(
            {"source": on_disk(name, system), "target": system[name], "read_only": False}
            for name in ("home", "runtime")
        ),
        {"source": folder, "target": folder, "read_only": False},
        *system["binds"],
    ]
    sources = [syscalls.clone_mount(bind["source"]) for bind in binds]
    session_supervisor.enter(system["root"])
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    for target, mode in (("/run", 755), ("/run/tmp", 1777), ("/tmp", 1777)):
        os.makedirs(target, exist_ok=True)
        syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"mode={mode}")
    for bind, source in zip(binds, sources, strict=True):
        make_way(bind["target"])
        syscalls.attach(source, bind["target"], read_only=bind["read_only"])
    write_files(system)
    for device in _OPEN_DEVICES:
        with contextlib.suppress(FileNotFoundError):
            os.chmod(device, 0o666)
    sys.stdout.flush()
    os.execve(system["init"][0], system["init"], {"PATH": _PATH, "SYSTEMD_COLORS": "0"})


def on_disk(name: str, system: System) -> str:
    """Make a folder of the account's on the guest's disk.

    The runtime folder is one: that logind finds a mount there keeps it from making a tmpfs.
    """
    folder = f"{DISK}/{name}"
    os.mkdir(folder, 0o700)
    os.chown(folder, system["uid"], system["gid"])
    return folder


def make_way(folder: str) -> None:
    """Make a folder that everybody can get to, wherever it is: root's own, say, is nobody else's.

    Only in what is thrown away with the guest; folders of the machine stay as they are.
    """
    path = Path("/")
    for part in Path(folder).parts[1:]:
        path /= part
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        now = path.stat()
        if now.st_dev == os.stat("/").st_dev and path != Path(folder):
            path.chmod(now.st_mode & 0o7777 | 0o111)


def write_files(system: System) -> None:
    """Write what a booted machine has: the account, units."""
    for name, text in system["files"].items():
        file = Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
    for name, target in system["links"].items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).symlink_to(target)
