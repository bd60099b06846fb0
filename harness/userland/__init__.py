"""A userland: the root folder whose systemd, podman, OCI runtime and clients a session uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Userland:
    """The machine's own, or a distribution unpacked in a folder."""

    name: str
    root: Path = Path("/")

    @property
    def is_host(self) -> bool:
        """Whether it is the machine's own."""
        return self.root == Path("/")

    def file(self, path: str) -> Path:
        """Return where an absolute path of the userland's is seen from the machine."""
        return self.root / path.lstrip("/")


#: The machine's own.
HOST = Userland("host")
