"""A userland: the root folder whose systemd, podman, OCI runtime and clients a session uses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UsageError

#: Links that are followed before one counts as a loop, as in path_resolution(7).
_MOST_LINKS = 40


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
        """Return where an absolute path of the userland's is seen from the machine, whether or not there is anything.

        Links are followed as a process with this root follows them, see RESOLVE_IN_ROOT in openat2(2): what somebody
        else has packed must not lead to the machine's own files.
        """
        left, here, links = _steps(path), self.root, 0
        while left:
            step = here / left.pop()
            if step.is_symlink():
                links += 1
                if links > _MOST_LINKS:
                    raise UsageError(f"The link '{path}' of the userland '{self.name}' leads to itself.")
                target = os.fspath(step.readlink())
                here = self.root if target.startswith("/") else here
                left.extend(_steps(target))
            elif step.name != "..":
                here = step
            elif here != self.root:
                here = here.parent
        return here


def _steps(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


#: The machine's own.
HOST = Userland("host")
