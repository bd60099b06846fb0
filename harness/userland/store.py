"""The store of userlands: found by the hash of what they are made of, made once under a lock, then only read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.command import SYSTEM_PATH, base_environment, network_environment, run_with_progress
from harness.errors import CapabilityMissing, CommandError, UsageError
from harness.locking import held
from harness.progress import Progress, silent
from harness.session import opening
from harness.userland import HOST, Userland
from harness.userland.contents import lacking, system
from harness.userland.recipes import RECIPES, Recipe

#: Longest making of one userland, in seconds.
BUILD_LIMIT_S = 1200.0

#: What a userland that is being made, or removed, ends in; nothing looks at it.
_DRAFT = ".new"

_RECORD = "userland.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

#: Whatever a package's script mounts or starts is gone with the command, and the command with the harness.
_CONTAINED = (
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"),
)

#: Owners by their numbers; set-user-ID bits; file capabilities and SELinux's labels, which are extended attributes.
_TAR = (
    *("tar", "--extract", "--numeric-owner", "--same-owner", "--preserve-permissions"),
    *("--xattrs", "--xattrs-include=*"),
)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A userland that is in the store."""

    name: str
    #: Hash of what it was made from.
    source: str
    #: What it calls itself: PRETTY_NAME of os-release(5).
    system: str
    #: How it was made: `mmdebstrap`, `dnf`, or the file or the image that it was taken from.
    how: str
    build_s: float


class UserlandStore:
    """One folder, in it one folder per userland with its root and a small record; `folder` is the cache's."""

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder = folder / "userlands"
        self._progress = progress

    # -- looking ------------------------------------------------------------------------------------------------

    def unpacked(self) -> tuple[Unpacked, ...]:
        """Return every userland in the store, by name."""
        found = (_read(folder) for folder in sorted(self.folder.glob("*-*")) if folder.suffix != _DRAFT)
        return tuple(one for one in found if one)

    def root(self, one: Unpacked) -> Path:
        """Return the folder of a userland that is a session's root."""
        return self._place(one.name, one.source) / "root"

    # -- making -------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Userland:
        """Return the userland `name`: the machine's own, a recipe's, made at its first use, or one that was given.

        Raises UsageError where nothing has that name.
        """
        if name == HOST.name:
            return HOST
        if name in RECIPES:
            return self.build(name)
        for one in self.unpacked():
            if one.name == name:
                return Userland(name, self.root(one))
        raise self._unknown(name)

    def build(self, name: str) -> Userland:
        """Return the userland of the recipe `name`, made unless it is here."""
        if name not in RECIPES:
            raise self._unknown(name)
        recipe = RECIPES[name]
        return self._made(name, recipe.source, recipe.tool, lambda root: self._install(recipe, root))

    def from_tar(self, name: str, file: Path, how: str = "") -> Userland:
        """Return the userland in a tar of a root folder, unpacked unless it is here; `how` says where it is from."""
        _check_name(name)
        source = _file_hash(file)
        for one in self.unpacked():
            if one.name == name and one.source != source:
                raise UsageError(
                    f"There is a userland '{name}' already, of {one.how}.",
                    remedy=f"Take another name, or run 'python3 -m harness userland remove {name}' first.",
                )
        return self._made(name, source, how or f"tar {file.name}", lambda root: self._unpack(file, root))

    def remove(self, name: str) -> tuple[Unpacked, ...]:
        """Remove a userland that no session is using; return what it was. Raises UsageError for an unknown name."""
        _check_root()
        with self._locked(name):
            gone = tuple(one for one in self.unpacked() if one.name == name)
            if not gone:
                raise self._unknown(name)
            for one in gone:
                self._throw_away(self._place(one.name, one.source))
        return gone

    # -- the steps ----------------------------------------------------------------------------------------------

    def _made(self, name: str, source: str, how: str, fill: Callable[[Path], None]) -> Userland:
        """Return the userland of `source`, made by `fill` of an empty folder unless it is here."""
        place = self._place(name, source)
        if not _read(place):
            _check_root()
            with self._locked(name):
                if not _read(place):
                    self._make(place, Unpacked(name, source, "", how, 0.0), fill)
        return Userland(name, place / "root")

    def _make(self, place: Path, one: Unpacked, fill: Callable[[Path], None]) -> None:
        started = time.monotonic()
        draft = place.with_name(place.name + _DRAFT)
        root = draft / "root"
        try:
            draft.mkdir(mode=0o700)
            root.mkdir()
            fill(root)
            root.chmod(0o755)
            if missing := lacking(root):
                raise UsageError(
                    f"The userland '{one.name}' lacks what a session needs.",
                    remedy="Add the packages that have it, or take another tar or image.",
                    evidence={"missing": "\n".join(missing)},
                )
            made = Unpacked(one.name, one.source, system(root), one.how, round(time.monotonic() - started, 1))
            (draft / _RECORD).write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
            draft.rename(place)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._progress(f"the userland '{one.name}' is ready: {made.system} ({made.build_s:.0f} s)")

    def _install(self, recipe: Recipe, root: Path) -> None:
        """Fill a folder by the packages of a recipe."""
        command = recipe.command(root)
        if not shutil.which(command[0], path=f"{base_environment()['PATH']}:{SYSTEM_PATH}"):
            raise CapabilityMissing(
                recipe.tool, f"'{recipe.tool}' is not installed", f"install the package '{recipe.tool}'"
            )
        self._progress(f"make the userland '{recipe.name}' with {recipe.tool}")
        try:
            self._run(recipe.tool, *command)
        except CommandError as error:
            raise UsageError(
                f"The userland '{recipe.name}' can't be made: {error.sentence}",
                remedy="See what its last lines say: the mirror, the disk or a package's name.",
                evidence=error.evidence,
            ) from None

    def _unpack(self, file: Path, root: Path) -> None:
        """Fill a folder by a tar."""
        self._progress(f"unpack '{file}'")
        try:
            self._run(f"unpack '{file.name}'", *_TAR, f"--directory={root}", f"--file={file}")
        except CommandError as error:
            raise UsageError(
                f"The file '{file}' can't be unpacked: {error.sentence}",
                remedy="Give a tar of a root folder, as 'podman export' writes it; no name in it may have '..'.",
                evidence={"tar": error.evidence["stdout"]},
            ) from None

    def _run(self, title: str, *command: str) -> None:
        run_with_progress(
            [*_CONTAINED, *command],
            timeout_s=BUILD_LIMIT_S,
            title=title,
            progress=self._progress,
            env=base_environment() | network_environment(),
        )

    def _throw_away(self, place: Path) -> None:
        """Remove a folder of the store; from the first step on it counts as nothing."""
        draft = place if place.suffix == _DRAFT else place.rename(place.with_name(place.name + _DRAFT))
        shutil.rmtree(draft)

    @contextlib.contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """Hold the one lock under which the store is written; what an interrupted run has left goes first."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        waiting = f"wait for another run that makes userlands ({what}"
        with held(self.folder / "build.lock", waiting, BUILD_LIMIT_S, self._progress):
            for draft in self.folder.glob(f"*{_DRAFT}"):
                self._throw_away(draft)
            yield

    def _place(self, name: str, source: str) -> Path:
        return self.folder / f"{name}-{source[:12]}"

    def _unknown(self, name: str) -> UsageError:
        given = [one.name for one in self.unpacked() if one.name not in RECIPES]
        names = ", ".join([HOST.name, *RECIPES, *given])
        return UsageError(
            f"There is no userland '{name}': there are {names}.",
            remedy="'python3 -m harness userland build NAME --from-image IMAGE' makes one of an image.",
        )


def _read(folder: Path) -> Unpacked | None:
    """Return what a folder's record says, None where there is none that can be read."""
    try:
        return Unpacked(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _check_root() -> None:
    if not opening.is_isolated():
        raise CapabilityMissing(
            "userlands", "files of other users can be unpacked, and removed, by root alone", "run this as root"
        )


def _check_name(name: str) -> None:
    """Raise UsageError for a name that can't be given to a tar or an image."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"A userland can't be called '{name}'.", remedy="Take up to 40 lower-case letters, digits and dashes."
        )
    if name in (HOST.name, *RECIPES):
        raise UsageError(f"The name '{name}' is taken by the harness itself.", remedy="Take another name.")


def _file_hash(file: Path) -> str:
    """Return the hash of a file's content; raise UsageError where it is none that ends."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise UsageError(f"'{file}' is not a regular file.", remedy="Give the file of a tar.")
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"The file '{file}' can't be read: {os.strerror(error.errno or 0)}.") from None
