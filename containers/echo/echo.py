"""Send back what arrives on every socket that systemd handed over, see sd_listen_fds(3).

A stream client gets its bytes back until it has shut down its side; a datagram is answered with itself. SIGTERM, and
with `--idle-exit=SECONDS` that much time without a client, ends the program: it takes no more clients and finishes with
those that it has. Whoever is not taken yet waits in systemd's socket for the next start. Only the modules that a start
needs are imported: the start is what a socket-activated service is judged by.
"""

import os
import selectors
import signal
import socket
import sys
import time

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
LARGEST_DATAGRAM = 65536
IDLE_OPTION = "--idle-exit="

#: How long clients that were taken before the end may go on, in seconds.
GRACE_S = 3


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


def serve(listeners, terminated, idle_s):
    """Answer clients until there is something to read from `terminated`, or none has come for `idle_s` seconds."""
    selector = selectors.DefaultSelector()
    for listener in listeners:
        listener.setblocking(False)
        if listener.type == socket.SOCK_DGRAM:
            selector.register(listener, selectors.EVENT_READ, lambda listener=listener: answer(listener))
        else:
            selector.register(listener, selectors.EVENT_READ, lambda listener=listener: accept(selector, listener))
    own = [*listeners, terminated]
    end = []
    selector.register(terminated, selectors.EVENT_READ, lambda: end.append("terminated"))
    while not end:
        events = selector.select(idle_s)
        for key, _events in events:
            key.data()
        if not events and len(selector.get_map()) == len(own):
            end.append("idle")

    for item in own:
        selector.unregister(item)
    last = time.monotonic() + GRACE_S
    while selector.get_map() and time.monotonic() < last:
        for key, _events in selector.select(last - time.monotonic()):
            key.data()


def seconds(argument):
    """Return the number behind the option, which is finite and above 0; end the program where there is none."""
    if not argument.startswith(IDLE_OPTION):
        fail(2, f"unknown argument '{argument}'; there is only {IDLE_OPTION}SECONDS")
    try:
        number = float(argument.removeprefix(IDLE_OPTION))
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        fail(2, f"'{argument}' is not a number of seconds above 0")
    return number


def fail(status, text):
    """Say what is wrong and end the program."""
    print(f"echo: {text}", file=sys.stderr)
    sys.exit(status)


def main():
    idle_s = None
    for argument in sys.argv[1:]:
        idle_s = seconds(argument)
    listeners = inherited_sockets()
    if not listeners:
        fail(1, "no sockets were passed to this process (LISTEN_PID, LISTEN_FDS)")
    # Process 1 has no default action for a signal; this one becomes something to read.
    terminated, signalled = socket.socketpair()
    signalled.setblocking(False)
    signal.set_wakeup_fd(signalled.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    serve(listeners, terminated, idle_s)


if __name__ == "__main__":
    main()
