"""Holding the lock of something that several runs share, and telling a person who waits for it."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UsageError
from harness.progress import Progress


@contextlib.contextmanager
def held(file: Path, holder: str, what: str, limit_s: float, progress: Progress) -> Iterator[None]:
    """Hold the lock `file`, which goes with the process; tell that `holder` has it while another one has.

    `what` is what it is wanted for. Raises UsageError, which names the folder, when it was not free within `limit_s`.
    """
    lock = FileLock(file, mode=0o600)
    started = time.monotonic()
    for next_s in itertools.chain([2], itertools.repeat(10)):
        try:
            lock.acquire(timeout=next_s)
            break
        except Timeout:
            waited = time.monotonic() - started
            progress(f"wait for {holder} ({what}, {waited:.0f} s)")
            if waited > limit_s:
                raise UsageError(
                    f"The store '{file.parent}' has been locked by another run for {waited:.0f} s."
                ) from None
    try:
        yield
    finally:
        lock.release()
