"""The echo server as a program: how it ends, and what it says against a wrong start."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers.runs import ECHO

PROGRAM = ECHO / "echo.py"

#: Longest wait for the program, in seconds.
LIMIT_S = 20

#: Does what systemd does between fork(2) and execve(2), see sd_listen_fds(3).
START = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

Served = tuple[socket.socket, "subprocess.Popen[bytes]"]


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[Served]:
    """Let the program serve an abstract Unix socket; yield a client that it has accepted, and the process."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("")
        listener.listen()
        number = listener.fileno()
        command = [sys.executable, "-c", START, str(number), str(PROGRAM), *arguments]
        with subprocess.Popen(command, pass_fds=[number]) as process:
            try:
                client.settimeout(LIMIT_S)
                client.connect(listener.getsockname())
                client.sendall(b"first ")
                assert client.recv(100) == b"first "
                yield client, process
            finally:
                process.kill()


def test_whom_it_has_taken_is_answered_after_sigterm() -> None:
    """It ends when that client does, and well."""
    with served() as (client, process):
        process.send_signal(signal.SIGTERM)
        client.sendall(b"second")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"second"
        assert client.recv(100) == b""
        assert process.wait(LIMIT_S) == 0


def test_a_client_that_never_ends_does_not_keep_it() -> None:
    """There is a grace after SIGTERM, and then it ends all the same."""
    with served() as (client, process):
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        assert client.recv(100) == b""


def test_it_is_not_idle_while_it_has_a_client() -> None:
    """And it is after that."""
    with served("--idle-exit=0.1") as (client, process):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        client.close()
        assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 1, "echo: no sockets were passed to this process (LISTEN_PID, LISTEN_FDS)\n"),
        (["--idle"], 2, "echo: unknown argument '--idle'; there is only --idle-exit=SECONDS\n"),
        (["--idle-exit=soon"], 2, "echo: '--idle-exit=soon' is not a number of seconds above 0\n"),
        (["--idle-exit=0"], 2, "echo: '--idle-exit=0' is not a number of seconds above 0\n"),
        (["--idle-exit=nan"], 2, "echo: '--idle-exit=nan' is not a number of seconds above 0\n"),
    ],
)
def test_a_wrong_start(arguments: list[str], status: int, said: str) -> None:
    """It says what is wrong in one line and ends."""
    ended = subprocess.run(
        [sys.executable, PROGRAM, *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (ended.returncode, ended.stderr) == (status, said)
