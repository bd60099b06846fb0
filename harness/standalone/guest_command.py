"""Runs the command of a guest to its end and says in the exchange folder how it ended.

Run by the guest's init, or by the systemd that it has become. FOLDER is the exchange folder; it holds `boot.json`, and
gets `booted` (the kernel's release), `output` (of the command) and `status` (its exit status).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

#: What a login sets, see pam_systemd(8), or the guest's init, and a command needs beside its own environment.
GIVEN = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_SESSION_ID", "HARNESS_SESSION_DISK")


def read(folder: str) -> dict[str, Any]:
    """Return what the harness asks for."""
    task: dict[str, Any] = json.loads(Path(folder, "boot.json").read_text(encoding="utf-8"))
    return task


def run(task: dict[str, Any], output: str) -> int:
    """Run the command to its end, reaping all that lose their parent; return its exit status."""
    log = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    environment = {name: os.environ[name] for name in GIVEN if name in os.environ} | task["env"]
    command = os.fork()
    if command == 0:
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(task["cwd"])
            os.execvpe(task["command"][0], task["command"], environment)
        except OSError as error:
            os.write(2, f"init: {error}\n".encode())
        os._exit(127)
    while True:
        pid, status = os.wait()
        if pid == command:
            return os.waitstatus_to_exitcode(status)


def write(path: str, text: str) -> None:
    """Write a file that appears with its whole text."""
    Path(f"{path}.new").write_text(text, encoding="utf-8")
    os.rename(f"{path}.new", path)


def main(folder: str) -> None:
    """Do it all."""
    write(f"{folder}/booted", os.uname().release)
    write(f"{folder}/status", str(run(read(folder), f"{folder}/output")))
