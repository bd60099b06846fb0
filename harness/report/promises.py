"""One verdict for each image and activation of a run, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.contract import Promise
from harness.core.userland import HOST
from harness.results.record import Outcome, Test

_ORDER = {str(promise): number for number, promise in enumerate(Promise)}


def verdicts(tests: Iterable[Test]) -> list[str]:
    """Return a line per image, activation and userland whose promises were tried, those that broke one first."""
    grouped: dict[tuple[str, str], list[Test]] = {}
    for test in tests:
        if test.promise and test.case:
            where = "" if test.case.userland == HOST.name else f" in {test.case.userland}"
            grouped.setdefault((test.case.contract, f"{test.case.activation}{where}"), []).append(test)
    lines = [
        (_broken(group) != [], f"{contract} by {way}: {_verdict(group)}") for (contract, way), group in grouped.items()
    ]
    return [line for _red, line in sorted(lines, key=lambda item: not item[0])]


def _broken(group: Sequence[Test]) -> list[Test]:
    """Return the tests that failed, in the order in which a person wants to know."""
    failed = (test for test in group if test.outcome in (Outcome.FAILED, Outcome.ERROR))
    return sorted(failed, key=lambda test: (not test.cold, _ORDER.get(test.promise, 0)))


def _verdict(group: Sequence[Test]) -> str:
    tried = {test.promise for test in group if test.outcome is not Outcome.SKIPPED and not test.waived}
    if broken := _broken(group):
        first = broken[0].broken or (broken[0].message.splitlines() or ["see the test"])[-1]
        if broken[0].cold:
            return f"the cold start failed: {first}"
        names = ", ".join(dict.fromkeys(test.promise for test in broken))
        return f"broke {len({test.promise for test in broken})} of {len(tried)} promises ({names}): {first}"
    more = "".join(f"; {line}" for line in _waived(group))
    return (f"kept all of {len(tried)} promises" if tried else "none of its promises was tried") + more


def _waived(group: Sequence[Test]) -> Iterator[str]:
    """Yield what was waived, with the reason, and whether it held all the same."""
    waived: dict[str, list[Test]] = {}
    for test in group:
        if test.waived:
            waived.setdefault(test.promise, []).append(test)
    for promise, tests in waived.items():
        held = all(test.outcome is Outcome.PASSED for test in tests)
        yield f"waived {'and kept ' if held else ''}{promise} ({tests[0].waived})"
