"""What other packages add to the harness, found by their entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from harness.core.errors import UsageError

T = TypeVar("T")


def extended(group: str, own: Mapping[str, T], refusal: Callable[[str, object], str]) -> dict[str, T]:
    """Return `own` and what installed packages add by the entry points of `group`, sorted by name.

    `refusal` returns why an object can't have a name, or "". Raises UsageError, which names the package.
    """
    found: dict[str, T] = dict(own)
    for entry in entry_points(group=group):
        package = entry.dist.name if entry.dist else "(unknown)"
        subject = f"The entry point '{entry.name}' of the package '{package}' in the group '{group}'"
        if entry.name in found:
            raise UsageError(f"{subject} has a name that is taken.", hint=f"Taken are: {', '.join(found)}.")
        try:
            value = entry.load()
        except Exception as error:
            raise UsageError(f"{subject} can't be loaded: {type(error).__name__}: {error}.") from error
        if why := refusal(entry.name, value):
            raise UsageError(f"{subject} can't be used: {why}.")
        found[entry.name] = value
    return dict(sorted(found.items()))
