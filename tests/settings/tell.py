"""A server that tells every client, as JSON, what its container was given."""

import hashlib
import json
import os
import select
import signal
import socket
from pathlib import Path

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def writable(folder: str) -> bool:
    """Return whether a file can be made in a folder."""
    file = Path(folder, "trial")
    try:
        file.touch()
        file.unlink()
    except OSError:
        return False
    return True


def text_of(path: str) -> str:
    """Return a file's text, or what hinders that."""
    try:
        return Path(path).read_text()
    except OSError as error:
        return str(error)


def starts() -> int:
    """Count the starts that share the volume."""
    file = Path("/data/starts")
    count = int(text_of(str(file))) + 1 if file.exists() else 1
    file.write_text(str(count))
    return count


def digest(text: str) -> str:
    """Return what shows that a secret is known, and not the secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def facts(count: int, listeners: list[socket.socket]) -> dict[str, object]:
    """Return what the container was given."""
    named = dict(zip(os.environ.get("LISTEN_FDNAMES", "").split(":"), listeners, strict=False))
    return {
        "environment": {name: os.environ.get(name) for name in ("GREETING", "FOLDER", "DESCRIPTORS")},
        "names": {name: str(item.getsockname()) for name, item in named.items()},
        "count": len(listeners),
        "ids": [os.getuid(), os.getgid()],
        "root": writable("/etc"),
        "tmpfs": writable("/scratch"),
        "files": [text_of("/config/a.txt"), text_of("/config/deep/b.txt")],
        "config": writable("/config"),
        "starts": count,
        "secrets": [digest(os.environ.get("PASSWORD", "")), digest(text_of("/run/secrets/token"))],
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        "workdir": str(Path.cwd()),
        "no_delay": [
            item.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for item in listeners
            if item.family != socket.AF_UNIX
        ],
    }


def ready() -> None:
    """Say READY=1 by sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or os.environ.get("SILENT"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(b"READY=1", address.replace("@", "\0", 1))


def main() -> None:
    if not os.environ.get("DEAF"):
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    count = int(os.environ.get("LISTEN_FDS", "0"))
    listeners = [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(count)]
    told = json.dumps(facts(starts(), listeners)).encode() + b"\n"
    ready()
    while True:
        for listener in select.select(listeners, [], [])[0]:
            connection, _peer = listener.accept()
            with connection:
                while connection.recv(65536):
                    pass
                connection.sendall(told)


if __name__ == "__main__":
    main()
