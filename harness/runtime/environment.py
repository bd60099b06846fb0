"""Where a run takes place, for its record."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from harness.capabilities.table import Capabilities
from harness.results.record import Environment, Userland

#: What a reply passes through, of what the capabilities know the version of.
_VERSIONS = ("python", "systemd", "podman", "crun", "runc", "socat", "curl", "slirp4netns", "pasta")


def environment(
    capabilities: Capabilities,
    base: str,
    *,
    strict: bool,
    guest: str = "",
    userlands: Mapping[str, Userland] | None = None,
) -> Environment:
    """Return where this run takes place; `capabilities` are those of the first userland."""
    return Environment(
        kernel=platform.release(),
        machine=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        versions=versions(capabilities),
        userlands=dict(userlands or {}),
        base=base,
        guest=guest,
        strict=strict,
    )


def versions(capabilities: Capabilities) -> dict[str, str]:
    """Return program -> version, of all that a reply passes through."""
    found = (capabilities.get(name) for name in _VERSIONS)
    return {one.name: one.version for one in found if one.present}
