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

    def listen(self) -> None: ...

    def pause(self) -> None: ...

    def time_cold(self, _transport: Transport) -> Timeline:
        return timeline.build({Mark.CONNECT: 0.0, Mark.END: float(next(self.turns))})

    def time_warm(self, _transport: Transport) -> Timeline:
        return timeline.build({Mark.CONNECT: 0.0, Mark.END: 0.001})


@pytest.mark.parametrize(
    ("stolen", "kept"),
    [
        pytest.param((0,), 1.0, id="nothing"),
        pytest.param((1,), 1.0, id="too little to tell"),
        pytest.param((2, 0), 2.0, id="once"),
        pytest.param((40, 3, 0), 3.0, id="twice"),
        pytest.param((40, 3, 7), 3.0, id="always"),
    ],
)
def test_a_disturbed_turn_is_done_again(monkeypatch: pytest.MonkeyPatch, stolen: tuple[int, ...], kept: float) -> None:
    """At most twice, so that a machine whose host is always busy is measured all the same."""
    ticks = iter([tick for total, more in zip(_totals(stolen), stolen, strict=True) for tick in (total, total + more)])
    monkeypatch.setattr(measure, "_stolen", lambda: next(ticks))
    service = Counted()
    cold, warm = measure._quiet_turn(cast("Service", service), Role.CANDIDATE, Transport.TCP4)
    assert (cold.whole_s, warm.whole_s) == (kept, 0.001)
    assert next(service.turns) == kept + 1
    assert next(ticks, None) is None


def _totals(stolen: tuple[int, ...]) -> list[int]:
    """Return what was stolen before each turn; the stops between them are no part of it."""
    return [100 * turn for turn in range(len(stolen))]


def test_the_kernels_count(tmp_path: Path) -> None:
    """The eighth number of all processors together; this machine's is there, and never falls."""
    file = tmp_path / "stat"
    file.write_text("cpu  11 12 13 14 15 16 17 18 19 20\ncpu0 1 2 3 4 5 6 7 8 9 10\n", encoding="ascii")
    assert measure._stolen(file) == 18
    assert measure._stolen() <= measure._stolen()
