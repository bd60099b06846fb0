"""What lies beside unit files for their containers: files of the user's home folder, and secrets."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

#: Folders beside the units: what is below the user's home folder, and a file for the text of each secret.
HOME, SECRETS = "home", "secrets"

#: The most that all of the files, and that one secret may have, in bytes; podman itself takes 512,000 for a secret.
_LARGEST, _LARGEST_SECRET = 16 * 2**20, 2**16

#: Where a unit names a secret, a path below the home folder, and one beside a Quadlet, see podman-systemd.unit(5).
_SECRET = re.compile(r"(?:^\s*Secret\s*=\s*|--secret[= ])([A-Za-z0-9_.-]+)", re.MULTILINE)
_AT_HOME = re.compile(
    r"(?:^\s*(?:Volume|EnvironmentFile)\s*=\s*|^\s*Mount\s*=.*?(?:source|src)=|\s(?:-v|--volume|--env-file)[= ])"
    r"%h/([^:,\s]+)",
    re.MULTILINE,
)
_AT_UNIT = re.compile(r"^\s*Volume\s*=\s*\./([^:,\s/]+)", re.MULTILINE)

#: Who makes a path of the home folder before a container wants it: a line of the unit, or systemd, which listens there.
_MADE = re.compile(r"(?:^\s*Listen\w+\s*=\s*|\bmkdir\b.*?\s)%h/([^\s;'\"]+)", re.MULTILINE)


def mistakes(path: Path, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each thing that a unit wants and that is not beside it, with its file, and each that can't be brought."""
    made = [found.rstrip("/") for text in files.values() for found in _MADE.findall(text)]
    for name, text in files.items():
        for secret in dict.fromkeys(_SECRET.findall(text)):
            if not (path / SECRETS / secret).is_file():
                yield name, f"it wants the secret '{secret}', whose text belongs into '{SECRETS}/{secret}' beside it"
        for wanted in dict.fromkeys(found.rstrip("/") for found in _AT_HOME.findall(text)):
            if ".." in wanted.split("/"):
                yield name, f"'%h/{wanted}' leads out of the home folder"
                continue
            is_made = any(one == wanted or one.startswith(f"{wanted}/") for one in made)
            if not is_made and not (path / HOME / wanted).exists():
                yield name, f"it wants '%h/{wanted}', which belongs into '{HOME}/{wanted}' beside it"
        for wanted in dict.fromkeys(_AT_UNIT.findall(text)):
            if not (path / wanted).exists():
                yield name, f"it wants './{wanted}', and there is none beside it"
    total = 0
    for file in (one for place in _places(path, files) for one in _all(place)):
        shown = str(file.relative_to(path))
        if not file.resolve().is_relative_to(path.resolve()):
            yield shown, "it is a link that leads out of the folder"
        elif not file.is_file() and not file.is_dir():
            yield shown, "it is neither a file nor a folder"
        else:
            total += file.lstat().st_size
    if total > _LARGEST:
        yield HOME, f"the files for containers have {total} bytes, and may have {_LARGEST}"
    for secret in _all(path / SECRETS):
        if secret.is_symlink() or not secret.is_file() or secret.stat().st_size > _LARGEST_SECRET:
            yield f"{SECRETS}/{secret.name}", f"a secret is a file of {_LARGEST_SECRET} bytes at most"
        elif not secret.read_bytes().strip():
            yield f"{SECRETS}/{secret.name}", "it is empty, and podman takes no empty secret"


def secrets(path: Path) -> dict[str, bytes]:
    """Return the name of each secret -> its text."""
    return {file.name: file.read_bytes() for file in _all(path / SECRETS)}


def at_home(path: Path) -> bytes:
    """Return a tar archive of what is below the home folder."""
    return _archive([*(path / HOME).glob("*")])


def at_unit(path: Path, files: Mapping[str, str]) -> bytes:
    """Return a tar archive of what Quadlet files name by a path beside them."""
    return _archive([place for place in _places(path, files) if place != path / HOME])


def names(archive: bytes) -> list[str]:
    """Return the names in an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


def _places(path: Path, files: Mapping[str, str]) -> list[Path]:
    found = dict.fromkeys(name for text in files.values() for name in _AT_UNIT.findall(text))
    return [path / HOME, *(path / name for name in found)]


def _all(place: Path) -> list[Path]:
    """Return a file, or what is in a folder, however deep."""
    return sorted(place.rglob("*")) if place.is_dir() else [place] if place.is_file() else []


def _archive(places: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for place in sorted(places):
            archive.add(place, place.name, filter=_for_everybody)
    return buffer.getvalue()


def _for_everybody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Let every user of a container read it, whatever the umask of a clone was."""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
