"""Waiting: every wait has a monotonic deadline and says on expiry what it saw."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from harness.core.errors import WaitTimeout

T = TypeVar("T")

#: Pause between two looks, in seconds; looks are cheap (a file below /proc, a D-Bus property).
POLL_S = 0.004


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on CLOCK_MONOTONIC that does not move, made with `Deadline.after(seconds)`."""

    started_s: float
    limit_s: float

    @classmethod
    def after(cls, limit_s: float) -> Deadline:
        """Return the deadline `limit_s` seconds from now."""
        return cls(time.monotonic(), limit_s)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.started_s + self.limit_s - time.monotonic())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self.started_s

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining_s == 0.0


def wait_until(look: Callable[[], T], accept: Callable[[T], bool], deadline: Deadline, awaited: str) -> T:
    """Return the first value of `look()` that `accept` takes; raise WaitTimeout with the last one seen.

    `look` may raise to end the wait early, which is how a waiter says that what it waits for can't come any more.
    """
    while True:
        seen = look()
        if accept(seen):
            return seen
        if deadline.expired:
            raise WaitTimeout(awaited, deadline.elapsed_s, seen)
        time.sleep(min(POLL_S, deadline.remaining_s))
