"""Where a run takes place, for its record."""

from __future__ import annotations

import os
import platform

from harness.capabilities import Capabilities
from harness.record import Environment

#: What a reply passes through, of what the capabilities know the version of.
_VERSIONS = ("python", "systemd", "podman", "crun", "runc", "socat", "curl", "slirp4netns", "pasta")


def environment(capabilities: Capabilities, base: str, *, strict: bool, guest: str = "") -> Environment:
    """Return where this run takes place."""
    found = (capabilities.get(name) for name in _VERSIONS)
    return Environment(
        kernel=platform.release(),
        machine=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        versions={one.name: one.version for one in found if one.present},
        base=base,
        guest=guest,
        strict=strict,
    )
