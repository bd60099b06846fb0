"""Advice for what podman, systemd and package managers are known to say."""

from __future__ import annotations

import re

_HINTS = (
    (r"no space left on device", "Free some disk space; 'python -m harness images prune' removes what is unused."),
    (
        r"Temporary failure resolving|Could not resolve host|lookup .* (no such host|server misbehaving)",
        "A name could not be resolved; check the machine's network and proxy variables.",
    ),
    (
        r"cannot set up namespace|newuidmap.*(not permitted|failed)|no subuid ranges",
        "The account has no subordinate ids; see subuid(5).",
    ),
    (
        r"requires at least 1 argument|no such file or directory.*Containerfile",
        "The Containerfile is not where the contract says.",
    ),
)


def hint(output: str) -> str:
    """Return the way out for a known message in `output`, or ""."""
    return next((advice for pattern, advice in _HINTS if re.search(pattern, output, re.IGNORECASE)), "")
