"""Advice for what podman, systemd and package managers are known to say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import Blame


@dataclass(frozen=True, slots=True)
class Hint:
    """What a known message means."""

    pattern: str
    advice: str
    #: Who has to act, where it is another than the error's class says.
    blame: Blame | None = None


_NONE = Hint("", "")

_HINTS = (
    Hint(
        r"no space left on device",
        "Free some disk space; 'python -m harness images prune' removes what is unused.",
        Blame.MACHINE,
    ),
    Hint(
        r"Temporary failure resolving|Could not resolve host|lookup .* (no such host|server misbehaving)",
        "A name could not be resolved; check the machine's network and proxy variables.",
        Blame.MACHINE,
    ),
    Hint(
        r"cannot set up namespace|newuidmap.*(not permitted|failed)|no subuid ranges",
        "The account has no subordinate ids; see subuid(5).",
        Blame.MACHINE,
    ),
    Hint(
        r"Cannot find unit for notify message of PID",
        "Podman's first start in a login races with its own READY=1; run 'podman unshare true' once before it.",
        Blame.MACHINE,
    ),
    Hint(
        r"unsupported key '\w+' in group",
        "This Podman's Quadlet does not know the key; docs/quadlet.md tells which Podman the harness writes for.",
        Blame.MACHINE,
    ),
)


def hint(output: str) -> Hint:
    """Return what is known of a message in `output`; a hint without advice where nothing is."""
    return next((item for item in _HINTS if re.search(item.pattern, output, re.IGNORECASE)), _NONE)
