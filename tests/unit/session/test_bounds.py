"""What is kept of long output, and what is said of a bound that was met."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.session.bounds import TESTS, Bounds, Hits, ends, hits, size


@pytest.mark.parametrize(
    ("written", "since", "kept", "read"),
    [
        (b"", 0, 4, b""),
        (b"abcdefgh", 0, 4, b"abcdefgh"),
        (b"abcdefghi", 0, 4, b"abcd\n[1 bytes of output left out]\nfghi"),
        (b"abcdefghi", 1, 4, b"bcdefghi"),
        (b"abcdefghi", 9, 4, b""),
        (b"abcdefghi", 20, 4, b""),
        (b"a" * 4 + bytes(3000) + b"b" * 4, 0, 4, b"aaaa\n[2.9 KiB of output left out]\nbbbb"),
        (b"a" * 4 + bytes(3000) + b"b" * 4, 2, 4, b"aa\n[2.9 KiB of output left out]\nbbbb"),
    ],
)
def test_the_ends_of_a_file(written: bytes, since: int, kept: int, read: bytes, tmp_path: Path) -> None:
    """What a hole of the file holds is nobody's output."""
    file = tmp_path / "output"
    file.write_bytes(written)
    with file.open("rb") as opened:
        assert ends(opened, since, kept) == read


def test_sizes_are_written_as_a_person_writes_them() -> None:
    assert [size(number) for number in (0, 1023, 1024, 1536, 2**21, 2**31, 3 * 2**29)] == [
        *("0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "2 MiB", "2 GiB", "1.5 GiB")
    ]


def test_only_what_has_happened_since_is_said() -> None:
    """A session has many services after each other."""
    before, now = Hits(1, 5), Hits(2, 5, full=True)
    assert now.since(before, TESTS) == (
        "the memory limit of 2 GiB has killed a process",
        "the session's disk of 1 GiB is full",
    )
    assert Hits(1, 6).since(before, Bounds(pids=64)) == ("the session has reached its limit of 64 processes",)
    assert before.since(before, TESTS) == ()


@pytest.mark.parametrize("name", ["memory.oom_control", "memory.events"])
def test_both_versions_of_cgroups_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("low 1\noom_kill 3\n", encoding="ascii")
    (tmp_path / "pids.events").write_text("max 7\n", encoding="ascii")
    assert hits({"memory": str(tmp_path), "pids": str(tmp_path)}, [tmp_path]) == Hits(3, 7)
    assert hits({}, [tmp_path / "none"]) == Hits()
