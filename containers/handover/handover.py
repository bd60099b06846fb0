"""Tell what this process was given at its start, over the very sockets that it was given; echo everything else.

A client sends one request and ends it; the reply to `report` and `dial HOST PORT` is one JSON document, to any other
request the request itself. The program serves every socket that it finds, whatever LISTEN_PID and LISTEN_FDS say, so
that it can still tell what is wrong with them. With a port as its argument, it listens there itself, too.
"""

import os

# First of all: what comes later opens files of its own. The descriptor of the listing itself has been closed since.
LISTED = sorted(map(int, os.listdir("/proc/self/fd")))
NUMBERS = [number for number in LISTED if os.path.islink(f"/proc/self/fd/{number}")]

import errno  # noqa: E402
import fcntl  # noqa: E402
import json  # noqa: E402
import selectors  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import stat  # noqa: E402
import sys  # noqa: E402

LARGEST_DATAGRAM = 65536
CLIENT_LIMIT_S = 5
DIAL_LIMIT_S = 2

KINDS = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFCHR: "device",
}


def name_of(enumeration, value):
    """Return the name that socket(7) has for a number."""
    try:
        return enumeration(value).name
    except ValueError:
        return str(value)


def describe(number):
    """Return what a descriptor is."""
    facts = os.fstat(number)
    told = {
        "number": number,
        "kind": KINDS.get(stat.S_IFMT(facts.st_mode), "anonymous"),
        "target": os.readlink(f"/proc/self/fd/{number}"),
        "inode": facts.st_ino,
        "close_on_exec": bool(fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC),
    }
    return told | describe_socket(number) if told["kind"] == "socket" else told


def describe_socket(number):
    """Return what a socket is: the options are those of socket(7)."""
    inherited = socket.socket(fileno=number)
    address = inherited.getsockname()
    told = {
        "family": name_of(socket.AddressFamily, inherited.family),
        "type": name_of(socket.SocketKind, inherited.type),
        "protocol": inherited.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL),
        "address": address if isinstance(address, str) else list(address[:2]),
        "listening": bool(inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)),
    }
    inherited.detach()
    return told


def dial(host, port):
    """Try to reach an address from here; return why that did not work, or ""."""
    try:
        socket.create_connection((host, int(port)), DIAL_LIMIT_S).close()
    except socket.gaierror as error:
        return str(error.args[1])
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return ""


def reply_to(request, peer, start):
    """Return the reply to one request of the client `peer`."""
    words = request.decode(errors="replace").split()
    if words == ["report"]:
        return json.dumps(start | {"peer": list(peer[:2]) if isinstance(peer, tuple) else str(peer)}).encode()
    if len(words) == 3 and words[0] == "dial":
        return json.dumps({"problem": dial(*words[1:])}).encode()
    return request


def serve_stream(listener, start):
    """Answer the next client when it has ended its request."""
    connection, peer = listener.accept()
    with connection:
        connection.settimeout(CLIENT_LIMIT_S)
        request = b""
        while chunk := connection.recv(65536):
            request += chunk
        connection.sendall(reply_to(request, peer, start))


def serve_datagram(listener, start):
    """Answer one datagram."""
    request, peer = listener.recvfrom(LARGEST_DATAGRAM)
    listener.sendto(reply_to(request, peer, start), peer)


def main():
    descriptors = [describe(number) for number in NUMBERS]
    start = {"pid": os.getpid(), "environment": dict(os.environ), "descriptors": descriptors}
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # process 1 has no default action for a signal
    selector = selectors.DefaultSelector()
    for told in descriptors:
        if told["kind"] == "socket":
            listener = socket.socket(fileno=told["number"])
            if told["listening"]:
                selector.register(listener, selectors.EVENT_READ, serve_stream)
            elif told["type"] == "SOCK_DGRAM" and told["address"]:
                selector.register(listener, selectors.EVENT_READ, serve_datagram)
            else:
                listener.detach()
    for port in map(int, sys.argv[1:]):
        selector.register(socket.create_server(("", port)), selectors.EVENT_READ, serve_stream)
        print(f"handover: listens on port {port}", flush=True)
    while True:
        for key, _events in selector.select():
            try:
                key.data(key.fileobj, start)
            except OSError:
                continue  # the client has gone, or never ended its request


if __name__ == "__main__":
    main()
