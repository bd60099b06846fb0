"""The claims: each has a test or a reason, every mark names a known one, and the document shows them all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.results.record import Environment, Outcome, Results, Test
from tests.helpers.runs import REPOSITORY
from tools.claims import Section, read, view

SUITES = REPOSITORY / "suites"
SECTIONS = read(SUITES / "claims.toml")
KNOWN = [claim for section in SECTIONS for claim in section.claims]
UNTESTED = {claim: why for section in SECTIONS for claim, why in section.untested.items()}


def marks(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the file and the sentence of each mark `harness_verifies`."""
    for file in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.harness_verifies":
                yield file.name, ast.literal_eval(node.args[0])


def problems(marked: list[tuple[str, str]], known: list[str]) -> list[str]:
    """Return what does not fit together."""
    carried = {sentence for _, sentence in marked}
    strange = [f"{file} carries the unknown claim '{sentence}'" for file, sentence in marked if sentence not in known]
    return strange + [f"no test carries the claim '{sentence}'" for sentence in known if sentence not in carried]


def test_marks_and_claims_fit() -> None:
    """A claim that nobody carries needs a reason; a mark that nobody knows is a slip of the pen."""
    assert problems(list(marks(SUITES)), KNOWN) == []


def test_a_slip_would_be_found() -> None:
    """Both ways."""
    assert problems([("test_a.py", "It flies.")], ["It swims."]) == [
        "test_a.py carries the unknown claim 'It flies.'",
        "no test carries the claim 'It swims.'",
    ]


def test_the_claims_are_sentences() -> None:
    """Each once, and none within another: a test's claims are told apart by their words."""
    everything = [*KNOWN, *UNTESTED]
    assert all(claim.endswith(".") for claim in everything)
    assert [(one, other) for one in everything for other in everything if one in other and one is not other] == []
    assert all(UNTESTED.values()), "a claim without a test has no reason"


def test_the_document_shows_them_all() -> None:
    """It is made anew when a claim comes or goes."""
    document = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8")
    shown = [line.split(" | ")[0].removeprefix("| ") for line in document.splitlines() if line.startswith("| ")]
    assert [claim for claim in shown if claim != "claim"] == [
        claim for section in SECTIONS for claim in (*section.claims, *section.untested)
    ]


# -- the view ---------------------------------------------------------------------------------------------------------

FACTS = Environment(kernel="6.1", machine="x86_64", cpus=2, versions={"podman": "4.3.1"}, base="debian", strict=True)


def results(*tests: Test) -> Results:
    """Return a run of these tests."""
    return Results(version="1", started="2026-01-01T00:00:00+00:00", duration_s=1.0, environment=FACTS, tests=tests)


def test_a_view() -> None:
    """Tests of one name are one line, what is bad comes first, and what did not run is said."""
    swims = [
        Test(
            id=f"suites/test_a.py::test_swims[{number}]", outcome=outcome, duration_s=1.0, claim="It swims. It floats."
        )
        for number, outcome in enumerate((Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.PASSED))
    ]
    section = Section("Water", ("It swims.", "It floats.", "It dives | sinks."), {"It is wet.": "nobody looked"})
    assert view(results(*swims), (section,)).partition("## ")[2].splitlines() == [
        "Water",
        "",
        "| claim | tests | result |",
        "|---|---|---|",
        "| It swims. | `suites/test_a.py::test_swims` | 1 failed, 2 passed, 1 skipped |",
        "| It floats. | `suites/test_a.py::test_swims` | 1 failed, 2 passed, 1 skipped |",
        "| It dives \\| sinks. |  | no such test in this run |",
        "| It is wet. |  | untested: nobody looked |",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't be read: No such file"),
        ("=", "holds no claims"),
        ("a = 1", "holds no claims: 'section'"),
        ("[[section]]\ntitle = 1", "'title' is a text"),
        ("[[section]]\ntitle = 'a'\nclaim = []", "'claim' is no key of a section"),
        ("[[section]]\ntitle = 'a'\nclaims = [1]", "claims and reasons are texts"),
    ],
)
def test_a_bad_file(tmp_path: Path, text: str | None, words: str) -> None:
    """It is the input that is wrong."""
    file = tmp_path / "claims.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        read(file)
