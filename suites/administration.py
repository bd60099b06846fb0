"""What an administrator of the session does to its units, each undone at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness import Deadline, Session

#: Longest wait for systemd to start or stop a unit, in seconds.
STEP_S = 15


@contextlib.contextmanager
def unit_file(session: Session, unit: str, text: str) -> Iterator[None]:
    """Write a unit file, `daemon-reload` and start the unit, as the tutorial does; stop and remove it."""
    path = f"{session.paths.units}/{unit}"
    session.write(path, text)
    session.capture(unit)
    try:
        session.manager.reload()
        session.manager.start(unit, Deadline.after(STEP_S))
        yield
    finally:
        if not session.kept:
            session.manager.stop(unit, Deadline.after(STEP_S))
            session.remove(path)
            session.manager.reload()
