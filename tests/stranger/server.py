"""The server of an image that nothing in the suites knows: it answers one request by the protocol that it is told."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START

#: Where the server listens that is proxied, and what stands before it, see systemd-socket-proxyd(8).
BEHIND = "/tmp/behind"  # noqa: S108 - of a container of its own
PROXY = 'LISTEN_PID=$$ exec /usr/lib/systemd/systemd-socket-proxyd "$0"'

#: How long the proxied server takes for its reply, in seconds: a proxy that has lost its client's side does not wait.
BUSY_S = 0.2

#: Longest wait for clients that were accepted, once the server is told to stop, in seconds.
FINISH_S = 1.0


def answer(protocol: str, connection: socket.socket) -> None:
    """Serve one client to its end; whoever breaks off has none."""
    with connection, contextlib.suppress(OSError):
        serve(protocol, connection)


def serve(protocol: str, connection: socket.socket) -> None:
    """Answer one client."""
    if protocol == "greeting":
        connection.sendall(b"220 ready\n")
        return
    with connection.makefile("rb") as file:
        line = file.readline()
        if protocol == "http":
            while file.readline().strip():
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
        else:
            if protocol == "proxied":
                time.sleep(BUSY_S)
            connection.sendall(b"pong to " + line)
            file.read()  # keeps its side open for as long as its client does


def behind_a_proxy() -> socket.socket:
    """Let a proxy take systemd's socket, and return the one that it goes to."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(BEHIND)
    listener.listen()
    subprocess.Popen(["/bin/sh", "-c", PROXY, BEHIND], pass_fds=[FIRST_DESCRIPTOR])
    return listener


def main() -> None:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        sys.exit(f"server: LISTEN_PID is {os.environ.get('LISTEN_PID')}, but this is process {os.getpid()}")
    # Process 1 has no default action for a signal. A pipe tells of it, so that no client is lost between two calls.
    stopping, told = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(told, b"x"))
    protocol = sys.argv[1]
    listener = behind_a_proxy() if protocol == "proxied" else socket.socket(fileno=FIRST_DESCRIPTOR)
    while stopping not in select.select([listener, stopping], [], [])[0]:  # type: ignore[type-var]
        connection, _peer = listener.accept()
        threading.Thread(target=answer, args=(protocol, connection), daemon=True).start()
    # Whoever was accepted gets the reply that is under way.
    until = time.monotonic() + FINISH_S
    for thread in threading.enumerate():
        if thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
    os._exit(0)


if __name__ == "__main__":
    main()
