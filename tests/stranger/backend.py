"""A program that takes no sockets: it listens by itself at a port or a path, after as long as it is told."""

import os
import signal
import socket
import sys
import threading
import time


def answer(connection: socket.socket) -> None:
    """Answer one line, and keep the connection for as long as the client does."""
    with connection, connection.makefile("rb") as file:
        connection.sendall(b"pong to " + file.readline())
        file.read()


def listen(where: str) -> socket.socket:
    """Listen where every user may come."""
    if where.isdecimal():
        return socket.create_server(("", int(where)))
    os.umask(0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen()
    return listener


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    where, after_s = sys.argv[1:]
    time.sleep(float(after_s))
    if where == "nowhere":
        sys.exit("backend: there is no configuration")
    listener = listen(where)
    while True:
        connection, _peer = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
