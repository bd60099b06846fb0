"""Pristine Debian roots, and what one needs of this machine to reach its mirror and its package index."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.cache import default_folder
from harness.core.locking import held
from harness.core.process import network_environment
from harness.core.progress import Progress
from harness.userlands import unpack
from harness.userlands.recipes import Recipe, Tool

RELEASES = ("bookworm", "trixie", "forky")

#: What a person has installed before the first command: Python, and what makes virtual environments.
PYTHON = ("python3", "python3-venv")

#: Where a root keeps the certificates and other single files that this machine's settings name.
_FILES = "/etc/machine"


def root_of(release: str, progress: Progress) -> Path:
    """Return the folder of a pristine root, made unless the cache has it; it must only be read."""
    recipe = Recipe(release, Tool.MMDEBSTRAP, PYTHON)
    folder = default_folder() / "pristine"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = folder / f"{release}-{recipe.source[:12]}"
    with held(folder / "build.lock", "another run that makes roots", release, unpack.BUILD_LIMIT_S, progress):
        for draft in folder.glob("*.new"):
            shutil.rmtree(draft)
        if not place.exists():
            draft = place.with_name(f"{place.name}.new")
            draft.mkdir(mode=0o755)
            unpack.install(recipe, draft, progress)
            draft.rename(place)
    return place


@dataclass(frozen=True, slots=True)
class Carried:
    """Settings of this machine that a pristine root takes over."""

    #: Absolute path in the root -> text.
    files: Mapping[str, str]
    #: Absolute path in the root -> file of this machine.
    copies: Mapping[str, str]
    #: Folders of this machine that the root sees, read-only, at the same path.
    folders: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(slots=True)
class Paths:
    """The files and folders that settings name."""

    copies: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def moved(self, value: str) -> str:
        """Return a setting as it has to be in the root, whose packages own its files of the same name."""
        return "\n".join(self._word(word) for word in value.split())

    def _word(self, word: str) -> str:
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.is_file():
            moved = f"{_FILES}/{path.name}"
            self.copies[moved] = os.fspath(path)
            return moved
        if path.is_absolute() and path.is_dir():
            # The pages of an index link to files beside it.
            self.folders.add(os.fspath(path.parent if word.startswith("file:") else path))
        return word


def carried() -> Carried:
    """Return what a root takes over: name servers, pip's settings, proxies and certificates."""
    paths = Paths()
    files = {name: Path(name).read_text(encoding="utf-8") for name in ("/etc/resolv.conf", "/etc/hosts")}
    files["/etc/pip.conf"] = "".join(
        f"[{section}]\n"
        + "".join(f"{key} = {paths.moved(value).replace(chr(10), chr(10) + '  ')}\n" for key, value in rows.items())
        for section, rows in _pip_settings().items()
    )
    network = {name: value for name, value in network_environment().items() if name != "SSL_CERT_DIR"}
    environment = {name: paths.moved(value) for name, value in network.items()}
    return Carried(files, paths.copies, tuple(sorted(paths.folders)), environment)


def _pip_settings() -> dict[str, dict[str, str]]:
    """Return pip's settings by section; those of the environment count as global, except the lock file of tox."""
    environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=environment, capture_output=True, text=True, check=True
    )
    sections: dict[str, dict[str, str]] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        sections.setdefault("global" if section == ":env:" else section, {})[key] = str(ast.literal_eval(value))
    return sections
