"""docs/battery.md tells of every promise and of every fault, in the words that a run prints."""

from __future__ import annotations

import re

import pytest

from harness.contract import Promise
from tests.faults.table import FAULTS, Fault
from tests.helpers.runs import REPOSITORY

DOCS = (REPOSITORY / "docs" / "battery.md").read_text(encoding="utf-8")


def rows(columns: str) -> list[list[str]]:
    """Return the cells of the table with this head."""
    _, _, table = DOCS.partition(f"| {columns} |\n|---|---|---|\n")
    lines = table.partition("\n\n")[0].strip().splitlines()
    return [[cell.strip().replace("\\|", "|") for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_promise_is_told_in_its_order() -> None:
    assert [name.strip("`") for name, *_rest in rows("promise | over | what is asserted")] == list(Promise)


def test_every_fault_is_told_in_its_order() -> None:
    told = [(name.strip("`"), promise.strip("`")) for name, promise, _said in rows("fault | promise | what is said")]
    assert told == [(fault.name, fault.promise) for fault in FAULTS]


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=lambda number: f"{number}-{FAULTS[number].name}")
def test_a_fault_is_told_as_it_is_found(number: int) -> None:
    fault: Fault = FAULTS[number]
    assert re.search(fault.said, rows("fault | promise | what is said")[number][2])
