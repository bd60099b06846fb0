"""What negative controls share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

BROKEN = "tests/broken-handover"


@dataclass(frozen=True, slots=True)
class Control:
    """What is spoiled, the test that has to notice, and what a stranger then reads."""

    test: str
    #: Regular expressions for the text of the failure, in the order in which they have to match.
    words: tuple[str, ...]
    #: Name of a folder below tests/broken-handover; empty for the honest image.
    image: str = ""
    #: What is written into files of the session -> what is written instead; neither may begin with a dash.
    rewrites: Mapping[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()


#: A name that nobody has given to an image.
NEVER_WAS = "localhost/harness-tests/never-was:latest"


def assert_has(text: str, words: tuple[str, ...]) -> None:
    """Assert that the regular expressions match one after the other."""
    position = 0
    for expression in words:
        found = re.compile(expression, re.MULTILINE).search(text, position)
        assert found, f"{expression!r} is not, or not at its place, in:\n{text}"
        position = found.end()
