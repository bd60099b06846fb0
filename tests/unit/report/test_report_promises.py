"""The one sentence for each image and activation."""

from __future__ import annotations

from typing import Any

from harness.report import html, junit, markdown, terminal
from harness.report.promises import verdicts
from harness.results.record import Case, Outcome, Test
from tests.helpers import samples


def tried(promise: str, outcome: Outcome = Outcome.PASSED, contract: str = "a", **more: Any) -> Test:
    """Return the result of one promise."""
    case = Case(contract=contract, activation="unit", transport="tcp4", userland=more.pop("userland", "host"))
    return Test(id=f"{contract}-{promise}", outcome=outcome, duration_s=1.0, case=case, promise=promise, **more)


def test_all_kept() -> None:
    assert verdicts([tried("crowd"), tried("stop"), tried("stop")]) == ["a by unit: kept all of 2 promises"]


def test_the_first_broken_promise_is_told_and_all_are_named() -> None:
    broken = {"outcome": Outcome.FAILED}
    found = verdicts(
        [tried("quiet", broken="late", **broken), tried("crowd"), tried("flat", broken="it grew", **broken)]
    )
    assert found == ["a by unit: broke 2 of 3 promises (flat, quiet): it grew"]


def test_a_cold_start_that_failed_is_the_verdict() -> None:
    cold = tried("stop", Outcome.FAILED, broken="over tcp4, it ended", cold=True)
    skipped = tried("crowd", Outcome.SKIPPED)
    later = tried("every_socket", Outcome.FAILED, broken="something else")
    assert verdicts([later, cold, skipped]) == ["a by unit: the cold start failed: over tcp4, it ended"]


def test_an_error_of_another_kind_is_told_by_its_last_line() -> None:
    found = verdicts([tried("stop", Outcome.ERROR, message="first\nTypeError: x"), tried("flat", Outcome.FAILED)])
    assert found == ["a by unit: broke 2 of 2 promises (flat, stop): see the test"]
    assert verdicts([tried("stop", Outcome.ERROR, message="first\nTypeError: x")])[0].endswith("(stop): TypeError: x")


def test_what_breaks_stands_first() -> None:
    found = verdicts([tried("stop"), tried("stop", Outcome.FAILED, "b", broken="no end")])
    assert [line.partition(" ")[0] for line in found] == ["b", "a"]


def test_a_waiver_is_told_with_its_reason_and_whether_it_held() -> None:
    one = tried("stop", Outcome.SKIPPED, waived="by design")
    other = tried("flat", waived="never tried")
    assert verdicts([tried("quiet"), one, other]) == [
        "a by unit: kept all of 1 promises; waived stop (by design); waived and kept flat (never tried)"
    ]


def test_a_userland_is_told() -> None:
    assert verdicts([tried("stop", userland="trixie")]) == ["a by unit in trixie: kept all of 1 promises"]


def test_other_tests_have_no_verdict() -> None:
    assert verdicts([Test(id="x", outcome=Outcome.FAILED, duration_s=1.0)]) == []


def test_every_view_has_the_sentence_and_the_reason_of_a_waiver() -> None:
    reason = "one client <at> a time"
    results = samples.results()
    tests = (tried("stop"), tried("rude_clients", Outcome.SKIPPED, waived=reason))
    shown = results.model_copy(update={"tests": (*results.tests, *tests)})
    assert f"a by unit: kept all of 1 promises; waived rude_clients ({reason})" in terminal.view(shown)
    assert "waived rude&#95;clients (one client &#60;at&#62; a time)" in markdown.view(shown)
    assert "waived rude_clients (one client &lt;at&gt; a time)" in html.view(shown)
    assert 'name="waived" value="one client &lt;at&gt; a time"' in junit.view(shown)
    assert "promises" not in terminal.view(results)
