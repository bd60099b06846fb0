"""Two results beside each other: numbers of two runs are shown, never judged.

Another day, another load and another machine move every number; only the gate, which runs both images by turns, judges.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from harness.errors import UsageError
from harness.record import Case, Environment, Kind, Results, Role, Series
from harness.report.outline import place_of_transport
from harness.report.terminal import Field, Style, table
from harness.report.text import NOTHING, case_name, line, ms, ratio

#: Fewer samples have no median that says anything.
_FEWEST = 2

_Key = tuple[Case, Kind, Role]


def view(one: Results, other: Results, style: Style | None = None) -> str:
    """Return the medians of each series that both runs have; raise UsageError where there is none to compare."""
    style = style or Style()
    ours, theirs = _by_key(one), _by_key(other)
    common = sorted(ours.keys() & theirs.keys(), key=_order)
    if not common:
        raise UsageError(
            "The two results have no series in common.",
            remedy="Compare runs that measured the same contract by the same activation and transport.",
            evidence={"first": _names(ours), "second": _names(theirs)},
        )
    if all(min(map(_count, (ours[key], theirs[key]))) < _FEWEST for key in common):
        raise UsageError(
            f"No series of the two results has {_FEWEST} samples in both.",
            remedy="Measure with more rounds.",
            evidence={"samples": "\n".join(f"{_name(k)}: {_count(ours[k])}, {_count(theirs[k])}" for k in common)},
        )
    rows = [[Field(title) for title in ("case", "first, ms", "n", "second, ms", "n", "second / first")]]
    rows += [_row(key, ours[key], theirs[key]) for key in common]
    alone = len(ours) + len(theirs) - 2 * len(common)
    return "\n".join(
        [
            *table(rows, style),
            "",
            *(style.plain(text) for text in _differences(one.environment, other.environment)),
            *([f"In one of the two only: {alone} series."] if alone else []),
            "These are two runs: the numbers are shown, not judged. Only two images in one run can be.",
        ]
    )


def _by_key(results: Results) -> Mapping[_Key, Series]:
    return {(one.case, one.kind, one.role): one for one in results.series}


def _order(key: _Key) -> tuple[object, ...]:
    case, kind, role = key
    return case.userland, case.contract, kind, case.activation, place_of_transport(case.transport), role


def _count(series: Series) -> int:
    return len(_totals(series))


def _totals(series: Series) -> list[float]:
    return [max(sample.at_ms.values()) for sample in series.samples if sample.at_ms]


def _name(key: _Key) -> str:
    case, kind, role = key
    return line(f"{case.contract}, {case_name(case)}, {kind}, {role}", 80)


def _names(found: Mapping[_Key, Series]) -> str:
    return "\n".join(map(_name, sorted(found, key=_order))) or "no series"


def _row(key: _Key, one: Series, other: Series) -> list[Field]:
    sides: list[Field] = []
    # The median only: an interval of the ratio would look like a verdict.
    medians = [statistics.median(_totals(side)) if _count(side) >= _FEWEST else None for side in (one, other)]
    for side, median in zip((one, other), medians, strict=True):
        sides += [Field(NOTHING if median is None else ms(median, key[1])), Field(str(_count(side)))]
    first, second = medians
    if first is None or second is None:
        return [Field(_name(key)), *sides, Field("too few samples")]
    return [Field(_name(key)), *sides, Field(ratio(second / first) if first else "the first is 0")]


def _differences(one: Environment, other: Environment) -> Iterator[str]:
    """Yield a sentence for everything in which the machines differ."""
    ours, theirs = (
        {
            "kernel": found.kernel,
            "machine": found.machine,
            "processors": str(found.cpus),
            "base": found.base,
            "guest": found.guest,
            **found.versions,
        }
        for found in (one, other)
    )
    for name in dict.fromkeys((*ours, *theirs)):
        first, second = (line(side.get(name, ""), 60) or "none" for side in (ours, theirs))
        if first != second:
            yield f"The {line(name, 40)} differs: {first}, {second}."
