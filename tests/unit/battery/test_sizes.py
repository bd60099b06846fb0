"""How two texts differ, in the words of a broken promise."""

from __future__ import annotations

import pytest

from harness.battery.sizes import difference


@pytest.mark.parametrize(
    ("sent", "got", "said"),
    [
        (b"abc", b"abc", ""),
        (b"abc", b"", "had its first 0 bytes only"),
        (b"abc", b"ab", "had its first 2 bytes only"),
        (b"abc", b"abcd", "had 1 bytes more than were sent"),
        (b"abc", b"aabc", "had 4 bytes, and other ones from byte 1 on: not those of this request"),
        (b"abc", b"xyz", "had 3 bytes, and other ones from byte 0 on: not those of this request"),
    ],
)
def test_a_difference_is_said(sent: bytes, got: bytes, said: str) -> None:
    assert difference(sent, got) == said
