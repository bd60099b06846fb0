"""A supervisor: the process that owns a session or a guest, and takes it away when this process ends, however it ends.

It is a script of `harness.standalone` with one end of a socket pair as its standard input. The kernel closes the other
end with this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from harness import standalone
from harness.core.errors import HarnessError

#: Longest end with all processes of what is owned, in seconds; it takes 0.1 s, but a zombie of a session may wait
#: seconds for a slow process 1 of the machine.
_CLOSE_LIMIT_S = 30.0

#: How long the last words of a supervisor that has ended are waited for, in seconds.
_WORDS_LIMIT_S = 0.5


class OwnedProcess:
    """A supervisor, and the channel to it."""

    def __init__(self, what: str, failure: type[HarnessError], prefix: Sequence[str], env: Mapping[str, str]) -> None:
        """Start the supervisor of a `what`; `prefix` stands before its command, `failure` is what `end` raises."""
        self._what = what
        self._failure = failure
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        #: Whether it goes on when this process ends.
        self.kept = False
        with theirs:
            self._process = subprocess.Popen(
                [*prefix, *standalone.command(f"{what}_supervisor")],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=env,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: bytes) -> None:
        """Send one message; that nobody is there to take it is noticed when no answer comes."""
        with contextlib.suppress(ConnectionError):
            self._channel.send(message)

    def receive(self, limit_s: float) -> dict[str, Any] | None:
        """Return its next message, with `descriptors` if there are any; None when none comes in time, {} at its end."""
        if not select.select([self._channel], [], [], limit_s)[0]:
            return None
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._channel, 1 << 20, 1)
        except ConnectionError:
            return {}
        message: dict[str, Any] = json.loads(data) if data else {}
        return message | {"descriptors": descriptors} if descriptors else message

    def keep(self) -> None:
        """Let it go on, with what it owns, when the channel closes."""
        self.send(b"keep")
        self.kept = True

    def said(self) -> str:
        """Return what it has printed, which is nothing unless it failed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_WORDS_LIMIT_S)
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        return (self._process.stderr.read() or b"").decode(errors="replace")

    def end(self) -> None:
        """Close the channel and wait until nothing is left; `Popen.wait` would poll, every 50 ms at the end."""
        self._channel.close()
        assert self._process.stderr is not None
        self._process.stderr.close()
        if self.kept:
            self._process.returncode = 0  # not ours any more
            return
        if self._process.poll() is not None:
            return
        ended = os.pidfd_open(self._process.pid)
        gone, _, _ = select.select([ended], [], [], _CLOSE_LIMIT_S)
        os.close(ended)
        if not gone:
            self._process.kill()
        self._process.wait()
        if not gone:
            raise self._failure(
                f"A {self._what} did not end within {_CLOSE_LIMIT_S:g} s.",
                hint="'python -m harness sweep' removes what is left of it.",
            )
