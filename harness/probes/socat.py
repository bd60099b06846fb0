"""The client that the tutorial uses: socat(1), wrapped with `sh`. A black box: its start is part of its times."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import sh

from harness.core.deadline import Deadline
from harness.core.errors import HarnessError
from harness.core.transports import Endpoint
from harness.probes.reading import Hopeless, Reading, Settled
from harness.probes.reply import Reply, Times
from harness.session.session import Session

#: What socat says at notice level once the connection stands, for every kind of address.
_CONNECTED = b"starting data transfer loop"


_RESET = os.strerror(errno.ECONNRESET)

#: How much longer than the deadline socat itself would wait, in seconds: it is ended here, not by its own option.
_GRACE_S = 5


class _Received:
    """Collects what socat prints and notes when the first of it came."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.first: float | None = None

    def write(self, chunk: bytes) -> None:
        if self.first is None:
            self.first = time.monotonic()
        self.data.extend(chunk)


class _Notices:
    """Collects what socat says of itself and notes when the connection stood."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.connected: float | None = None

    def write(self, chunk: bytes) -> None:
        self.data.extend(chunk)
        if self.connected is None and _CONNECTED in self.data:
            self.connected = time.monotonic()

    @property
    def complaint(self) -> str:
        """The errors among the notices (` E `), and what socat takes for a mere warning: a reset."""
        lines = self.data.decode(errors="replace").splitlines()
        errors = [line.partition(" E ")[2] for line in lines if " E " in line]
        resets = [line.partition(" W ")[2] for line in lines if " W " in line and _RESET in line]
        return "; ".join(errors or resets)


def address(endpoint: Endpoint, sent: bytes, *, half_close: bool) -> str:
    """Return socat's address for a client that sends `sent`, with what socat is to do at the end of its input.

    Left to itself it shuts down a stream, and some versions (1.8.1.3) send one more, empty datagram.
    """
    if half_close and not endpoint.datagram:
        return endpoint.socat
    # A client that sends nothing over datagrams still has to be noticed.
    return f"{endpoint.socat},{'shut-null' if endpoint.datagram and not sent else 'shut-none'}"


def ask(
    session: Session,
    endpoint: Endpoint,
    sent: bytes,
    deadline: Deadline,
    settled: Settled | None = None,
    hopeless: Hopeless | None = None,
) -> Reply:
    """Send bytes as `echo hello | socat - ADDRESS` does, and return what comes back until that is settled.

    Without `settled`, a stream is shut down behind what is sent, and its reply ends when the service closes it. A
    datagram's reply is one datagram: socat writes it in one piece and would then wait for more, so it is ended there.
    """
    limit_s = math.ceil(deadline.remaining_s) + _GRACE_S
    line = ("-t", str(limit_s), "-", address(endpoint, sent, half_close=settled is None))
    reading = Reading(deadline, settled, hopeless)
    received, notices = _Received(), _Notices()
    started = time.monotonic()
    complaint = ""
    # Pipes of our own: sh reads byte by byte, and stops reading 2 s after a program has ended.
    with _pipe() as (out, out_end), _pipe() as (err, err_end):
        process = _start((*session.client_prefix, "socat", "-d", "-d", *line), sent, session, out_end, err_end)
        out_end.close()
        err_end.close()
        sinks: dict[BinaryIO, Any] = {out: received, err: notices}
        while sinks:
            if endpoint.datagram and received.data:
                break
            ready, _, _ = select.select(list(sinks), [], [], reading.slice_s)
            if (not ready or reading.expired) and reading.is_over():
                complaint = reading.complaint
                break
            for pipe in ready:
                if chunk := os.read(pipe.fileno(), 65536):
                    sinks[pipe].write(chunk)
                else:
                    del sinks[pipe]
            reading.saw(received.data)
        _end(process)
    ended = reading.settled_at or time.monotonic()
    return Reply(
        endpoint,
        "socat",
        sent,
        bytes(received.data),
        Times(started, _earlier(notices.connected, received.first), received.first, ended),
        # Whoever has answered may break off.
        complaint="" if reading.settled_at else notices.complaint or complaint,
        command=(*session.client_prefix, "socat", *line),
    )


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Return both ends of a pipe, the reading one first."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as out, os.fdopen(writing, "wb", 0) as end:
        yield out, end


def _earlier(connected: float | None, first: float | None) -> float | None:
    """Return the time of the connection; both may be seen in one look, and the reply is read first."""
    return min(connected, first) if connected is not None and first is not None else connected


def _start(command: tuple[str, ...], sent: bytes, session: Session, received: Any, notices: Any) -> Any:
    """Start socat in the background. Its exit status is no error here: a refused connection is a result."""
    try:
        program = sh.Command(command[0])
        return program(
            *command[1:],
            _in=sent,
            _out=received,
            _err=notices,
            _env=dict(session.environment),
            _cwd="/",
            _tty_out=False,
            _new_session=True,
            _bg=True,
            _bg_exc=False,
            _ok_code=list(range(256)),
        )
    except sh.CommandNotFound as error:
        raise HarnessError(f"The program '{error}' was not found.", hint="python -m harness setup") from None


def _end(process: Any) -> None:
    """Make sure that socat and what stands before it are gone and their output is read."""
    with contextlib.suppress(OSError):
        process.signal_group(signal.SIGTERM)
    with contextlib.suppress(sh.ErrorReturnCode, sh.SignalException):
        process.wait()
