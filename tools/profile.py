"""Where the processor time of a command goes: each process that ends while it runs, as the kernel accounts for it.

The kernel cuts the time of each to hundredths of a second, so that what takes less, as socat does, counts as nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cli.command import Command, say
from harness.core.errors import Blame, HarnessError, UsageError

#: struct acct_v3 of <linux/acct.h>, see acct(5): all but the times and the name is skipped.
_RECORD = struct.Struct("=xB26x4xHH12x16s")
_VERSION = 3

#: The unit of its times, AHZ of <linux/acct.h>.
_TICKS_PER_S = 100

#: How many programs are named; the others are one line.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of one program have taken."""

    program: str
    processes: int = 0
    user_s: float = 0.0
    system_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Processor time in seconds."""
        return self.user_s + self.system_s

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, under the own name."""
        return Usage(
            self.program,
            self.processes + other.processes,
            self.user_s + other.user_s,
            self.system_s + other.system_s,
        )


def usages(records: bytes) -> list[Usage]:
    """Return what each program has taken, by the records of acct(5); the most expensive one first."""
    found: dict[str, Usage] = {}
    for start in range(0, len(records) - _RECORD.size + 1, _RECORD.size):
        version, user, system, name = _RECORD.unpack_from(records, start)
        if version != _VERSION:
            raise HarnessError(f"The kernel writes records of version {version}, and {_VERSION} is read.")
        # The name is the first 15 bytes of comm, see prctl(2); who is a thread of a program may have set another.
        program = name.partition(b"\0")[0].decode(errors="replace")
        one = Usage(program, 1, _seconds(user), _seconds(system))
        found[program] = found.get(program, Usage(program)) + one
    return sorted(found.values(), key=lambda usage: -usage.total_s)


def _seconds(number: int) -> float:
    """Return a time of comp_t: 13 bits, and an exponent of 8 above them."""
    return float((number & 0x1FFF) << 3 * (number >> 13)) / _TICKS_PER_S


def table(found: Sequence[Usage], took_s: float, idle_s: float) -> Iterator[str]:
    """Yield the lines of a Markdown table, and before it what the command took."""
    whole = _sum("all", found)
    cores = os.cpu_count() or 1
    yield (
        f"{took_s:.1f} s with {cores} processors, {idle_s / took_s / cores:.0%} idle; "
        f"{whole.processes} processes took {whole.total_s:.1f} s"
    )
    yield ""
    yield "| program | processes | user | system | of all | each |"
    yield "|---|---|---|---|---|---|"
    rest = [_sum("(others)", found[_NAMED:])] if len(found) > _NAMED else []
    for one in (*found[:_NAMED], *rest):
        share, each = one.total_s / max(whole.total_s, 0.01), one.total_s / max(one.processes, 1) * 1000
        cells = one.program, f"{one.processes}", f"{one.user_s:.1f} s", f"{one.system_s:.1f} s", f"{share:.1%}"
        yield f"| {' | '.join(cells)} | {each:.0f} ms |"


def _sum(name: str, found: Iterable[Usage]) -> Usage:
    total = Usage(name)
    for one in found:
        total += one
    return total


@contextmanager
def accounted(file: Path) -> Iterator[None]:
    """Let the kernel write a record of each process that ends, see acct(2); raise HarnessError where it refuses."""
    file.touch()
    _acct(os.fsencode(file))
    try:
        yield
    finally:
        _acct(None)


def _acct(file: bytes | None) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.acct(file):
        reason = os.strerror(ctypes.get_errno())
        hint = "Process accounting takes root and a kernel with CONFIG_BSD_PROCESS_ACCT_V3."
        raise HarnessError(f"The kernel does not account for processes: {reason}.", hint=hint, blame=Blame.MACHINE)


def _idle_s() -> float:
    """Return for how long the processors have been idle since the machine started, all together, see proc(5)."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return int(fields[4]) / os.sysconf("SC_CLK_TCK")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="such as: python -m pytest suites")


def _profile(options: argparse.Namespace) -> int:
    """Run a command, and print what the processes took that ended meanwhile, whoever had started them."""
    command = [*options.command]
    if not command:
        raise UsageError("There is no command to run.", hint="Such as: python -m tools profile python -m pytest suites")
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        file = Path(folder, "records")
        began, idle = time.monotonic(), _idle_s()
        with accounted(file):
            status = subprocess.run(command, check=False).returncode
        took_s, idle_s = time.monotonic() - began, _idle_s() - idle
        found = usages(file.read_bytes())
    sys.stdout.flush()
    say("\n".join(table(found, took_s, idle_s)))
    return status


COMMANDS: tuple[Command, ...] = (
    Command("profile", "show which programs a command's processor time goes to; takes root", _arguments, _profile),
)
