"""Quiet for a measurement: while one test measures, the other workers of the run wait between two tests.

Every test holds a shared lock, flock(2), and a measuring one the same lock alone. A second lock is a turnstile: who
wants to be alone stands in it, so that no test begins before it has been. The locks are memory files of the process
that owns the run, memfd_create(2); they are gone with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quiet:
    """The two locks of a run, as paths that its workers can open."""

    turnstile: str
    lock: str

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Wait until nobody is alone or wants to be; then others may be here, too."""
        with contextlib.ExitStack() as stack:
            with _held(self.turnstile, fcntl.LOCK_EX):
                stack.enter_context(_held(self.lock, fcntl.LOCK_SH))
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until everybody has left; then nobody else is here."""
        with _held(self.turnstile, fcntl.LOCK_EX), _held(self.lock, fcntl.LOCK_EX):
            yield


@contextlib.contextmanager
def owned() -> Iterator[Quiet]:
    """Make the locks of a run; they go at the end of the context."""
    with contextlib.ExitStack() as stack:
        paths = []
        for name in ("quiet-turnstile", "quiet"):
            descriptor = os.memfd_create(name)
            stack.callback(os.close, descriptor)
            paths.append(f"/proc/{os.getpid()}/fd/{descriptor}")
        yield Quiet(*paths)


@contextlib.contextmanager
def _held(path: str, kind: int) -> Iterator[None]:
    # Opened anew, since a lock belongs to what open(2) made.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
