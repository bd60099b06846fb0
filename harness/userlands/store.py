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
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from harness.core.errors import CapabilityMissing, UsageError
from harness.core.locking import held
from harness.core.progress import Progress, silent
from harness.core.userland import HOST, Userland
from harness.images.store import ImageStore
from harness.session import factory
from harness.userlands import unpack
from harness.userlands.recipes import RECIPES
from harness.userlands.requirements import lacking, system

#: What a userland's folder ends in while it is made or removed; nothing looks at it.
_DRAFT = ".new"

_RECORD = "userland.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

#: Fills an empty folder.
Fill = Callable[[Path, Progress], None]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A userland that is in the store."""

    name: str
    #: Hash of what it was made from.
    source: str
    #: What it calls itself: PRETTY_NAME of os-release(5).
    system: str
    #: How it was made: `mmdebstrap`, `dnf`, or the tar or the image that it was taken from.
    how: str
    build_s: float


class UserlandStore:
    """A folder of the cache's with one folder per userland: its root and a small record."""

    def __init__(self, cache: Path, progress: Progress = silent) -> None:
        self.folder = cache / "userlands"
        self._progress = progress

    # -- looking ------------------------------------------------------------------------------------------------

    def unpacked(self) -> tuple[Unpacked, ...]:
        """Return every userland in the store, by name."""
        found = (_read(folder) for folder in sorted(self.folder.glob("*-*")) if folder.suffix != _DRAFT)
        return tuple(one for one in found if one)

    def root(self, one: Unpacked) -> Path:
        """Return the folder of a userland that is a session's root."""
        return self._place(one) / "root"

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
        return self._made(Unpacked(name, recipe.source, "", recipe.tool, 0.0), partial(unpack.install, recipe))

    def from_tar(self, name: str, file: Path) -> Userland:
        """Return the userland in a tar of a root folder, unpacked unless it is here."""
        _check_name(name)
        return self._given(name, _file_hash(file), f"tar {file.name}", partial(unpack.unpack, file.absolute()))

    def from_image(self, name: str, reference: str, images: ImageStore) -> Userland:
        """Return the userland in an image: from the store of images, the caller's own podman, or a registry."""
        _check_name(name)
        _check_root()
        image = images.existing(f"userland-{name}", reference)

        def fill(root: Path, progress: Progress) -> None:
            unpack.export(image, images, root, progress)

        return self._given(name, image.id, f"image {reference}", fill)

    def remove(self, name: str) -> tuple[Unpacked, ...]:
        """Remove a userland and return what it was; the caller makes sure that no session or guest runs in it.

        Raises UsageError for an unknown name.
        """
        _check_root()
        with self._locked(name):
            gone = tuple(one for one in self.unpacked() if one.name == name)
            if not gone:
                raise self._unknown(name)
            for one in gone:
                self._throw_away(self._place(one))
        return gone

    # -- the steps ----------------------------------------------------------------------------------------------

    def _given(self, name: str, source: str, how: str, fill: Fill) -> Userland:
        """Return a userland of somebody else's; the same name means the same content until it is removed."""
        for one in self.unpacked():
            if one.name == name and one.source != source:
                raise UsageError(
                    f"There is another userland '{name}' already, made of the {one.how}.",
                    hint=f"Take another name, or run 'python3 -m harness userland remove {name}' first.",
                )
        return self._made(Unpacked(name, source, "", how, 0.0), fill)

    def _made(self, one: Unpacked, fill: Fill) -> Userland:
        """Return a userland, made by `fill` unless it is here."""
        if not _read(self._place(one)):
            _check_root()
            with self._locked(one.name):
                if not _read(self._place(one)):
                    self._make(one, fill)
        return Userland(one.name, self.root(one))

    def _make(self, one: Unpacked, fill: Fill) -> None:
        """Make a userland beside its place and move it there when it is whole."""
        started = time.monotonic()
        place = self._place(one)
        draft = place.with_name(place.name + _DRAFT)
        try:
            draft.mkdir(mode=0o700)
            userland = Userland(one.name, draft / "root")
            userland.root.mkdir()
            fill(userland.root, self._progress)
            userland.root.chmod(0o755)
            if missing := lacking(userland):
                raise UsageError(
                    f"The userland '{one.name}' lacks what a session needs.",
                    hint="Make the tar or the image anew with the packages that have it.",
                    evidence={"missing": "\n".join(missing)},
                )
            made = replace(one, system=system(userland), build_s=round(time.monotonic() - started, 1))
            (draft / _RECORD).write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
            if place.exists():  # without a record that can be read
                self._throw_away(place.rename(place.with_name(f"{place.name}.old{_DRAFT}")))
            draft.rename(place)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._progress(f"the userland '{one.name}' is ready: {made.system} ({made.build_s:.0f} s)")

    @contextlib.contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """Hold the one lock under which the store is written; what an interrupted run has left goes first."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self.folder / "build.lock"
        with held(file, "another run that makes userlands", what, unpack.BUILD_LIMIT_S, self._progress):
            for draft in self.folder.glob(f"*{_DRAFT}"):
                self._throw_away(draft)
            yield

    def _throw_away(self, place: Path) -> None:
        """Remove a folder of the store; from the first step on it counts as nothing."""
        draft = place if place.suffix == _DRAFT else place.rename(place.with_name(place.name + _DRAFT))
        shutil.rmtree(draft)

    def _place(self, one: Unpacked) -> Path:
        return self.folder / f"{one.name}-{one.source[:12]}"

    def _unknown(self, name: str) -> UsageError:
        names = dict.fromkeys([HOST.name, *RECIPES, *(one.name for one in self.unpacked())])
        return UsageError(
            f"There is no userland '{name}'; there are: {', '.join(names)}.",
            hint="'python3 -m harness userland build NAME --from-image IMAGE' makes one of an image.",
        )


def _read(folder: Path) -> Unpacked | None:
    """Return what a folder's record says, None where there is none that can be read."""
    try:
        return Unpacked(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _check_root() -> None:
    if not factory.is_isolated():
        raise CapabilityMissing(
            "userlands", "root alone can unpack, and remove, files of other users", "run the command as root"
        )


def _check_name(name: str) -> None:
    """Raise UsageError for a name that can't be given to a tar or an image."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"A userland can't be called '{name}'.", hint="Take up to 40 lower-case letters, digits and dashes."
        )
    if name in (HOST.name, *RECIPES):
        raise UsageError(f"The name '{name}' is the harness's own.", hint="Take another name.")


def _file_hash(file: Path) -> str:
    """Return the hash of a file's content; raise UsageError for what may never end, such as a FIFO."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise UsageError(f"'{file}' is not a regular file.", hint="Give the file of a tar.")
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"The file '{file}' can't be read: {os.strerror(error.errno or 0)}.") from None
