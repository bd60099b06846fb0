"""Echo, with the one promise broken that the argument names: the negative controls of the suites.

Clients come one after the other here, so each is served to its end before the next.
"""

import os
import select
import signal
import socket
import sys
import time

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
OWN_PORT = 3000
LATE_S = 2


def inherited_sockets() -> list[socket.socket]:
    """Return the sockets that were passed to this very process; end it when there are none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        sys.exit(f"broken: LISTEN_PID is {os.environ.get('LISTEN_PID')}, but this is process {os.getpid()}")
    return [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(int(os.environ.get("LISTEN_FDS", "0")))]


def reply_to(data: bytes, listener: socket.socket, mode: str) -> bytes:
    """Return what the client gets for what it sent."""
    if mode == "extra-bytes":
        return data + b"bye\n"
    if mode == "wrong-bytes" and (listener.family, listener.type) == (socket.AF_INET6, socket.SOCK_DGRAM):
        return data.upper()
    return data


def serve(listener: socket.socket, mode: str, left_open: list[socket.socket]) -> None:
    """Answer the next client of one socket."""
    if listener.type == socket.SOCK_DGRAM:
        data, peer = listener.recvfrom(65536)
        listener.sendto(reply_to(data, listener, mode), peer)
        return
    connection, _peer = listener.accept()
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    connection.sendall(reply_to(data, listener, mode))
    if mode == "never-closes":
        left_open.append(connection)
    else:
        connection.close()


def stop(listeners: list[socket.socket], mode: str) -> None:
    """End the process; with shutdown(2) the sockets end too, although they belong to systemd."""
    if mode == "shuts-down":
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
    os._exit(0)


def main() -> None:
    mode = sys.argv[1]
    if mode == "dies-on-start":
        sys.exit("broken: dies on start")
    if mode == "exits-zero":
        return
    listeners = [socket.create_server(("", OWN_PORT))] if mode == "ignores-sockets" else inherited_sockets()
    # Process 1 has no default action for a signal: without a handler it would ignore SIGTERM.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "ignores-stop" else lambda *_: stop(listeners, mode))
    if mode == "slow":
        time.sleep(LATE_S)
    served = listeners[:1] if mode == "first-only" else listeners
    left_open: list[socket.socket] = []
    while served:
        for listener in select.select(served, [], [])[0]:
            serve(listener, mode, left_open)
        if mode == "answers-once":
            served = []
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
