"""Turns that the host has disturbed are done again; who disturbs a real machine so can't be asked to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from harness.activation.service import Service
from harness.core.transports import Transport
from harness.results.record import Role
from harness.timing import measure, timeline
from harness.timing.timeline import Mark, Timeline


@dataclass
class Counted:
    """A service whose nth cold activation takes n seconds."""

    rounds: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    requests: int = 0

    def start_listening(self) -> None: ...

    def stop_all(self) -> None: ...


def cold(service: Counted, _transport: Transport) -> Timeline:
    return timeline.build({Mark.CONNECT: 0.0, Mark.END: float(next(service.rounds))})


def warm(service: Counted, _transport: Transport) -> Timeline:
    service.requests += 1
    return timeline.build({Mark.CONNECT: 0.0, Mark.END: 0.001})


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time a `Counted` in place of a service."""
    monkeypatch.setattr(timeline, "cold", cold)
    monkeypatch.setattr(timeline, "warm", warm)


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
    assert taken(monkeypatch, service, measure._Rounds(done=4, quiet=4), *stolen) == kept
    assert next(service.rounds) == len(stolen) + 1


def test_on_a_busy_host_a_turn_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one round in four is quiet: what is seldom quiet now will not be at the second try."""
    service, rounds = Counted(), measure._Rounds()
    for kept in (1.0, 2.0, 3.0):
        assert taken(monkeypatch, service, rounds, 40) == kept
    assert taken(monkeypatch, service, rounds, 0) == 4.0
    assert (rounds.done, rounds.quiet) == (4, 1)
    assert taken(monkeypatch, service, rounds, 40) == 5.0
    assert taken(monkeypatch, service, measure._Rounds(done=7, quiet=2), 40, 4, 0) == 7.0


def taken(monkeypatch: pytest.MonkeyPatch, service: Counted, rounds: measure._Rounds, *stolen: int) -> float:
    """Return how long the cold activation took that is kept; so many ticks are stolen in one round after another."""
    # What was stolen before each round: the stops between them are no part of it.
    ticks = iter([tick for round, more in enumerate(stolen) for tick in (100 * round, 100 * round + more)])
    monkeypatch.setattr(measure, "_stolen", lambda: next(ticks))
    cold, warm = rounds.take(cast("Service", service), Role.CANDIDATE, Transport.TCP4)
    assert warm.whole_s == 0.001
    return cold.whole_s


@pytest.mark.parametrize(("first", "requests"), [(0, 1), (1000, measure.WARM_REQUESTS)], ids=["no time", "enough time"])
def test_warm_talks_take_no_longer_than_a_part_of_the_cold_one(first: int, requests: int) -> None:
    """One is there in any case."""
    service = Counted(itertools.count(first))
    _cold, warm, _stolen = measure._turn(cast("Service", service), Role.CANDIDATE, Transport.TCP4)
    assert (service.requests, warm.whole_s) == (requests, 0.001)


def test_the_kernels_count(tmp_path: Path) -> None:
    """The eighth number of all processors together; this machine's is there, and never falls."""
    file = tmp_path / "stat"
    file.write_text("cpu  11 12 13 14 15 16 17 18 19 20\ncpu0 1 2 3 4 5 6 7 8 9 10\n", encoding="ascii")
    assert measure._stolen(file) == 18
    assert measure._stolen() <= measure._stolen()
