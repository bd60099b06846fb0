"""The views of results.json as texts: what they show, and that no foreign text becomes anything but text."""

from __future__ import annotations

import html.parser
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from harness.core.text import shown
from harness.report import cells, junit, markdown, terminal
from harness.report import html as page
from harness.report.summary import summarize
from harness.report.terminal import Style
from harness.results.record import Outcome, Results, Role, Sample, Verdict
from tests.helpers import samples

#: Controls that no view may hold; tab and newline are text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffe\uffff]")

#: Numbers at the end of what a double can hold.
ENDLESS = 1.7e308


def tell(results: Results) -> list[str]:
    """Return every view of the results."""
    return [
        terminal.view(results),
        terminal.view(results, Style(unicode=False)),
        page.view(results),
        markdown.view(results),
        junit.view(results),
    ]


# --- all views --------------------------------------------------------------------------------------------------------


def test_hostile_texts_stay_text_in_every_view() -> None:
    for view in tell(samples.hostile()):
        assert not CONTROLS.search(view)
        assert "\\x1b[31m" in view or "\\x1b&#91;31m" in view or "&#92;x1b&#91;31m" in view


@pytest.mark.parametrize("make", [samples.empty, samples.results])
def test_every_view_is_a_pure_function(make: Callable[[], Results]) -> None:
    assert tell(make()) == tell(make())


def test_numbers_without_measure_break_no_view() -> None:
    marks = {"connect": 0.0, "exec": ENDLESS / 2, "reply": ENDLESS}
    still = {"connect": 0.0, "reply": 0.0}
    for at, ready in ((marks, ENDLESS), (still, 0.0), ({}, None), ({"reply": 1.0}, None)):
        one = samples.series(samples.case()).model_copy(update={"samples": (Sample(at_ms=at, ready_ms=ready),) * 6})
        tell(samples.empty().model_copy(update={"series": (one,)}))


def test_the_worst_outcome_of_a_place_is_shown() -> None:
    [echo, httpd] = summarize(samples.results()).images
    assert echo.cells["vsock", "host", "unit"].words == "skipped 1 of 2"
    assert echo.cells["udp6", "host", "generate"].words == "error"
    assert ("udp4", "host", "unit") not in httpd.cells
    assert echo.transports == ("tcp4", "tcp6", "udp4", "udp6", "unix", "vsock")


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        ({"tests", "comparisons", "budgets"}, Outcome.FAILED),
        ({"comparisons", "budgets"}, Outcome.FAILED),
        ({"comparisons"}, Verdict.REGRESSION),
        ({"budgets"}, Outcome.FAILED),
        (set(), Outcome.SKIPPED),
    ],
)
def test_the_verdict_is_the_worst_of_all(kept: set[str], verdict: object) -> None:
    whole = samples.results()
    gone = {name: () for name in {"tests", "comparisons", "budgets"} - kept}
    assert summarize(whole.model_copy(update=gone)).verdict is verdict


def test_an_inconclusive_run_is_no_good_one() -> None:
    whole = samples.results()
    tests = tuple(test for test in whole.tests if test.outcome is Outcome.PASSED)
    left = tuple(one for one in whole.comparisons if one.verdict is not Verdict.REGRESSION)
    run = summarize(whole.model_copy(update={"tests": tests, "comparisons": left, "budgets": ()}))
    assert run.verdict is Verdict.INCONCLUSIVE
    assert run.sentence == "29 tests: 29 passed. 1 inconclusive comparison."


def test_phases_are_medians_between_marks_that_all_samples_have() -> None:
    one = samples.series(samples.case()).model_copy(
        update={
            "samples": (
                Sample(at_ms={"connect": 0, "exec": 10, "reply": 30}, ready_ms=9),
                Sample(at_ms={"connect": 0, "exec": 20, "reply": 30}),
                Sample(at_ms={"connect": 0, "exec": 12, "job": 1, "reply": 42}, ready_ms=11),
                Sample(at_ms={}),
            )
        }
    )
    [image] = summarize(samples.empty().model_copy(update={"series": (one,)})).images
    found = image.timings[0].timelines[Role.CANDIDATE]
    assert [(phase.name, phase.start_ms, phase.end_ms, phase.took_ms) for phase in found.phases] == [
        ("connect -> exec", 0, 12, 12),
        ("exec -> reply", 12, 30, 20),
    ]
    assert (found.median_ms, found.ready_ms) == (30, 10)


# --- terminal ---------------------------------------------------------------------------------------------------------


def test_the_summary_names_what_grew_and_what_failed() -> None:
    shown = terminal.view(samples.results())
    assert re.search(r"✗ regression +'exec -> reply' by 30\.6 ms", shown)
    assert "✗ exceeds 170" in shown
    assert "? inconclusive" in shown
    assert "bundle: test_replies.py--test_reply-httpd-launcher-tcp6" in shown
    assert "– skipped 6: This machine lacks the capability 'vsock_loopback'" in shown  # noqa: RUF001
    assert shown.splitlines()[-1].startswith("✗ failed: 37 tests: 1 failed, 1 with an error, 29 passed and 6 skipped.")


def test_the_summary_has_only_what_is_there() -> None:
    whole = samples.results()
    shown = terminal.view(whole.model_copy(update={"series": (), "comparisons": (), "budgets": ()}))
    assert "times" not in shown
    shown = terminal.view(whole.model_copy(update={"comparisons": (), "budgets": ()}))
    assert "verdict" not in shown
    assert "budget" not in shown
    assert terminal.view(samples.empty()) == "– skipped: No tests."  # noqa: RUF001


def test_a_plain_terminal_gets_ascii_and_no_colours() -> None:
    for results in (samples.results(), samples.hostile()):
        shown = terminal.view(results, Style(unicode=False))
        assert shown.isascii()
        assert "\x1b" not in shown
    assert "x regression" in terminal.view(samples.results(), Style(unicode=False))


def test_colours_change_nothing_but_colours() -> None:
    painted = terminal.view(samples.results(), Style(colour=True))
    assert "\x1b[31m✗ failed\x1b[0m" in painted
    assert re.sub("\x1b\\[[0-9]+m", "", painted) == terminal.view(samples.results())


# --- the page as text; tests/live/test_report_page.py has it in a browser ---------------------------------------


class Elements(html.parser.HTMLParser):
    """Every element of a page, and whether each one ends where it should."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        """Return the values of an attribute."""
        return [attributes[name] or "" for _, attributes in self.found if name in attributes]


@pytest.mark.parametrize("make", [samples.results, samples.hostile, samples.empty])
def test_the_page_is_whole_and_loads_nothing(make: Callable[[], Results]) -> None:
    found = Elements(page.view(make()))
    assert found.open == []
    assert not {"script", "img", "iframe", "link", "form", "object", "base"} & {tag for tag, _ in found.found}
    attributes = {name for _, attributes in found.found for name in attributes}
    assert not {name for name in attributes if name.startswith("on")} | ({"src", "style"} & attributes)
    policy = next(value for value in found.values("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    identities = found.values("id")
    assert len(identities) == len(set(identities))
    named = {name for value in found.values("aria-labelledby") for name in value.split()}
    assert named <= set(identities)
    for address in found.values("href"):
        assert re.match(r"#[a-z0-9-]+$|\./[\w.%/~-]+$", address), address
        assert not address.startswith("#") or address[1:] in identities


@pytest.mark.parametrize(
    ("bundle", "folder", "address"),
    [
        ("a b", "", "./a%20b/"),
        ("a", "../artifacts", "../artifacts/a/"),
        ("a", "..", "../a/"),
        ("a", "/mnt/x:y", "/mnt/x%3Ay/a/"),
        ("javascript:alert(1)", "", "./javascript%3Aalert%281%29/"),
        ("//host/x", "", None),
        ("/etc/passwd", "", None),
        ("x/../../y", "", None),
        ("a\nb", "", None),
    ],
)
def test_a_bundles_address_leads_below_the_results(bundle: str, folder: str, address: str | None) -> None:
    assert page.bundle_address(bundle, folder) == address


def test_long_messages_are_cut_with_a_word() -> None:
    tests = samples.results().tests
    failed = next(test for test in tests if test.outcome is Outcome.FAILED).model_copy(update={"message": "x" * 30_000})
    shown = page.view(samples.empty().model_copy(update={"tests": (failed,)}))
    assert "[cut here; the results have all of it]" in shown
    assert len(shown) < 30_000


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_the_verdict_is_the_first_line() -> None:
    lines = markdown.view(samples.results()).splitlines()
    assert lines[0] == "## ✗ Socket activation: failed"
    assert "| tcp6 | ✓ passed | ✗ failed | ✓ passed |" in lines
    assert any("| ✗ regression | 'exec -&#62; reply' by 30.6 ms |" in line for line in lines)


def test_markdown_of_hostile_texts_has_no_markup_of_theirs() -> None:
    shown = markdown.view(samples.hostile())
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", shown, flags=re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"</?\w+", outside)) <= {
        f"{end}{tag}" for end in ("<", "</") for tag in ("details", "summary", "code", "sub")
    }
    assert "```" not in outside
    assert "](" not in outside
    tables = [line for line in outside.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {3, 10}


def test_a_summary_over_the_limit_is_cut_with_a_sentence() -> None:
    whole = samples.results()
    failed = next(test for test in whole.tests if test.outcome is Outcome.FAILED)
    many = tuple(failed.model_copy(update={"message": "ü" * 9000, "id": f"x::y{n}"}) for n in range(100))
    shown = markdown.view(whole.model_copy(update={"tests": many}))
    assert 1_000_000 < len(shown.encode()) <= markdown.LIMIT_BYTES
    assert shown.endswith("Cut here: a summary has at most 1 MiB. The page and the results have all of it._\n")
    assert shown.count("<details>") == shown.count("</details>")


# --- JUnit ------------------------------------------------------------------------------------------------------------


def shape(root: ElementTree.Element) -> dict[str, tuple[set[str], set[str]]]:
    """Return, for each element, its attributes and the elements in it."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for element in root.iter():
        attributes, children = found.setdefault(element.tag, (set(), set()))
        attributes |= set(element.keys())
        children |= {child.tag for child in element}
    return found


def test_junit_has_the_form_of_pytests_own(pytester: pytest.Pytester) -> None:
    """Readers take what pytest writes: ours has no element and no attribute that pytest's has not there."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def broken(): raise RuntimeError
        def test_passed(record_property): record_property("contract", "echo")
        def test_failed(): assert False
        def test_skipped(): pytest.skip("no")
        def test_error(broken): pass
        """
    )
    pytester.runpytest_subprocess("--junitxml=own.xml", "-p", "no:cacheprovider", "-o", "junit_family=xunit1")
    theirs = shape(ElementTree.parse(pytester.path / "own.xml").getroot())  # noqa: S314 -- pytest wrote it
    ours = shape(ElementTree.fromstring(junit.view(samples.results())))  # noqa: S314 -- we wrote it
    assert ours.keys() == theirs.keys()
    for tag, (attributes, children) in ours.items():
        assert attributes <= theirs[tag][0], tag
        assert children <= theirs[tag][1], tag


def test_junit_counts_and_names_as_pytest_does() -> None:
    root = ElementTree.fromstring(junit.view(samples.results()))  # noqa: S314 -- we wrote it
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["suites/test_replies.py", "suites/test_tutorial.py", "gate"]
    replies = suites["suites/test_replies.py"]
    assert [replies.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["36", "1", "1", "6"]
    case = next(case for case in replies if case.get("name") == "test_reply[echo-unit-tcp4]")
    assert case.get("classname") == "suites.test_replies"
    properties = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert properties["contract"] == "echo"
    assert properties["cold.ratio"] == "1.219"
    assert properties["cold.verdict"] == "regression"
    assert properties["warm.candidate_ms"] == "0.418"


def test_all_tables_show_the_same_cells() -> None:
    """One table of cells, four renderings: what a case measured stands in each of them."""
    results = samples.results()
    timing = next(timing for image in summarize(results).images for timing in image.timings if timing.comparison)
    expected = list(cells.cells(timing))
    assert {"candidate_ms", "baseline_ms", "ratio", "ratio_low", "ratio_high", "verdict"} <= {
        one.key for one in expected
    }
    properties = [prop.get("value") for prop in ElementTree.fromstring(junit.view(results)).iter("property")]  # noqa: S314
    for cell in expected:
        assert cell.text in terminal.view(results)
        assert markdown.safe(cell.text) in markdown.view(results)
        assert cell.text.replace(" -> ", " → ").replace("'", "&#x27;") in page.view(results).replace("&#39;", "&#x27;")
        assert cell.text in properties


def test_a_regression_and_a_budget_are_failures_in_junit_and_doubt_is_skipped() -> None:
    root = ElementTree.fromstring(junit.view(samples.results()))  # noqa: S314 -- we wrote it
    gate = next(suite for suite in root if suite.get("name") == junit.GATE)
    assert [gate.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["8", "2", "0", "1"]
    messages = [element.get("message", "") for element in gate.iter("failure")]
    assert "The phase 'exec -> reply' grew most." in messages[0]
    assert messages[1] == "The median of 180.9 ms exceeds the budget of 170.0 ms."


def test_junit_of_classes() -> None:
    one = samples.results().tests[0].model_copy(update={"id": "a/b.py::TestX::test_y[::1]"})
    root = ElementTree.fromstring(junit.view(samples.empty().model_copy(update={"tests": (one,)})))  # noqa: S314
    case = next(root.iter("testcase"))
    assert (case.get("classname"), case.get("name")) == ("a.b.TestX", "test_y[::1]")


def test_hostile_junit_is_well_formed_and_keeps_the_text() -> None:
    root = ElementTree.fromstring(junit.view(samples.hostile()))  # noqa: S314 -- we wrote it
    assert next(root.iter("failure")).text == shown(samples.HOSTILE)
