"""Quiet for a measurement, among tests that run at the same time."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from harness import quiet
from harness.deadline import Deadline, wait_until
from harness.quiet import Quiet

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


def taken(path: str) -> bool:
    """Whether somebody holds a lock."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def waits_at_the_turnstile(locks: Quiet) -> None:
    """Wait until somebody stands in the turnstile."""
    wait_until(lambda: taken(locks.turnstile), bool, Deadline.after(LIMIT_S), "somebody in the turnstile")


def test_many_share_and_one_is_alone() -> None:
    """Two tests run together; a measurement waits for both, and whoever comes after it waits for the measurement."""
    with quiet.owned() as locks:
        first, second = Visitor(locks.shared), Visitor(locks.shared)
        assert first.inside.wait(LIMIT_S)
        assert second.inside.wait(LIMIT_S)
        measuring = Visitor(locks.alone)
        waits_at_the_turnstile(locks)
        late = Visitor(locks.shared)
        first.leave()
        assert not measuring.inside.is_set()
        assert not late.inside.is_set()
        second.leave()
        assert measuring.inside.wait(LIMIT_S)
        assert not late.inside.is_set()
        measuring.leave()
        assert late.inside.wait(LIMIT_S)
        late.leave()


def test_nothing_of_the_locks_is_left() -> None:
    """They are files in memory of the process that made them."""
    with quiet.owned() as locks:
        assert Path(locks.lock).exists()
        assert "memfd:quiet" in os.fspath(Path(locks.lock).readlink())
    assert not Path(locks.lock).exists()
    assert not Path(locks.turnstile).exists()
