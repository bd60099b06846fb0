"""When a client has what it came for: the same rule for every client that compares bytes."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.contract import Sends
from harness.contract.types import matches
from harness.core.deadline import Deadline

#: Tells of what has come so far whether more of it could not change the verdict.
Settled = Callable[[bytes], bool]

#: How long a client listens on once its reply is settled, in seconds: whoever sends more than it promised mostly does
#: so at once, and the end of the connection ends this, too. docs/verification.md has how late such bytes came.
LISTEN_ON_S = 0.1


def settled(promised: Sends) -> Settled | None:
    """Return when a reply is settled: its bytes have come, or others; None where only its end can tell.

    A client that half-closes has said all that it will say, and so it is promised that the service closes, too.
    """
    if promised.half_close:
        return None
    if (expected := promised.expected) is not None:
        return lambda body: body == expected or not expected.startswith(body)
    return lambda body: bool(body) and matches(promised.pattern, body.decode(errors="replace"))


#: Tells why no reply can come any more, "" as long as one can.
Hopeless = Callable[[], str]

#: How often a client that waits asks whether there is hope, in seconds.
_LOOK_S = 0.25


class Reading:
    """How long one reply is read: to its end, or a little longer than until it is settled, or until the deadline.

    Where there is a `hopeless`, until that gives a reason, too.
    """

    def __init__(
        self,
        deadline: Deadline,
        settled: Settled | None,
        hopeless: Hopeless | None = None,
        listen_on_s: float = LISTEN_ON_S,
    ) -> None:
        self._deadline = self._until = deadline
        self._settled = settled
        self._hopeless = hopeless
        self._reason = ""
        self._listen_on_s = listen_on_s
        #: When the last byte came that the verdict needs, on CLOCK_MONOTONIC; None before it, or where the end decides.
        self.settled_at: float | None = None

    @property
    def slice_s(self) -> float:
        """Seconds to wait before the next look at `is_over`, above 0."""
        left = max(0.001, self._until.remaining_s)
        return left if self._hopeless is None else min(left, _LOOK_S)

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self._until.expired

    def is_over(self) -> bool:
        """Whether no time is left, or no hope."""
        if self._hopeless and self.settled_at is None and not self._reason:
            self._reason = self._hopeless()
        return bool(self._reason) or self.expired

    @property
    def complaint(self) -> str:
        """What a client says when it is over: nothing where it has what it came for."""
        if self.settled_at:
            return ""
        return self._reason or f"timed out after {self._deadline.elapsed_s:.1f} s"

    def saw(self, body: bytes | bytearray) -> None:
        """Take notice of all that has come so far."""
        if self._settled and self.settled_at is None and self._settled(bytes(body)):
            self.settled_at = time.monotonic()
            self._until = Deadline.after(self._listen_on_s)
