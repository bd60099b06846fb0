"""Virtual environments of other projects, with the packages that the harness needs and without the harness itself."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from tests.helpers.runs import REPOSITORY, RUN_LIMIT_S

PROJECT = "socket-activation-harness"

#: Logs, in every Python of the environment, each program that it starts and each address that it asks for.
AUDIT = """
import os, sys

EVENTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "socket.connect", "socket.getaddrinfo",
          "subprocess.Popen"}

def note(event, arguments):
    if event in EVENTS:
        with open(os.environ["AUDIT_LOG"], "a") as log:
            log.write(f"{event} {os.path.basename(str((*arguments, str())[0]))}\\n")

if "AUDIT_LOG" in os.environ:
    sys.addaudithook(note)
"""


def build_wheel(folder: Path) -> Path:
    """Build the harness's wheel, offline."""
    build = ("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", f"--wheel-dir={folder}")
    subprocess.run([sys.executable, "-m", "pip", *build, REPOSITORY], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True, slots=True)
class Ended:
    """A program of the environment that has ended."""

    status: int
    output: str
    #: What it and its children started and asked for, sorted.
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        """Make one with the requirements of the harness, as they are installed here."""
        venv.EnvBuilder(symlinks=True).create(folder)
        made = cls(folder)
        for distribution in _closure(PROJECT):
            for name in {
                file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")
            }:
                link = made.packages / name
                if not link.exists():
                    link.symlink_to(Path(str(distribution.locate_file(name))))
        (made.packages / "audit_hook.py").write_text(AUDIT, encoding="utf-8")
        (made.packages / "audit_hook.pth").write_text("import audit_hook\n", encoding="utf-8")
        return made

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def install(self, source: Path) -> None:
        """Install a wheel, or a folder with a pyproject.toml, offline."""
        install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
        subprocess.run([sys.executable, "-m", "pip", "--python", self.python, *install, source], check=True)

    def run(self, project: Path, *arguments: str, **changes: str) -> Ended:
        """Run its Python in a project's folder, with a home and a folder for temporary files beside that."""
        log = project.parent / "audit.log"
        log.write_text("", encoding="utf-8")
        places = {name: project.parent / name.lower() for name in ("HOME", "TMPDIR")}
        for place in places.values():
            place.mkdir(exist_ok=True)
        given = {name: os.fspath(place) for name, place in places.items()}
        variables = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": "200", "AUDIT_LOG": os.fspath(log)}
        ended = subprocess.run(
            [self.python, *arguments],
            cwd=project,
            env=variables | given | changes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, tuple(sorted(log.read_text(encoding="utf-8").splitlines())))


def _closure(name: str) -> list[importlib.metadata.Distribution]:
    """Return what a distribution requires, and what that requires, without itself and its extras."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [name]
    while waiting:
        for line in importlib.metadata.requires(waiting.pop()) or ():
            required = Requirement(line)
            if required.name not in found and (required.marker is None or required.marker.evaluate({"extra": ""})):
                found[required.name] = importlib.metadata.distribution(required.name)
                waiting.append(required.name)
    return list(found.values())
