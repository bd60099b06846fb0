"""Send back what arrives on every socket that systemd handed over, see sd_listen_fds(3).

A stream client gets its bytes back until it has shut down its side; a datagram is answered with itself. Only the
modules that a start needs are imported: the start is what a socket-activated service is judged by.
"""

import os
import selectors
import signal
import socket
import sys

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
LARGEST_DATAGRAM = 65536


def inherited_sockets():
    """Return the sockets that were passed to this very process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(count)]


class Stream:
    """One client of a stream socket: what it sent and has not got back yet."""

    def __init__(self, selector, connection):
        self.selector, self.connection, self.pending, self.ended = selector, connection, b"", False
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, self.ready)

    def ready(self):
        try:
            if not self.pending:
                self.pending = self.connection.recv(65536)
                self.ended = not self.pending
            if self.pending:
                self.pending = self.pending[self.connection.send(self.pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        if self.ended:
            self.selector.unregister(self.connection)
            self.connection.close()
            return
        self.selector.modify(
            self.connection, selectors.EVENT_WRITE if self.pending else selectors.EVENT_READ, self.ready
        )


def accept(selector, listener):
    """Take the next client; it may have gone again."""
    try:
        connection, _peer = listener.accept()
    except OSError:
        return
    Stream(selector, connection)


def answer(listener):
    """Send one datagram back; its sender may have gone again, or has no address to answer to."""
    try:
        data, peer = listener.recvfrom(LARGEST_DATAGRAM)
        if peer:
            listener.sendto(data, peer)
    except OSError:
        pass


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # process 1 has no default action for a signal
    listeners = inherited_sockets()
    if not listeners:
        print("echo: no sockets were passed to this process (LISTEN_PID, LISTEN_FDS)", file=sys.stderr)
        return 1
    selector = selectors.DefaultSelector()
    for listener in listeners:
        listener.setblocking(False)
        if listener.type == socket.SOCK_DGRAM:
            selector.register(listener, selectors.EVENT_READ, lambda listener=listener: answer(listener))
        else:
            selector.register(listener, selectors.EVENT_READ, lambda listener=listener: accept(selector, listener))
    while True:
        for key, _events in selector.select():
            key.data()


if __name__ == "__main__":
    sys.exit(main())
