"""pytest-testinfra inside a session."""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult

from harness.session.session import Session


class SessionBackend(BaseBackend):  # type: ignore[misc]
    """Runs testinfra's commands as the session's account, with the session's environment and a time limit."""

    NAME = "harness-session"

    def __init__(self, session: Session) -> None:
        super().__init__(session.name)
        self._session = session

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        """Run a shell command, as testinfra's modules write them."""
        line = self.get_command(command, *args)
        done = self._session.run(["/bin/sh", "-c", line], check=False)
        return self.result(done.status, self.encode(line), done.stdout, done.stderr)
