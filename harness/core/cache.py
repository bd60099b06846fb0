"""The folder for what is made once and used by many runs: images, userlands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import CacheError

#: Environment variable that names another folder.
FOLDER_VARIABLE = "HARNESS_CACHE"


def default_folder() -> Path:
    """Return where things are kept between runs: `$HARNESS_CACHE`, else below `$XDG_CACHE_HOME` or `~/.cache`."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "socket-activation-harness"


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raise CacheError where what is kept at `place` can't be written, on a full or read-only disk, say."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"What is kept between runs can't be written to '{place}': {error.strerror or error}.",
            hint=f"Make room there, or set {FOLDER_VARIABLE} to a folder that you can write to.",
        ) from None
