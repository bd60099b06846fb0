"""Scripts that run with the standard library alone: inside sessions and guests, or before any package can be imported.

They are never imported as a part of this package: Python runs the folder (see `__main__.py`), so that they import one
another by their bare names. Only `cgroups` and `syscalls` serve the rest of the harness, too.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


def command(script: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a script of this folder, whatever the environment and the site say."""
    return (os.path.realpath(sys.executable), "-I", "-S", "-B", os.fspath(_FOLDER), script, *arguments)


def script_of(command_line: bytes) -> str:
    """Return which script of such a folder a process's command line (proc_pid_cmdline(5)) runs, or ""."""
    arguments = command_line.split(b"\0")
    for folder, script in itertools.pairwise(arguments):
        if folder.endswith(b"/harness/standalone"):
            return script.decode(errors="replace")
    return ""
