"""Locks of several processes, all by flock(2): they go with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.cache import writing
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import LockBusy, WaitTimeout
from harness.core.progress import Progress


@contextlib.contextmanager
def locked(file: Path | str, kind: int = fcntl.LOCK_EX, limit_s: float | None = None) -> Iterator[None]:
    """Hold a lock, by default an exclusive one; the file is made if need be, and stays.

    Raises WaitTimeout when it was not free within `limit_s`; without a limit, waits until it is.
    """
    # Opened anew, since a lock belongs to what open(2) made.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if limit_s is None:
            fcntl.flock(descriptor, kind)
        else:
            wait_until(lambda: _take(descriptor, kind), bool, Deadline.after(limit_s), f"the lock '{file}'")
        yield
    finally:
        os.close(descriptor)


def is_locked(file: Path) -> bool:
    """Whether a process holds a lock; no where there is no such file."""
    try:
        with file.open("rb") as opened:
            return not _take(opened.fileno(), fcntl.LOCK_EX)
    except OSError:
        return False


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def held(file: Path, holder: str, what: str, limit_s: float, progress: Progress) -> Iterator[None]:
    """Hold the lock `file`; tell that `holder` has it while another process has.

    `what` is what it is wanted for. Raises LockBusy, which names the folder, when it was not free within `limit_s`.
    """
    waiting = Deadline.after(limit_s)
    with contextlib.ExitStack() as stack:
        for next_s in itertools.chain([2], itertools.repeat(10)):
            try:
                with writing(file.parent):
                    stack.enter_context(locked(file, limit_s=next_s))
                break
            except WaitTimeout:
                progress(f"wait for {holder} ({what}, {waiting.elapsed_s:.0f} s)")
                if waiting.expired:
                    raise LockBusy(
                        f"The store '{file.parent}' has been locked by another run for {waiting.elapsed_s:.0f} s.",
                        hint=f"Wait for that run to end; 'fuser -v {file}' shows its process.",
                    ) from None
        yield


@dataclass(frozen=True, slots=True)
class ReadWriteLock:
    """Many read, or one writes; nobody begins to read while somebody wants to write."""

    #: A reader passes it, a writer stands in it until the last reader has gone.
    turnstile: str
    #: Readers share it, a writer has it alone.
    room: str

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[ReadWriteLock]:
        """Make one in the memory of this process, which other processes open by its paths; it goes with the context."""
        with contextlib.ExitStack() as stack:
            paths = []
            for name in ("harness-turnstile", "harness-room"):
                descriptor = os.memfd_create(name)
                stack.callback(os.close, descriptor)
                paths.append(f"/proc/{os.getpid()}/fd/{descriptor}")
            yield cls(*paths)

    @property
    def paths(self) -> tuple[str, str]:
        """What another process makes the same lock of."""
        return self.turnstile, self.room

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Wait until nobody writes or wants to."""
        with contextlib.ExitStack() as stack:
            with locked(self.turnstile):
                stack.enter_context(locked(self.room, fcntl.LOCK_SH))
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Wait until nobody reads or writes."""
        with locked(self.turnstile), locked(self.room):
            yield
