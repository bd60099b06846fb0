"""A client program: `ask.py PATH` or `ask.py HOST PORT` sends what it reads, prints what it gets and its length."""

import os
import socket
import sys


def main() -> None:
    if len(sys.argv) == 2:
        client = socket.socket(socket.AF_UNIX)
        client.connect(sys.argv[1])
    else:
        client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    with client:
        client.sendall(sys.stdin.buffer.read() or b"?")
        client.shutdown(socket.SHUT_WR)
        data = b""
        while chunk := client.recv(65536):
            data += chunk
    sys.stdout.write(f"{data.decode()}{len(data)} bytes; XDG_RUNTIME_DIR {'XDG_RUNTIME_DIR' in os.environ}\n")


if __name__ == "__main__":
    main()
