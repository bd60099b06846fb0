"""Deadlines don't move, and every wait says on expiry what it saw."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.core import deadline as module
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import WaitTimeout


class Clock:
    """A CLOCK_MONOTONIC that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        """Return the time, in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that `harness.core.deadline` sees instead of the real one."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_time_left_and_gone(clock: Clock) -> None:
    """What is left and what has gone add up to the limit, up to the end."""
    deadline = Deadline.after(5)
    seen = []
    for step in (0, 2, 2.5):
        clock.now += step
        seen.append((deadline.remaining_s, deadline.elapsed_s, deadline.expired))

    assert seen == [(5, 0, False), (3, 2, False), (0.5, 4.5, False)]


@pytest.mark.parametrize("late", [0.0, 0.5, 1000.0])
def test_an_expired_deadline_has_no_time_left(clock: Clock, late: float) -> None:
    """Never a negative time, which socket.settimeout() would refuse; what has gone goes on growing."""
    deadline = Deadline.after(5)
    clock.now += 5 + late

    assert (deadline.remaining_s, deadline.elapsed_s, deadline.expired) == (0.0, 5 + late, True)


def test_it_is_the_clock_of_systemd() -> None:
    """CLOCK_MONOTONIC, the clock of systemd's *TimestampMonotonic properties."""
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    started = Deadline.after(1).started_s

    assert before <= started <= time.clock_gettime(time.CLOCK_MONOTONIC)


def test_the_first_accepted_value_is_returned(clock: Clock) -> None:
    """It looks again until the value is taken, and no further."""
    values = iter("abcd")

    assert wait_until(lambda: next(values), lambda value: value == "c", Deadline.after(5), "c") == "c"
    assert next(values) == "d"
    assert clock.sleeps == [module.POLL_S] * 2


def test_one_look_is_always_taken(clock: Clock) -> None:
    """What is there already needs no time: neither a limit nor a pause."""
    assert wait_until(lambda: 7, lambda value: value == 7, Deadline.after(0), "seven") == 7
    assert clock.sleeps == []


def test_expiry_says_what_was_seen_last(clock: Clock) -> None:
    """The last look is at the deadline itself, and the last pause ends there."""

    def numbers() -> Iterator[int]:
        yield from range(1000)

    values = numbers()
    with pytest.raises(WaitTimeout) as caught:
        wait_until(lambda: next(values), lambda _value: False, Deadline.after(0.01), "a number")

    assert caught.value.awaited == "a number"
    assert caught.value.seen == 3
    assert caught.value.waited_s == pytest.approx(0.01)
    assert clock.sleeps == [module.POLL_S, module.POLL_S, pytest.approx(0.01 - 2 * module.POLL_S)]


def test_a_look_may_end_the_wait(clock: Clock) -> None:
    """An error of the look goes through at once: what was awaited can't come any more."""

    def look() -> int:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        wait_until(look, lambda _value: True, Deadline.after(5), "something")
    assert clock.sleeps == []


def test_a_real_wait_ends_in_time() -> None:
    """With the real clock a wait ends soon after its deadline, not at a multiple of something."""
    started = time.monotonic()
    with pytest.raises(WaitTimeout):
        wait_until(lambda: 0, bool, Deadline.after(0.1), "one")

    assert 0.1 <= time.monotonic() - started < 1
