"""Where the time of a command goes, by the kernel's own account; in a process namespace, which has its own."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.probing import as_root
from tests.helpers.runs import REPOSITORY

NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@as_root
def test_each_program_of_a_command_is_counted() -> None:
    """With how often it ran; the exit status is the command's."""
    command = "for one in 1 2 3; do sleep 0; done; exit 7"
    profile = (sys.executable, "-m", "tools", "profile", "sh", "-c", command)
    run = subprocess.run(
        [*NAMESPACE, *profile], capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=30
    )
    assert run.returncode == 7, run.stderr
    assert "| sleep | 3 |" in run.stdout, run.stdout
    assert "| sh | 1 |" in run.stdout
