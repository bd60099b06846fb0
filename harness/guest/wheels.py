"""The Python packages of a run for the Python of another userland, installed once by this machine's own pip."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from harness.core.errors import CommandError, GuestError, UsageError
from harness.core.locking import held
from harness.core.process import INHERITED, base_environment, network_environment, run_with_progress
from harness.core.progress import Progress, silent
from harness.core.userland import Userland

#: The harness as pip knows it, and the extras of it that tests import where they are installed.
PROJECT, EXTRAS = "socket-activation-harness", ("api",)

#: Longest installation, in seconds; it takes 10 s with a near index.
_LIMIT_S = 600.0

#: Oldest and newest C library for which projects commonly build, see PEP 600.
_PLATFORMS = ("manylinux2014", "manylinux_2_28")


def packages(userland: Userland, plugins: Iterable[str], folder: Path, progress: Progress = silent) -> Path:
    """Return the folder with what the harness and the distributions `plugins` need, made below `folder` if need be.

    Versions are those that are installed here. Raises UsageError where the userland has no Python, GuestError where pip
    can't get a package.
    """
    version = python_of(userland)
    pins = _pins([*_requirements(), *plugins])
    key = hashlib.sha256("\n".join([version, platform.machine(), *pins]).encode()).hexdigest()[:12]
    target = folder / f"python{version}-{key}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "install.lock", "another run that installs packages", target.name, 2 * _LIMIT_S, progress):
        if not target.is_dir():
            _install(pins, version, target, progress)
    return target


def python_of(userland: Userland) -> str:
    """Return the version of a userland's `python3`, such as 3.13; raise UsageError where there is none."""
    if match := re.fullmatch(r"python(3\.\d+)", userland.file("/usr/bin/python3").name):
        return match[1]
    raise UsageError(
        f"The userland '{userland.name}' can't run the tests: /usr/bin/python3 is no link to a Python 3 there.",
        hint="Unpack one that has the package 'python3', see 'python -m harness userland'.",
    )


def _requirements() -> list[str]:
    """Return the names of what the harness needs: as pip has installed it, or as its own folder says."""
    try:
        lines = importlib.metadata.requires(PROJECT) or []
        wanted = [line for line in lines if "extra ==" not in line or any(f'"{name}"' in line for name in EXTRAS)]
    except importlib.metadata.PackageNotFoundError:
        file = Path(__file__).resolve().parents[2] / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        wanted = [
            *project["dependencies"],
            *(line for name in EXTRAS for line in project["optional-dependencies"][name]),
        ]
    return [match[0] for line in wanted if (match := re.match(r"[\w.-]+", line))]


def _pins(names: Iterable[str]) -> list[str]:
    """Return `NAME==VERSION` of those that are installed here, but for the harness itself."""
    found = {}
    for name in names:
        try:
            found[re.sub(r"[-_.]+", "-", name).lower()] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return sorted(f"{name}=={version}" for name, version in found.items() if name != PROJECT)


def _install(pins: list[str], version: str, target: Path, progress: Progress) -> None:
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    constraints = draft.with_suffix(".txt")
    constraints.write_text("\n".join(_pins(item.name for item in importlib.metadata.distributions())), encoding="utf-8")
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check", "--no-input",
        "--no-compile", "--target", os.fspath(draft), "--constraint", os.fspath(constraints), "--only-binary=:all:",
        "--implementation", "cp", "--python-version", version,
        *(f"--platform={platform_}_{platform.machine()}" for platform_ in _PLATFORMS), *pins,
    ]
    # fmt: on
    try:
        run_with_progress(
            command,
            timeout_s=_LIMIT_S,
            title=f"install {len(pins)} packages for Python {version}",
            progress=progress,
            env=base_environment((*INHERITED, "HOME")) | network_environment() | _pip_environment(),
        )
    except CommandError as error:
        raise GuestError(
            f"pip could not install what the tests need for Python {version}: {error.sentence}",
            hint=f"Repeat it by '{' '.join(command[:3])} download'; 'python3 -m ensurepip' brings a pip.",
            evidence=error.evidence,
        ) from None
    finally:
        constraints.unlink()
    for path in (draft, *draft.rglob("*")):  # whatever the umask: the guest's user is another one
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    draft.replace(target)


def _pip_environment() -> dict[str, str]:
    """Return what tells pip which index to ask."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
