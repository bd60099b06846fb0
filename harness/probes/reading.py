"""When a client has what it came for: the same rule for every client that compares bytes."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.contract import BytesProbe
from harness.contract.types import matches
from harness.core.deadline import Deadline

#: Tells of what has come so far whether more of it could not change the verdict.
Settled = Callable[[bytes], bool]

#: How long a client listens on once its reply is settled, in seconds: whoever sends more than it promised mostly does
#: so at once, and the end of the connection ends this, too. docs/verification.md has how late such bytes came.
LISTEN_ON_S = 0.1


def settled(promised: BytesProbe) -> Settled | None:
    """Return when a reply is settled: its bytes have come, or others; None where only its end can tell.

    A client that half-closes has said all that it will say, and so it is promised that the service closes, too.
    """
    if promised.half_close:
        return None
    if promised.expect is not None:
        expected = promised.expect.encode()
        return lambda body: body == expected or not expected.startswith(body)
    pattern = promised.expect_pattern or ""
    return lambda body: bool(body) and matches(pattern, body.decode(errors="replace"))


class Reading:
    """How long one reply is read: to its end, or a little longer than until it is settled, or until the deadline."""

    def __init__(self, deadline: Deadline, settled: Settled | None) -> None:
        self._deadline = self._until = deadline
        self._settled = settled
        #: When the last byte came that the verdict needs, on CLOCK_MONOTONIC; None before it, or where the end decides.
        self.settled_at: float | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds that are left to read on, never negative."""
        return self._until.remaining_s

    @property
    def complaint(self) -> str:
        """What a client says when no time is left: nothing where it has what it came for."""
        return "" if self.settled_at else f"nothing came to an end within {self._deadline.elapsed_s:.1f} s"

    def saw(self, body: bytes | bytearray) -> None:
        """Take notice of all that has come so far."""
        if self._settled and self.settled_at is None and self._settled(bytes(body)):
            self.settled_at = time.monotonic()
            self._until = Deadline.after(LISTEN_ON_S)
