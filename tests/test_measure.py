"""Turns that the host has disturbed are done again; who disturbs a real machine so can't be asked to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from harness import measure, timeline
from harness.record import Role
from harness.service import Service
from harness.timeline import Mark, Timeline
from harness.transports import Transport


@dataclass
class Counted:
    """A service whose nth cold activation takes n seconds."""

    turns: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    talks: int = 0

    def listen(self) -> None: ...

    def pause(self) -> None: ...

    def time_cold(self, _transport: Transport) -> Timeline:
        return timeline.build({Mark.CONNECT: 0.0, Mark.END: float(next(self.turns))})

    def time_warm(self, _transport: Transport) -> Timeline:
        self.talks += 1
        return timeline.build({Mark.CONNECT: 0.0, Mark.END: 0.001})


@pytest.mark.parametrize(
    ("stolen", "kept"),
    [
        pytest.param((0,), 1.0, id="nothing"),
        pytest.param((1,), 1.0, id="too little to tell"),
        pytest.param((2, 0), 2.0, id="once"),
        pytest.param((40, 3, 0), 3.0, id="twice"),
        pytest.param((40, 3, 7), 2.0, id="always"),
    ],
)
def test_a_disturbed_turn_is_done_again(monkeypatch: pytest.MonkeyPatch, stolen: tuple[int, ...], kept: float) -> None:
    """At most twice; then the one counts from which the least was taken."""
    service = Counted()
    assert taken(monkeypatch, service, measure._Turns(done=4, quiet=4), *stolen) == kept
    assert next(service.turns) == len(stolen) + 1


def test_on_a_busy_host_a_turn_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one turn in four is quiet: what is seldom quiet now will not be at the second try."""
    service, turns = Counted(), measure._Turns()
    for kept in (1.0, 2.0, 3.0):
        assert taken(monkeypatch, service, turns, 40) == kept
    assert taken(monkeypatch, service, turns, 0) == 4.0
    assert (turns.done, turns.quiet) == (4, 1)
    assert taken(monkeypatch, service, turns, 40) == 5.0
    assert taken(monkeypatch, service, measure._Turns(done=7, quiet=2), 40, 4, 0) == 7.0


def taken(monkeypatch: pytest.MonkeyPatch, service: Counted, turns: measure._Turns, *stolen: int) -> float:
    """Return how long the cold activation took that is kept; so many ticks are stolen in one turn after another."""
    # What was stolen before each turn: the stops between them are no part of it.
    ticks = iter([tick for turn, more in enumerate(stolen) for tick in (100 * turn, 100 * turn + more)])
    monkeypatch.setattr(measure, "_stolen", lambda: next(ticks))
    cold, warm = turns.take(cast("Service", service), Role.CANDIDATE, Transport.TCP4)
    assert warm.whole_s == 0.001
    return cold.whole_s


@pytest.mark.parametrize(("first", "talks"), [(0, 1), (1000, measure.WARM_TALKS)], ids=["no time", "enough time"])
def test_warm_talks_take_no_longer_than_a_part_of_the_cold_one(first: int, talks: int) -> None:
    """One is there in any case."""
    service = Counted(itertools.count(first))
    _cold, warm, _stolen = measure._turn(cast("Service", service), Role.CANDIDATE, Transport.TCP4)
    assert (service.talks, warm.whole_s) == (talks, 0.001)


def test_the_kernels_count(tmp_path: Path) -> None:
    """The eighth number of all processors together; this machine's is there, and never falls."""
    file = tmp_path / "stat"
    file.write_text("cpu  11 12 13 14 15 16 17 18 19 20\ncpu0 1 2 3 4 5 6 7 8 9 10\n", encoding="ascii")
    assert measure._stolen(file) == 18
    assert measure._stolen() <= measure._stolen()
