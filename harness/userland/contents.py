"""What is in an unpacked distribution: whether a session finds all that it needs, and what it calls itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from harness.command import SYSTEM_PATH
from harness.session.spec import MANAGER_PATHS

#: Links that are followed before one counts as a loop, as in path_resolution(7).
_MOST_LINKS = 40

#: What is missing -> the programs, or files by their absolute path, of which one is enough.
_NEEDED = {
    "systemd": tuple(os.fspath(path) for path in MANAGER_PATHS),
    "D-Bus": ("dbus-daemon", "dbus-broker-launch"),
    "D-Bus for users": ("/usr/lib/systemd/user/dbus.socket", "/lib/systemd/user/dbus.socket"),
    "an OCI runtime": ("crun", "runc"),
    "conmon": ("conmon", "/usr/libexec/podman/conmon", "/usr/lib/podman/conmon"),
    "a user network": ("pasta", "slirp4netns"),
    **{name: (name,) for name in ("systemctl", "systemd-socket-activate", "sh", "ip", "podman", "socat", "curl")},
}

#: Programs that have to get a right which the account that calls them lacks.
_PRIVILEGED = ("newuidmap", "newgidmap")

#: Where a file's capabilities are, see capabilities(7).
_CAPABILITY = "security.capability"


def system(root: Path) -> str:
    """Return PRETTY_NAME of os-release(5), "" where there is none."""
    for name in ("/etc/os-release", "/usr/lib/os-release"):
        file = inside(root, name)
        if file and file.is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip("\"'")
    return ""


def lacking(root: Path) -> tuple[str, ...]:
    """Return what a session needs and `root` lacks, each with the places that were looked at."""
    found = [
        f"{what}: none of {', '.join(places)}" if places != (what,) else what
        for what, places in _NEEDED.items()
        if not any(_place(root, name) for name in places)
    ]
    for name in _PRIVILEGED:
        file = _place(root, name)
        if not file:
            found.append(name)
        elif not file.stat().st_mode & stat.S_ISUID and _CAPABILITY not in os.listxattr(file):
            found.append(f"{name} with its set-user-ID bit or its file capabilities")
    return tuple(found)


def _place(root: Path, name: str) -> Path | None:
    """Return the program `name`, or the file of an absolute path, as a session with this root finds it."""
    places = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in SYSTEM_PATH.split(":")]
    return next((file for place in places if (file := inside(root, place)) and file.is_file()), None)


def inside(root: Path, path: str) -> Path | None:
    """Return where an absolute path leads for a process whose root folder is `root`; None where to nothing.

    A link is followed below `root`, as openat2(2) does with RESOLVE_IN_ROOT.
    """
    left = [part for part in reversed(PurePosixPath(path).parts) if part != "/"]
    here, links = PurePosixPath("/"), 0
    while left:
        part = left.pop()
        if part == "..":
            here = here.parent
            continue
        step = root / (here / part).relative_to("/")
        if step.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                return None
            target = step.readlink()
            if target.is_absolute():
                here = PurePosixPath("/")
            left.extend(part for part in reversed(target.parts) if part != "/")
        elif not step.exists():
            return None
        else:
            here /= part
    return root / here.relative_to("/")
