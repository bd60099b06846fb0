"""What is in an unpacked distribution: whether a session finds all that it needs, and what it calls itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.core.process import SYSTEM_PATH
from harness.core.userland import Userland
from harness.session.spec import MANAGER_PATHS

#: What is needed -> the programs, or files by their absolute path, of which one is enough.
_NEEDED = {
    "systemd": tuple(os.fspath(path) for path in MANAGER_PATHS),
    "D-Bus": ("dbus-daemon", "dbus-broker-launch"),
    "D-Bus for users": ("/usr/lib/systemd/user/dbus.socket", "/lib/systemd/user/dbus.socket"),
    "an OCI runtime": ("crun", "runc"),
    "conmon": ("conmon", "/usr/libexec/podman/conmon", "/usr/lib/podman/conmon"),
    **{name: (name,) for name in ("systemctl", "systemd-socket-activate", "sh", "ip", "podman", "socat", "curl")},
}

#: Programs that have to have a right which the account that calls them lacks.
_PRIVILEGED = ("newuidmap", "newgidmap")

#: Where a file's capabilities are, see capabilities(7).
_CAPABILITIES = "security.capability"


def system(userland: Userland) -> str:
    """Return PRETTY_NAME of os-release(5), "" where there is none."""
    for file in (userland.file("/etc/os-release"), userland.file("/usr/lib/os-release")):
        if file.is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip("\"'")
    return ""


def lacking(userland: Userland) -> tuple[str, ...]:
    """Return all that a session needs and the userland lacks."""
    missing = []
    for what, places in _NEEDED.items():
        if not any(_place(userland, name) for name in places):
            missing.append(what if places == (what,) else f"{what} ({' or '.join(places)})")
    for name in _PRIVILEGED:
        file = _place(userland, name)
        if not file:
            missing.append(name)
        elif not file.stat().st_mode & stat.S_ISUID and _CAPABILITIES not in os.listxattr(file):
            missing.append(f"the set-user-ID bit or the file capabilities of {name}")
    return tuple(missing)


def _place(userland: Userland, name: str) -> Path | None:
    """Return the program `name`, or the file of an absolute path, as a session finds it."""
    places = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in SYSTEM_PATH.split(":")]
    return next((file for file in map(userland.file, places) if file.is_file()), None)
