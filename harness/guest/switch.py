"""Makes an unpacked distribution the root of a guest, and hands process 1 over to its systemd.

Only the standard library: the guest's init imports this.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, os.fspath(Path(__file__).resolve().parent.parent / "session"))
import supervisor  # type: ignore[import-not-found,unused-ignore]
import syscalls  # type: ignore[import-not-found,unused-ignore]

#: What udev(7) lets every user open, where there is no udev to do so.
_OPEN_DEVICES = ("/dev/fuse", "/dev/net/tun", "/dev/vsock")

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

System = dict[str, Any]


def to_systemd(system: System, folder: str) -> NoReturn:
    """Become the systemd of `system`, which sees `folder`, the exchange folder, where it is; never return."""
    binds = [(bind["target"], bind["read_only"], syscalls.clone_mount(bind["source"])) for bind in system["binds"]]
    exchange = syscalls.clone_mount(folder)
    supervisor.enter(system["root"])
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    for target, mode in (("/run", 755), ("/run/tmp", 1777), ("/tmp", 1777)):
        os.makedirs(target, exist_ok=True)
        syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"mode={mode}")
    spread(system)
    make_way(folder)
    syscalls.attach(exchange, folder, read_only=False)
    for target, read_only, source in binds:
        make_way(target)
        syscalls.attach(source, target, read_only=read_only)
    write_files(system)
    for device in _OPEN_DEVICES:
        with contextlib.suppress(FileNotFoundError):
            os.chmod(device, 0o666)
    sys.stdout.flush()
    os.execve(system["init"][0], system["init"], {"PATH": _PATH, "SYSTEMD_COLORS": "0"})


def spread(system: System) -> None:
    """Put the account's folders on the disk: tmpfs takes no user attributes before Linux 6.6, which Podman 5 asks for.

    That logind finds a mount at the runtime folder keeps it from making a tmpfs there.
    """
    disk = "/run/harness-guest/disk"
    os.makedirs(disk)
    syscalls.mount(system["disk"], disk, "ext4", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    for name in ("home", "runtime"):
        os.mkdir(f"{disk}/{name}", 0o700)
        os.chown(f"{disk}/{name}", system["uid"], system["gid"])
        make_way(system[name])
        syscalls.bind(f"{disk}/{name}", system[name], read_only=False)


def make_way(folder: str) -> None:
    """Make a folder that everybody can get to, wherever it is: that of root, say, is root's alone."""
    path = Path("/")
    for part in Path(folder).parts[1:]:
        path /= part
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        mode = path.stat().st_mode & 0o7777
        if mode & 0o111 != 0o111 and path != Path(folder):
            path.chmod(mode | 0o111)


def write_files(system: System) -> None:
    """Write what a booted machine has: the account, units."""
    for name, text in system["files"].items():
        file = Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
    for name, target in system["links"].items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).symlink_to(target)
