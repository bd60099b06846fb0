"""A parent of our own that hands sockets to a program as sd_listen_fds(3) has it, with no systemd in between."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import SessionError
from harness.core.transports import FIRST_DESCRIPTOR, ROWS, Listener, Transport
from harness.session.session import Session
from harness.standalone import syscalls

_UNNAMED = "unknown"  # as in sd_listen_fds_with_names(3)

#: Longest wait for a killed program, in seconds.
_END_LIMIT_S = 5.0

#: Longest wait for an address that a process which is ending still has, in seconds.
_FREE_LIMIT_S = 5.0

#: Enters a session without namespaces with all descriptors, which `systemd-run --pipe` does not.
_SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "--collect", "--")

#: LISTEN_PID is the number of the very process that becomes the program.
_BECOME = ("/bin/sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "parent")


@contextlib.contextmanager
def pass_sockets(
    session: Session, listeners: Sequence[Listener], command: Sequence[str], output: str
) -> Iterator[None]:
    """Run a program in the session with a listening socket for each listener; kill its process group at the end.

    The sockets listen before the program starts, so its clients need not wait for it. Nobody else holds them: when the
    program has ended, so have they. What it prints is the session's output of the unit `output`.
    """
    session.capture(output)
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as ours:
            sockets = [ours.enter_context(_bound(session, listener, stack)) for listener in listeners]
            names = [listener.name or _UNNAMED for listener in listeners]
            pid = _spawn(session, [item.fileno() for item in sockets], names, command, output)
        try:
            yield
        finally:
            _end(pid)


def _bound(session: Session, listener: Listener, stack: contextlib.ExitStack) -> socket.socket:
    """Return a socket of a listener; its file, if it has one, goes with the stack.

    A conmon that has not ended yet may hold the address for a moment.
    """
    row = ROWS[listener.transports[0]]
    made = session.socket(socket.AF_INET6 if len(listener.transports) > 1 else row.family, row.kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_until(
            lambda: _bind(session, made, listener), bool, Deadline.after(_FREE_LIMIT_S), f"'{listener.line}' to be free"
        )
        if listener.path:
            stack.callback(session.outside(listener.path).unlink, missing_ok=True)
        if row.kind == socket.SOCK_STREAM:
            made.listen()
    except BaseException:
        made.close()
        raise
    return made


def _bind(session: Session, made: socket.socket, listener: Listener) -> bool:
    """Bind a socket; return False where another has the address."""
    try:
        if len(listener.transports) > 1:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind(("::", listener.port))
        elif listener.path:
            _bind_file(session, made, Path(listener.path))
        elif Transport.VSOCK in listener.transports:
            made.bind((listener.cid, listener.port))
        else:
            made.bind(listener.endpoints[0].native)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise SessionError(f"No socket could be bound for '{listener.line}': {error}.") from None
    return True


def _bind_file(session: Session, made: socket.socket, path: Path) -> None:
    """Bind to a path of the session's: programs may know their socket by its name, see getsockname(2)."""
    problems: list[OSError] = []

    def bind() -> None:
        try:
            if session.own_network:
                syscalls.unshare(syscalls.CLONE_FS)  # the root folder of this thread alone
                os.chroot(session.root)
            path.unlink(missing_ok=True)  # systemd leaves the file of a socket that it has closed
            made.bind(os.fspath(path))
            path.chmod(0o666)  # as systemd does, see SocketMode= in systemd.socket(5)
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=bind, name="harness-bind")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


def _spawn(
    session: Session, descriptors: Sequence[int], names: Sequence[str], command: Sequence[str], output: str
) -> int:
    """Start a program in the session with the descriptors in their places, and return its number."""
    argv = [*(session.client_prefix or _SCOPE), *_BECOME, *command]
    told = {"LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": ":".join(names)}
    environment = {**session.environment, **told}
    first_free = FIRST_DESCRIPTOR + len(descriptors)
    # Out of the way first: a descriptor may be where another one is to go.
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, first_free) for number in descriptors]
    log = os.fspath(session.outside(f"{session.paths.output}/{output}.log"))
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        *((os.POSIX_SPAWN_DUP2, number, FIRST_DESCRIPTOR + place) for place, number in enumerate(high)),
    ]
    try:
        return os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True)
    finally:
        for number in high:
            os.close(number)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], bool, Deadline.after(_END_LIMIT_S), "a killed program to end")
