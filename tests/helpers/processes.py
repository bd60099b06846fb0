"""Small programs for tests, and whether they are gone."""

from __future__ import annotations

from pathlib import Path

#: Stands before a program that a test ends by a signal: what nohup(1) and a background shell ignore is inherited.
DEFAULT_SIGNALS = ("env", "--default-signal=HUP,INT")


def shell(text: str) -> list[str]:
    """Return the command for a line of shell."""
    return ["/bin/sh", "-c", text]


def gone(file: Path) -> bool:
    """Whether the process has ended whose number a program has written to `file`."""
    pid = file.read_text(encoding="ascii").strip()
    try:
        state = Path("/proc", pid, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"  # it only waits to be reaped
