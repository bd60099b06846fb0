"""Userlands that are unpacked, by their names."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.progress import Progress, silent
from harness.userland import HOST, Userland


class UserlandStore:
    """One folder with the roots of all userlands."""

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder = folder / "userlands"
        self._progress = progress

    def get(self, name: str) -> Userland:
        """Return a userland by its name; raise UsageError for one that is not known."""
        if name == HOST.name:
            return HOST
        root = self.folder / name / "root"
        if not root.is_dir():
            raise UsageError(f"There is no userland '{name}'.")
        return Userland(name, root)
