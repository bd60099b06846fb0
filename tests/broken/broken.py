"""Echo of a line, with the one promise broken that the argument names: the negative controls of the suites.

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
IDLE_OPTION = "--idle-exit="

#: The number of clients after which one is left without its reply, and after which one leaves its descriptor.
EVERY = 500
LEAKING_EVERY = 50

#: The number of clients after which one aborts.
ABORTING_AFTER = 3

#: What a client leaves in memory, in bytes.
REMNANT = 2000


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


def serve(listener: socket.socket, mode: str, left: list[object]) -> None:
    """Answer the next client of one socket."""
    if mode in ("drops", "leaks", "grows"):
        left.append(bytes(REMNANT if mode == "grows" else 0))
    drops = mode == "drops" and len(left) % EVERY == 0
    if listener.type == socket.SOCK_DGRAM:
        data, peer = listener.recvfrom(65536)
        if not drops:
            listener.sendto(reply_to(data, listener, mode), peer)
        return
    connection, _peer = listener.accept()
    data = b""
    while not data.endswith(b"\n") and (chunk := connection.recv(65536)):
        data += chunk
    if not drops:
        connection.sendall(reply_to(data, listener, mode))
    if mode == "leaks" and len(left) % LEAKING_EVERY == 0:
        os.dup(listener.fileno())
    if mode == "never-closes":
        left.append(connection)
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
    left: list[object] = []
    clients = 0
    idle_s = next(
        (float(text.removeprefix(IDLE_OPTION)) for text in sys.argv[2:] if text.startswith(IDLE_OPTION)), None
    )
    while served:
        ready = select.select(served, [], [], idle_s)[0]
        if not ready and mode != "never-idles":
            return
        for listener in ready:
            serve(listener, mode, left)
        if mode == "ends-after-client":
            return
        if mode == "aborts":
            os.abort()
        if mode == "aborts-at-times":
            clients += len(ready)
            if clients >= ABORTING_AFTER:
                os.abort()
        if mode == "answers-once":
            served = []
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
