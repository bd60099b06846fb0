"""An echo server that, after its first reply, harms whoever runs it in the one way that its argument names.

As `runs` it runs the Python code of each request, and replies with what that has printed.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START

#: Clears the screen, sets the title, writes over the line, turns the text around, is a command to a CI runner.
CONTROLS = b"\x1b[2J\x1b]0;owned\x07line\rpassed\xe2\x80\xae\xff\n::error::owned\n##[error]owned\n"


def prints() -> None:
    """Print without end."""
    while True:
        os.write(2, b"x" * 65536 + b"\n")


def forks() -> None:
    """Start processes without end, each of which does the same."""
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def allocates() -> None:
    """Take memory without end."""
    kept = []
    while True:
        kept.append(bytearray(os.urandom(4096)) * 4096)


def fills_disk() -> None:
    """Write files without end."""
    for number in range(sys.maxsize):
        with contextlib.suppress(OSError), Path("/var/tmp", str(number)).open("wb") as file:  # noqa: S108 - of a container
            for _chunk in range(1024):
                file.write(bytes(2**20))
        time.sleep(0.01)


def opens_descriptors() -> None:
    """Open descriptors without end."""
    while True:
        with contextlib.suppress(OSError):
            os.dup(2)


def ignores_signals() -> None:
    """Take no signal that can be ignored."""


def daemonises() -> None:
    """Leave a process in a session of its own, which nobody's end ends."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ignore_all()
            while True:
                signal.pause()
        os._exit(0)


def ignore_all() -> None:
    """Ignore every signal that lets itself be ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)


HARMS = {
    "prints": prints,
    "forks": forks,
    "allocates": allocates,
    "fills-disk": fills_disk,
    "opens-descriptors": opens_descriptors,
    "ignores-signals": ignores_signals,
    "daemonises": daemonises,
}


def main() -> None:
    mode = sys.argv[1]
    if mode in ("ignores-signals", "all"):
        ignore_all()
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    listener = socket.socket(fileno=FIRST_DESCRIPTOR)
    harms = [*HARMS.values()] if mode == "all" else [HARMS[mode]] if mode in HARMS else []
    while True:
        try:
            connection, _peer = listener.accept()
        except OSError:  # no descriptor is left
            time.sleep(0.01)
            continue
        with connection:
            data = connection.recv(65536)
            if mode == "controls":
                os.write(2, CONTROLS)
                data = CONTROLS
            if mode == "runs":
                command = [sys.executable, "-I", "-S", "-c", data.decode()]
                done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                data = done.stdout
            connection.sendall(data)
        while harms:
            threading.Thread(target=harms.pop(), daemon=True).start()


if __name__ == "__main__":
    main()
