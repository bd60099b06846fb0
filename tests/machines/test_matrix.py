"""The matrix of machines: what a run makes of each; and that a machine which is told the wrong thing is noticed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import INFRASTRUCTURE, Blame
from harness.images.store import Image
from tests.helpers.runs import REPOSITORY, Run
from tests.helpers.sessions import isolated
from tests.machines import matrix
from tests.machines.matrix import NOT_HERE, ROWS, UNIT, Expected, Row
from tests.machines.summary import PROPERTY

#: A machine that lacks nothing.
WHOLE = Row("nothing is taken", "true")

LACKING = Row("no socat", "", Expected.FAILED, "socat", (UNIT,))

#: What a run says on that machine.
LACKS_SOCAT = "This machine lacks the capability 'socat': ...\nHint: install it\n[environment error: ...]"


def on(row: Row, folder: Path, limit_s: float = matrix.LIMIT_S) -> Run:
    """Run a row's tests; skip where its machine can't be made out of this one."""
    run = matrix.run_on(row, folder, limit_s)
    if run.status == NOT_HERE:
        pytest.skip(f"a machine '{row.name}' can't be made here")
    return run


@isolated
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_machine(
    row: Row, tmp_path: Path, built: Callable[[str], Image], record_property: Callable[[str, object], None]
) -> None:
    for folder in ("containers/echo", "containers/handover"):
        built(folder)
    started = time.monotonic()
    run = on(row, tmp_path)
    found = matrix.complaints(row, run)
    record_property(PROPERTY, f"{row.name:<56} {matrix.ending(row)} ({time.monotonic() - started:.1f} s)")
    assert not found, "\n".join([*found, "", run.output])


# -- negative controls ------------------------------------------------------------------------------------------------


@isolated
def test_a_machine_that_lacks_nothing_skips_nothing(echo_image: Image, tmp_path: Path) -> None:
    row = replace(WHOLE, expected=Expected.SKIPPED, says="socat", tests=(UNIT,))
    run = on(row, tmp_path)
    assert matrix.complaints(row, run) == ["expected tests that skipped and the status 0, got ['passed'] and 0"]
    assert not matrix.complaints(replace(row, expected=Expected.PASSED), run)


@isolated
def test_an_image_must_not_be_blamed(built: Callable[[str], Image], tmp_path: Path) -> None:
    built("tests/broken/dies-on-start")
    test = "suites/test_replies.py::test_reply[dies-on-start-unit-tcp4]"
    row = replace(WHOLE, expected=Expected.FAILED, tests=(test, "--harness-contract=tests/broken/dies-on-start"))
    assert f"it said '{Blame.IMAGE.value}'" in matrix.complaints(row, on(row, tmp_path))


@isolated
def test_what_is_left_behind_is_noticed(echo_image: Image, tmp_path: Path) -> None:
    row = replace(WHOLE, takes="sleep 60 &", tests=(UNIT,))
    assert matrix.complaints(row, on(row, tmp_path)) == ["it said 'left behind: '"]


@isolated
def test_a_hang_is_noticed_and_ended(tmp_path: Path) -> None:
    row = replace(WHOLE, takes="sleep 600")
    started = time.monotonic()
    assert "it hung" in matrix.complaints(row, on(row, tmp_path, limit_s=1.0))
    assert time.monotonic() - started < 10


@isolated
def test_a_machine_that_can_not_be_made_here_is_skipped(tmp_path: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="can't be made here"):
        on(replace(WHOLE, takes=f"exit {NOT_HERE}"), tmp_path)


@pytest.mark.parametrize(
    ("status", "text", "complaint"),
    [
        (INFRASTRUCTURE, LACKS_SOCAT.replace("'socat'", "'curl'"), "'socat'"),
        (INFRASTRUCTURE, LACKS_SOCAT.replace("Hint: ", ""), "no hint"),
        (INFRASTRUCTURE, f"Traceback (most recent call last)\n{LACKS_SOCAT}", "Traceback"),
        (1, LACKS_SOCAT, "status"),
        (0, LACKS_SOCAT, "status"),
    ],
)
def test_a_failure_must_say_what_is_lacking(status: int, text: str, complaint: str) -> None:
    (found,) = matrix.complaints(LACKING, Run(status, text, {"test": "error"}, {"test": text}))
    assert complaint in found
    assert not matrix.complaints(LACKING, Run(INFRASTRUCTURE, LACKS_SOCAT, {"test": "error"}, {"test": LACKS_SOCAT}))


def test_the_table_in_the_docs() -> None:
    """Print it with `python -m tests.machines.matrix`."""
    text = (REPOSITORY / "docs" / "verification.md").read_text(encoding="utf-8")
    assert f"\n\n{matrix.table()}\n" in text


def test_no_machine_is_there_twice() -> None:
    assert len({row.name for row in ROWS}) == len({row.takes for row in ROWS}) == len(ROWS)
