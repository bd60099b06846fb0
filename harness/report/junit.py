"""JUnit XML as pytest writes it (its family xunit1, which has properties) and as CI systems read it."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement

from harness.core.text import shown
from harness.report.cells import cells
from harness.report.summary import Timing, summarize
from harness.report.text import case_name, line, ms, ratio
from harness.results.record import BudgetCheck, Case, Comparison, Outcome, Results, Test, Verdict

#: Element that an outcome adds to a test.
_ELEMENTS = {Outcome.FAILED: "failure", Outcome.ERROR: "error", Outcome.SKIPPED: "skipped"}

#: The longest attribute that is a sentence; the element's text has all of it.
_SENTENCE = 500

#: The name of the suite of the gate's verdicts.
GATE = "gate"


def view(results: Results) -> str:
    """Return the document: a suite for each file of tests, and one for the gate, where something was measured."""
    timings = {(timing.case, timing.kind): timing for image in summarize(results).images for timing in image.timings}
    root = Element("testsuites", name=results.tool)
    for file, tests in itertools.groupby(sorted(results.tests, key=_file), key=_file):
        suite = SubElement(root, "testsuite", name=shown(file))
        for test in tests:
            _test(suite, test, [timing for (case, _), timing in timings.items() if case == test.case])
        _count(suite, results)
    if results.comparisons or results.budgets:
        suite = SubElement(root, "testsuite", name=GATE)
        verdicts: list[Comparison | BudgetCheck] = [*results.comparisons, *results.budgets]
        for found in verdicts:
            _verdict(suite, found, timings[found.case, found.kind])
        _count(suite, results)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _file(test: Test) -> str:
    return test.id.partition("::")[0]


def _test(suite: Element, test: Test, timings: Sequence[Timing]) -> None:
    # pytest's own names: the file's path with points is a package, what stands between is a class.
    file, _, rest = test.id.partition("::")
    head, bracket, parameters = rest.partition("[")
    *classes, name = head.split("::")
    package = file.removesuffix(".py").replace("/", ".")
    element = _case(suite, ".".join([package, *classes]), name + bracket + parameters, test.duration_s)
    facts = {
        **{"blame": test.blame, "bundle": test.bundle, "claim": test.claim},
        **{"promise": test.promise, "broken": test.broken, "waived": test.waived},
    }
    _properties(element, {**_about(test.case), **{name: text for name, text in facts.items() if text}})
    for timing in timings:
        _properties(element, _times(timing))
    if tag := _ELEMENTS.get(test.outcome):
        _ending(element, tag, test.message)


def _verdict(suite: Element, found: Comparison | BudgetCheck, timing: Timing) -> None:
    """Add a verdict as a test: what can't be decided counts as skipped, so that it is never silently green."""
    what = "comparison" if isinstance(found, Comparison) else "budget"
    element = _case(suite, f"{GATE}.{what}", f"{found.case.contract}, {case_name(found.case)}, {found.kind}", 0.0)
    _properties(element, {**_about(found.case), **_times(timing)})
    if isinstance(found, BudgetCheck):
        if not found.within:
            limit, median = (ms(value, found.kind) for value in (found.limit_ms, found.median_ms))
            _ending(element, "failure", f"The median of {median} ms exceeds the budget of {limit} ms.")
    elif found.verdict is not Verdict.PASS:
        sentence = (
            f"{found.verdict}: the ratio is {ratio(found.ratio)} ({ratio(found.low)} to {ratio(found.high)}), "
            f"{ratio(found.max_slowdown)} is allowed."
        )
        if found.grown:
            sentence += f" The phase '{found.grown}' grew most."
        _ending(element, "failure" if found.verdict is Verdict.REGRESSION else "skipped", sentence)


def _case(suite: Element, classname: str, name: str, duration_s: float) -> Element:
    return SubElement(suite, "testcase", classname=shown(classname), name=shown(name), time=f"{duration_s:.3f}")


def _about(case: Case | None) -> Mapping[str, str]:
    return {key: str(value) for key, value in case} if case else {}


def _times(timing: Timing) -> Mapping[str, str]:
    return {f"{timing.kind}.{cell.key}": cell.text for cell in cells(timing)}


def _properties(element: Element, values: Mapping[str, str]) -> None:
    if not values:
        return
    properties = element.find("properties")
    if properties is None:
        properties = SubElement(element, "properties")
    for name, value in values.items():
        SubElement(properties, "property", name=name, value=shown(value))


def _ending(element: Element, tag: str, message: str) -> None:
    SubElement(element, tag, message=line(message, _SENTENCE)).text = shown(message)


def _count(suite: Element, results: Results) -> None:
    cases = suite.findall("testcase")
    counts = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    suite.set("tests", str(len(cases)))
    for name, tag in counts.items():
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")
    suite.set("timestamp", shown(results.started))
