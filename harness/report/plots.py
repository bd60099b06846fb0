"""The plots as SVG, computed here: a timeline, two distributions, an interval.

They have no `viewBox`: positions along the screen are percentages, so that plots get narrower and their text does not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.markup import Markup, element
from harness.report.summary import Timeline, Timing
from harness.report.text import ms, ratio
from harness.results.record import Comparison, Role

#: A phase narrower than this has no room for its number.
_NARROW = 3.5

#: Samples drawn as dots; of more, every nth.
_DOTS = 300

#: Where the dots of neighbouring samples lie above each other: the golden section spreads any number of them evenly.
_GOLDEN = (math.sqrt(5) - 1) / 2

#: Heights in CSS pixels.
_LABEL, _BAR, _AXIS, _STRIP = 24, 24, 28, 22


#: The end of every axis; what lies beyond it leaves the plot.
_LONGEST = 1e12


@dataclass(frozen=True, slots=True)
class _Scale:
    """What of an axis is shown."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value lies, in percent."""
        return (value - self.low) / (self.high - self.low) * 100

    def at(self, value: float) -> str:
        """Return where a value lies, as SVG has it."""
        return f"{self.share(value):.2f}%"

    def ticks(self) -> Iterator[float]:
        """Yield at most six round values."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        for index in range(math.ceil(self.low / step), math.floor(self.high / step) + 1):
            yield index * step


def _scale(values: Sequence[float], *, zero: bool = False) -> _Scale:
    values = [min(value, _LONGEST) for value in values]
    low, high = (0.0 if zero else min(values)), max(values)
    # Samples that are all the same still need an axis.
    room = (high - low) * 0.04 or max(abs(high) * 0.1, 0.001)
    return _Scale(low if zero else low - room, high + room)


def waterfall(timing: Timing, identity: str) -> Markup:
    """Return the medians of the marks as bars from the client's connect on, the candidate's above the baseline's."""
    rows = _by_role(timing)
    scale = _scale([phase.end_ms for _, one in rows for phase in one.phases] or [1.0], zero=True)
    parts, top = [], 0
    for role, one in rows:
        parts.append(_label(role, f"{ms(one.median_ms, timing.kind)} ms", top))
        parts += _bar(one, scale, top + _LABEL, role, timing)
        top += _LABEL + _BAR + 12
    description = "; ".join(
        f"{role}: " + ", ".join(f"{phase.name} {ms(phase.took_ms, timing.kind)} ms" for phase in one.phases)
        for role, one in rows
    )
    return _svg(f"Timeline of {timing.name}", description, top, scale, parts, identity)


def _bar(one: Timeline, scale: _Scale, top: int, role: Role, timing: Timing) -> Iterator[Markup]:
    grown = timing.grown.phase if timing.grown else None
    for phase in one.phases:
        number = timing.phase_names.index(phase.name) + 1
        width = scale.share(phase.end_ms) - scale.share(phase.start_ms)
        tone = "grown" if phase.name == grown and role is Role.CANDIDATE else f"{role} tone{number % 2}"
        yield element("rect", x=scale.at(phase.start_ms), y=top, width=f"{width:.2f}%", height=_BAR, class_=tone)
        if width >= _NARROW:
            middle = scale.at((phase.start_ms + phase.end_ms) / 2)
            yield element("text", str(number), x=middle, y=top + _BAR / 2 + 4, class_="inbar", text_anchor="middle")
    if one.ready_ms is not None and one.ready_ms <= scale.high:
        at = scale.at(one.ready_ms)
        yield element("line", x1=at, x2=at, y1=top - 5, y2=top + _BAR + 5, class_="halo")
        yield element("line", x1=at, x2=at, y1=top - 5, y2=top + _BAR + 5, class_="ready")


def distribution(timing: Timing, identity: str) -> Markup:
    """Return every sample as a dot, with the quartiles as a box."""
    rows = _by_role(timing)
    scale = _scale([total for _, one in rows for total in one.totals_ms])
    parts, top = [], 0
    for role, one in rows:
        parts.append(_label(role, f"n = {len(one.totals_ms)}", top))
        parts += _strip(one.totals_ms, scale, top + _LABEL, role)
        top += _LABEL + _STRIP + 6
    description = "; ".join(
        f"{role}: {len(one.totals_ms)} samples from {ms(min(one.totals_ms), timing.kind)} to "
        f"{ms(max(one.totals_ms), timing.kind)} ms, median {ms(one.median_ms, timing.kind)} ms"
        for role, one in rows
    )
    return _svg(f"Distribution of {timing.name}", description, top, scale, parts, identity)


def _strip(values: Sequence[float], scale: _Scale, top: int, role: Role) -> Iterator[Markup]:
    ordered = sorted(values)
    if len(ordered) > 1:
        low, _, high = statistics.quantiles(ordered, method="inclusive")
        width = f"{scale.share(high) - scale.share(low):.2f}%"
        yield element("rect", x=scale.at(low), y=top + 1, width=width, height=_STRIP - 2, class_=f"{role} box")
    for index, value in enumerate(ordered[:: math.ceil(len(ordered) / _DOTS)]):
        height = top + 5 + (_STRIP - 10) * (index * _GOLDEN % 1)
        yield element("circle", cx=scale.at(value), cy=f"{height:.1f}", r=2.5, class_=f"{role} dot")
    middle = scale.at(statistics.median(ordered))
    yield element("line", x1=middle, x2=middle, y1=top - 1, y2=top + _STRIP + 1, class_=f"{role} median")


def interval(found: Comparison, name: str, identity: str) -> Markup:
    """Return the ratio with its interval, against no difference and the slowdown allowed."""
    scale = _scale([found.low, found.high, found.ratio, 1.0, found.max_slowdown])
    middle, bottom = 16, 32
    parts = [
        *_upright(scale.at(1.0), bottom, "equal"),
        *_upright(scale.at(found.max_slowdown), bottom, "limit"),
        element("line", x1=scale.at(found.low), x2=scale.at(found.high), y1=middle, y2=middle, class_="interval"),
        *(
            element("line", x1=scale.at(end), x2=scale.at(end), y1=middle - 5, y2=middle + 5, class_="interval")
            for end in (found.low, found.high)
        ),
        element("circle", cx=scale.at(found.ratio), cy=middle, r=5, class_="point"),
    ]
    description = (
        f"Ratio {ratio(found.ratio)}, interval from {ratio(found.low)} to {ratio(found.high)}; "
        f"allowed is {ratio(found.max_slowdown)}."
    )
    return _svg(f"Ratio of candidate to baseline, {name}", description, bottom, scale, parts, identity)


def _upright(at: str, height: int, kind: str) -> Iterator[Markup]:
    yield element("line", x1=at, x2=at, y1=0, y2=height, class_=kind)


def _by_role(timing: Timing) -> list[tuple[Role, Timeline]]:
    return [(role, timing.timelines[role]) for role in timing.roles]


def _label(role: Role, value: str, top: int) -> Markup:
    return element("text", element("tspan", role, class_="role"), f"  {value}", x="0", y=top + 14)


def _svg(title: str, description: str, height: int, scale: _Scale, parts: Sequence[Markup], identity: str) -> Markup:
    names = f"{identity}-title {identity}-desc"
    return element(
        "svg",
        element("title", title, id=f"{identity}-title"),
        element("desc", description, id=f"{identity}-desc"),
        *_axis(scale, height),
        *parts,
        role="img",
        aria_labelledby=names,
        width="100%",
        height=height + _AXIS,
        class_="plot",
    )


def _axis(scale: _Scale, top: int) -> Iterator[Markup]:
    yield element("line", x1="0", x2="100%", y1=top + 2, y2=top + 2, class_="axis")
    for value in scale.ticks():
        at, share = scale.at(value), scale.share(value)
        yield element("line", x1=at, x2=at, y1=0, y2=top + 6, class_="grid")
        # No text leaves the plot.
        anchor = "start" if share < 6 else "end" if share > 94 else "middle"
        yield element("text", f"{value:g}", x=at, y=top + 20, class_="tick", text_anchor=anchor)
