"""The locks of several processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import LockBusy, WaitTimeout
from harness.core.locking import ReadWriteLock, held, is_locked, locked

LIMIT_S = 20.0


class Visitor(threading.Thread):
    """Somebody who wants in, says so when he is, and stays until he may go."""

    def __init__(self, way: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(daemon=True)
        self._way = way
        self.inside = threading.Event()
        self.may_go = threading.Event()
        self.start()

    def run(self) -> None:
        """Go in and stay."""
        with self._way():
            self.inside.set()
            self.may_go.wait(LIMIT_S)

    def leave(self) -> None:
        """Go, and be gone at the return."""
        self.may_go.set()
        self.join(LIMIT_S)


def waits_at_the_turnstile(lock: ReadWriteLock) -> None:
    """Wait until somebody stands in the turnstile."""
    awaited = "somebody in the turnstile"
    wait_until(lambda: is_locked(Path(lock.turnstile)), bool, Deadline.after(LIMIT_S), awaited)


def test_many_read_and_one_writes() -> None:
    """Two read together; a writer waits for both, and whoever comes after it waits for the writer."""
    with ReadWriteLock.made() as lock:
        first, second = Visitor(lock.reading), Visitor(lock.reading)
        assert first.inside.wait(LIMIT_S)
        assert second.inside.wait(LIMIT_S)
        writer = Visitor(lock.writing)
        waits_at_the_turnstile(lock)
        late = Visitor(lock.reading)
        first.leave()
        assert not writer.inside.is_set()
        assert not late.inside.is_set()
        second.leave()
        assert writer.inside.wait(LIMIT_S)
        assert not late.inside.is_set()
        writer.leave()
        assert late.inside.wait(LIMIT_S)
        late.leave()


def test_nothing_of_the_lock_is_left() -> None:
    """They are files in memory of the process that made them."""
    with ReadWriteLock.made() as lock:
        assert Path(lock.room).exists()
        assert "memfd:harness-room" in os.fspath(Path(lock.room).readlink())
    assert not Path(lock.room).exists()
    assert not Path(lock.turnstile).exists()


def test_a_lock_that_another_holds(tmp_path: Path) -> None:
    """Within the limit it is waited for, then it is an error; whoever lets go leaves the file."""
    file = tmp_path / "lock"
    assert not is_locked(file)
    holder = Visitor(lambda: locked(file))
    assert holder.inside.wait(LIMIT_S)
    assert is_locked(file)
    with pytest.raises(WaitTimeout, match=r"lock"), locked(file, limit_s=0.05):
        pass
    holder.leave()
    assert not is_locked(file)
    with locked(file, limit_s=0.05):
        assert is_locked(file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_person_hears_whom_a_lock_waits_for(tmp_path: Path) -> None:
    """And what for; in the end an error names the store."""
    said: list[str] = []
    holder = Visitor(lambda: locked(tmp_path / "lock"))
    assert holder.inside.wait(LIMIT_S)
    waiting = held(tmp_path / "lock", "another run", "an image", 1, said.append)
    with pytest.raises(LockBusy, match=rf"The store '{tmp_path}' has been locked by another run for 2 s"), waiting:
        pass
    assert said == ["wait for another run (an image, 2 s)"]
    holder.leave()
    with held(tmp_path / "lock", "another run", "an image", 1, said.append):
        assert len(said) == 1
