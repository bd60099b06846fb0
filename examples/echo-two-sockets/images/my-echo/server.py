"""An echo server over the sockets that it is given, sound but for the one fault that the argument names.

Each client of a stream has a thread; SIGTERM lets those finish that were accepted. tests/faults/table.py says which
test must find a fault, and in which words.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
LOCK = Path("/var/lib/lock/lock")

#: Longest wait for the request of a client that was accepted before SIGTERM, in seconds.
FINISH_S = 1.0

#: Bytes that a reply is cut at, or doubled behind.
EDGE = 1000


class Server:
    """All that the threads share."""

    def __init__(self, fault: str, idle_s: float | None, names: dict[int, str]) -> None:
        self.fault = fault
        #: Descriptor -> FileDescriptorName= of systemd.socket(5); empty where replies don't tell the socket.
        self.names = names
        self.idle_s = idle_s
        self.replies = 0
        self.connected = 0
        self.previous = b""
        self.kept: list[object] = []
        self.last = time.monotonic()
        self.stopping, self._stopping = os.pipe()
        self.ending = False

    def stop(self, *_signal: object) -> None:
        """Let the clients that were accepted finish, and take no other."""
        if self.fault == "stops-late":
            time.sleep(8)
        if self.fault == "drops-accepted":
            os._exit(0)
        self.ending = True
        os.write(self._stopping, b"x")

    def reply(self, data: bytes, name: str = "") -> bytes:
        """Return what is sent back for what has come over the socket of a name."""
        self.replies += 1
        self.last = time.monotonic()
        fault, number = self.fault, self.replies
        if (fault == "dies-after-3" and number > 3) or (fault == "dies-after-100" and number > 100):
            os._exit(1)
        if fault == "tenth-late" and number % 10 == 0:
            time.sleep(0.3)
        if fault == "late":
            time.sleep(0.5)
        if fault == "leaks-memory":
            self.kept.append(bytes(65536))
        if fault == "leaks-descriptors":
            self.kept.append(os.dup(2))
        if fault in ("leaks-processes", "leaks-zombies"):
            self.kept.append(subprocess.Popen(["/bin/sleep", "1000" if fault == "leaks-processes" else "0"]))
        if fault == "floods":
            sys.stderr.write("x" * 65536 + "\n")
        if fault == "previous":
            data, self.previous = self.previous or data, data
        return f"{name}: ".encode() + data if name else data

    def serve(self, connection: socket.socket, name: str = "") -> None:
        """Send back what one client sends, to its end."""
        self.connected += 1
        received = 0
        if self.fault == "drops-accepted":
            time.sleep(0.02)
        with connection, contextlib.suppress(OSError):
            while True:
                limit = None if not self.ending else 0 if received else FINISH_S
                waited = [connection] if self.ending else [connection, self.stopping]
                ready, _, _ = select.select(waited, [], [], limit)  # type: ignore[type-var]
                if connection not in ready and self.ending:
                    if received or limit is not None:
                        break
                    continue
                if connection not in ready:
                    continue
                try:
                    data = connection.recv(65536)
                except ConnectionResetError:
                    if self.fault == "dies-of-reset":
                        os._exit(1)
                    raise
                if not data:
                    break
                back = self.reply(data, name)
                if self.fault == "truncates":
                    back = back[: max(0, EDGE - received)]
                if self.fault == "doubles" and received <= EDGE < received + len(back):
                    back = (
                        back[: EDGE - received] + back[EDGE - received : EDGE - received + 1] + back[EDGE - received :]
                    )
                received += len(data)
                if self.fault == "drops":
                    for byte in back:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.02)
                else:
                    connection.sendall(back)
        self.connected -= 1
        self.last = time.monotonic()

    def take(self, listener: socket.socket) -> None:
        """Take a client of a socket that has one."""
        name = self.names.get(listener.fileno(), "")
        if listener.type == socket.SOCK_DGRAM:
            data, peer = listener.recvfrom(65536)
            back = self.reply(data, name)
            if self.fault == "truncates":
                back = back[:EDGE]
            with contextlib.suppress(OSError):
                listener.sendto(back, peer)
            return
        try:
            connection, _peer = listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(True)
        if self.fault == "blocked-by-silence":
            connection.recv(1, socket.MSG_PEEK)
        if self.fault in ("one-at-a-time", "one-client"):
            self.serve(connection, name)
        else:
            threading.Thread(target=self.serve, args=(connection, name)).start()


def inherited() -> list[socket.socket]:
    """Return the sockets that were passed to this very process; end it when there are none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        sys.exit(f"server: LISTEN_PID is {os.environ.get('LISTEN_PID')}, but this is process {os.getpid()}")
    return [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(int(os.environ["LISTEN_FDS"]))]


def names_of(fault: str) -> dict[int, str]:
    """Return descriptor -> name of the sockets, as systemd says, or exchanged."""
    if not fault.startswith("names"):
        return {}
    names = os.environ["LISTEN_FDNAMES"].split(":")
    exchanged = {"web": "admin", "admin": "web"} if fault == "names-exchanged" else {}
    return {FIRST_DESCRIPTOR + number: exchanged.get(name, name) for number, name in enumerate(names)}


def say_ready() -> None:
    """Tell systemd, see sd_notify(3)."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(b"READY=1", path.replace("@", "\0", 1))


def prepare(fault: str, listeners: list[socket.socket]) -> list[socket.socket]:
    """Do what a fault does to the sockets before the first client; return those that are served."""
    streams = [listener for listener in listeners if listener.type == socket.SOCK_STREAM]
    if fault == "first-only":
        return listeners[:1]
    if fault == "names-one-unserved":
        return [listener for listener in listeners if names_of(fault)[listener.fileno()] != "admin"]
    if fault == "closes-second" and len(listeners) > 1:
        listeners.pop(1).close()
    if fault == "closes-all":
        while listeners:
            listeners.pop().close()
    if fault == "ignores-sockets":
        return [socket.create_server(("", 8080))]
    if fault == "second-port":
        listeners.append(socket.create_server(("", 9090)))
    if fault == "second-datagrams":
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.bind(("", 9091))
        listeners.append(own)
    if fault == "shrinks-queue":
        for listener in streams:
            listener.listen(0)
    return listeners


def wait_in_accept(server: Server, listeners: list[socket.socket]) -> None:
    """Serve the sockets by turns, and wait in each for a client."""
    while True:
        for listener in reversed(listeners):
            listener.setblocking(True)
            server.take(listener)


def main() -> None:
    fault = sys.argv[1]
    idle_s = float(sys.argv[2]) if len(sys.argv) > 2 else None
    if fault == "dies-on-start":
        sys.exit("server: no configuration")
    if fault == "exits-zero":
        return
    server = Server(fault, idle_s, names_of(fault))
    listeners = inherited()
    # Process 1 has no default action for a signal: without a handler it would ignore SIGTERM.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if fault == "ignores-stop" else server.stop)
    if fault == "leaves-lock" and LOCK.exists():
        sys.exit("server: another one runs: /var/lib/lock/lock")
    LOCK.touch()
    served = prepare(fault, listeners)
    say_ready()
    if fault == "ready-early":
        time.sleep(1)
    if fault == "accepts-nothing":
        while True:
            signal.pause()
    if fault == "waits-in-accept":
        wait_in_accept(server, served)
    for listener in served:
        listener.setblocking(False)
    while not server.ending:
        ready, _, _ = select.select([*served, server.stopping], [], [], 0.1 if idle_s else None)  # type: ignore[type-var]
        for come in ready:
            if isinstance(come, socket.socket):
                server.take(come)
                if fault == "one-client":
                    served.clear()
        busy = server.connected and fault != "leaves-client"
        if idle_s and not busy and time.monotonic() - server.last > idle_s and fault != "never-idles":
            break
    for listener in listeners:
        if fault == "shuts-down":
            listener.shutdown(socket.SHUT_RDWR)
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and fault != "leaves-client":
            thread.join(2 * FINISH_S)
    LOCK.unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    main()
