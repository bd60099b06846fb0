"""The kernel's records of processes that have ended, and what is made of them."""

from __future__ import annotations

import struct

import pytest

from harness.core.errors import HarnessError
from tools.profile import Usage, table, usages


def record(program: str, user: int, system: int, version: int = 3) -> bytes:
    """Return a struct acct_v3 with times of comp_t."""
    before = struct.pack("=BBHIIIIIIf", 0, version, 0, 0, 0, 0, 7, 1, 0, 1.0)
    return before + struct.pack("=2H6H16s", user, system, *range(6), program.encode())


def test_the_processes_of_a_program_are_one_line() -> None:
    """Times in hundredths of a second, above 81.91 s with an exponent; what is not written to its end is left out."""
    records = record("podman", 4, 2) + record("cc1", 1 << 13 | 2000, 0) + record("podman", 1, 1)
    assert usages(records + b"\0" * 63) == [Usage("cc1", 1, 160.0, 0.0), Usage("podman", 2, 0.05, 0.03)]


def test_records_of_another_version_are_refused() -> None:
    """Nothing is guessed."""
    with pytest.raises(HarnessError, match=r"version 2, and 3 is read"):
        usages(record("podman", 1, 1, version=2))


def test_the_table_names_what_is_expensive() -> None:
    """The rest is one line, and the share is of all."""
    found = [Usage(f"p{number}", 2, 3.0, 1.0) for number in range(21)]
    lines = [*table(found, 60.0, 12.0)]
    assert lines[0].endswith(" idle; 42 processes took 84.0 s")
    assert lines[4] == "| p0 | 2 | 3.0 s | 1.0 s | 4.8% | 2000 ms |"
    assert lines[-1] == "| (others) | 2 | 3.0 s | 1.0 s | 4.8% | 2000 ms |"
