"""The folder for what is made once and used by many runs: images, userlands."""

from __future__ import annotations

import os
from pathlib import Path

#: Environment variable that names another folder.
FOLDER_VARIABLE = "HARNESS_CACHE"


def default_folder() -> Path:
    """Return where things are kept between runs: `$HARNESS_CACHE`, else below `$XDG_CACHE_HOME` or `~/.cache`."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "socket-activation-harness"
