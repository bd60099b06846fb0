"""The failure bundle: everything that a person needs who was not there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from harness.activation.service import Service
from harness.core.errors import HarnessError
from harness.core.text import shown
from harness.session import processes
from harness.session.session import Session


def folder_for(artifacts: Path, test: str) -> Path:
    """Return the folder of a test's bundle; `test` is its node id."""
    return artifacts / re.sub(r"[^A-Za-z0-9_.-]+", "-", test).strip("-")[-150:]


def write(folder: Path, session: Session, service: Service | None, since: float) -> list[str]:
    """Write what can be found out now, and return the names of the files; what can't be is said in its file.

    Of units that the test wrote by itself it has what they printed `since` then, in seconds since 1970.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in _files(session, service, since):
        with contextlib.suppress(OSError):
            masked = service.supplies.masked(text) if service else text
            (folder / name).write_text(shown(masked), encoding="utf-8")
            written.append(name)
    return list(dict.fromkeys(written))


def _files(session: Session, service: Service | None, since: float) -> Iterator[tuple[str, str]]:
    yield "enter.txt", f"{session.entry}\n"
    yield "manager.log", session.manager_log()
    yield "processes.txt", processes.tree(processes.processes(session))
    yield "sockets.txt", _said(session, "ss", "--all", "--numeric", "--processes", "--extended")
    for unit, output in session.outputs(since).items():
        yield f"{unit}.output.txt", output
    if service is None:
        return
    units = (*service.activated.sockets, *service.activated.services)
    yield "units.txt", _said(session, "systemctl", "--user", "show", *units)
    yield "containers.json", _said(session, "podman", "inspect", *dict.fromkeys(service.activated.containers.values()))
    yield "reproduce.txt", "".join(f"{reply.reproducer}\n" for reply in service.replies)
    yield "replies.txt", "".join(f"{reply}\n" for reply in service.replies)
    yield from service.activated.files.items()
    for unit in service.activated.printing:
        yield f"{unit}.output.txt", session.output(unit)


def _said(session: Session, *command: str) -> str:
    """Return what a program prints in the session, or why it could not."""
    try:
        done = session.run(command, timeout_s=10, check=False)
    except HarnessError as error:
        return str(error)
    return done.text + done.stderr.decode(errors="replace")
