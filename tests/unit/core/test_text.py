"""Whatever a stranger has written, no character of it acts on a terminal, a reader or a CI runner."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import HarnessError
from harness.core.text import shown
from harness.results.record import Outcome, Test

#: What acts, and how it is shown.
ACTING = {
    "\x1b[2J": r"\x1b[2J",
    "\x1b]0;passed\x07": r"\x1b]0;passed\x07",
    "\x9b2J": r"\x9b2J",
    "line\rother": r"line\x0dother",
    "\x00": r"\x00",
    "\u202egnp.exe": r"\u202egnp.exe",
    "a\u2028b": r"a\u2028b",
    "\u200bhidden": r"\u200bhidden",
    "\udcff": r"\udcff",
    "\U000e0041": r"\U000e0041",
    "\uffff": r"\uffff",
    "::error file=a::b": r"\x3a:error file=a::b",
    "a\n  ::set-output name=x::1": "a\n  \\x3a:set-output name=x::1",
    "a ##[command]b": r"a \x23#[command]b",
    "::stop-commands::x": r"\x3a:stop-commands::x",
}

#: What a reader needs as it is.
HARMLESS = (
    "",
    "two\nlines\tof text",
    "żółć 日本語 ✓ 🦭",
    "::1 is an address",
    "a::b::c",
    "# heading",
    r"\x1b",
)


@pytest.mark.parametrize("text", ACTING, ids=ascii)
def test_what_acts_is_made_visible(text: str) -> None:
    assert shown(text) == ACTING[text]


@pytest.mark.parametrize("text", HARMLESS, ids=ascii)
def test_what_only_shows_stays(text: str) -> None:
    assert shown(text) == text


@given(st.one_of(st.binary().map(lambda data: data.decode(errors="surrogateescape")), st.text()))
def test_nothing_acts_any_more(text: str) -> None:
    """Of any bytes; and what is shown can be encoded, stays the same when shown again, and has the same lines."""
    found = shown(text)
    kinds = {unicodedata.category(character) for character in found if character not in "\n\t"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert found.encode().decode() == found
    assert shown(found) == found
    assert found.count("\n") == text.count("\n")
    assert not any(line.lstrip().startswith("::") and "::" in line.lstrip()[2:] for line in found.split("\n"))


@given(st.text())
def test_errors_and_results_show_no_other_text(text: str) -> None:
    """An error's text is a terminal's; a result's is Markdown's, HTML's and JUnit's."""
    error = HarnessError(text, hint=text, evidence={"output": text})
    assert str(error) == shown(str(error))
    assert error.sentence == shown(text)
    test = Test(id="a", outcome=Outcome.FAILED, duration_s=0.0, message=text, broken=text)
    assert (test.message, test.broken) == (shown(text), shown(text))
