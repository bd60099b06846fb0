"""Cleans up after a supervisor that was killed: a process of its own, outside of the tree of the one that it watches.

Who kills a run with all of its descendants at once kills the supervisors, too, and they can remove nothing any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable

#: The highest descriptor that a supervisor may have open.
_DESCRIPTORS = 1024


def clean_after(clean: Callable[[], object]) -> Callable[[], None]:
    """Let `clean` be called if this process ends before it has called what is returned.

    The process that does it is nobody's child but the machine's, and has nothing of this one's open: who waits for the
    end of a pipe of ours need not wait for it.
    """
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            _watch(reading, clean)
        os._exit(0)
    os.waitpid(between, 0)
    os.close(reading)

    def call_off() -> None:
        os.write(writing, b"x")
        os.close(writing)

    return call_off


def _watch(reading: int, clean: Callable[[], object]) -> None:
    """Wait for the word that nothing is to be done, or for the end without it."""
    status = 1
    try:
        os.closerange(0, reading)
        os.closerange(reading + 1, _DESCRIPTORS)
        if not os.read(reading, 1):
            clean()
        status = 0
    finally:
        os._exit(status)
