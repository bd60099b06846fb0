"""Small distributions for the tests of userlands: tars of empty programs, with owners, modes and links."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

#: What a session needs, as empty programs: enough for a look at the files.
PROGRAMS = (
    *("systemctl", "systemd-socket-activate", "dbus-daemon", "sh", "ip", "podman", "conmon", "crun"),
    *("socat", "curl", "newuidmap", "newgidmap"),
)


def entry(name: str, mode: int = 0o755, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """Return one file of a tar."""
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return one symbolic link of a tar."""
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def distribution(*more: tuple[tarfile.TarInfo, bytes], without: str = "") -> list[tuple[tarfile.TarInfo, bytes]]:
    """Return the files of a distribution that has the names of all that a session needs."""
    return [
        entry("./", 0o700, type=tarfile.DIRTYPE),
        link("./bin", "usr/bin"),
        *(entry(f"./usr/bin/{name}", 0o4755 if "map" in name else 0o755) for name in PROGRAMS if name != without),
        entry("./usr/lib/systemd/systemd"),
        entry("./usr/lib/systemd/user/dbus.socket", 0o644),
        entry("./usr/lib/os-release", 0o644, b'NAME=x\nPRETTY_NAME="A Small One 1"\n'),
        link("./etc/os-release", "/usr/lib/os-release"),
        *more,
    ]


def packed(file: Path, entries: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    """Write a tar."""
    with tarfile.open(file, mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return file
