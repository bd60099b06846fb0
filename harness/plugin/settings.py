"""What a run of pytest is asked for beyond what its runtimes need."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from harness.core.transports import Transport
from harness.results import record
from harness.runtime.settings import Settings


class Keep(StrEnum):
    """When a session outlives its test."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True)
class RunSettings(Settings):
    """The options and their twins in the ini file, once they are read."""

    transports: tuple[Transport, ...] = tuple(Transport)
    #: How many times as long as the baseline an image may take.
    max_slowdown: float = 1.10
    #: Longest comparison of two images over one transport, in seconds.
    gate_limit_s: float = 60.0
    #: Whether images without a baseline are measured, too.
    measure: bool = False
    #: Where results.json goes, and whether somebody asked for it there.
    results: Path = Path("harness-artifacts", record.FILE_NAME)
    results_asked: bool = False
    artifacts: Path = Path("harness-artifacts")
    #: A missing capability fails instead of skipping.
    strict: bool = False
    keep: Keep = Keep.NEVER
    #: Run the other tests of an image whose first client was not answered.
    exhaustive: bool = False
    #: Find out which layer loses the socket when a probe fails.
    bisect: bool = True


#: Where a run has them.
SETTINGS = pytest.StashKey[RunSettings]()
