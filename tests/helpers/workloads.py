"""Workloads for tests of activations, and what one leaves in a session."""

from __future__ import annotations

from harness.activation import Workload
from harness.core.transports import Listener, Transport
from harness.session.session import Session

LISTENERS = (
    Listener((Transport.TCP4,), 3000),
    Listener((Transport.UDP4,), 3000),
    Listener((Transport.TCP6,), 3000),
    Listener((Transport.UDP6,), 3000),
    Listener((Transport.UNIX,), path="/home/harness/echo"),
)

WORKLOAD = Workload("echo", "localhost/echo:1", LISTENERS, ("/bin/a b", "100%"), 3.0)

ARGUMENTS = {
    "plain": "plain-text_1.0:/a=b,c",
    "empty": "",
    "space": "a b  c",
    "only space": "  ",
    "tab": "a\tb",
    "line break": "a\nb\n",
    "double quotes": '"a" "',
    "single quotes": "it's 'a'",
    "backslash": "a\\b\\\\",
    "backslash last": "a\\",
    "backslash and n": "\\n",
    "specifier": "%h %% 100%",
    "variable": "$HOME ${HOME} $$ $",
    "semicolon": ";",
    "semicolon inside": "a ; b",
    "shell": "`id` $(id) & | > #x",
    "hash first": "# no comment",
    "option": "--x=y z",
    "unicode": "é 日本 \U0001f600",
    "escape": "\x1b[0m\x07\x01",
    "carriage return": "a\rb",
    "vertical tab": "a\x0bb\x0cc",
    "all together": "\\\"'%$ \n\t;${x}%n\\x41",
}


#: Name of the workload that `left` looks for.
NAME = "tested"


def left(session: Session) -> dict[str, object]:
    """Return what is in the session of the workload."""
    folders = [session.outside(path) for path in (session.paths.units, session.paths.quadlets)]
    ids = session.outside(session.paths.runtime).glob(f"{NAME}*.cid")  # Quadlet's; `podman generate` leaves its own
    containers = session.run(["podman", "ps", "--all", "--format", "{{.Names}}"]).text.split()
    listening = session.run(["ss", "-Hnltux"]).text
    found = {
        "files": sorted(file.name for folder in folders for file in folder.glob(f"{NAME}*")),
        "ids": [file.name for file in ids],
        "containers": [name for name in containers if name.startswith(NAME)],
        "failed": session.manager.failed_units(),
        "loaded": [
            unit[0]
            for unit in session.manager.call("ListUnits")[0]
            if unit[0].startswith(NAME) and unit[3] != "inactive"
        ],
        "listening": [line for line in listening.splitlines() if ":5000 " in line or "tested.sock" in line],
    }
    return {kind: things for kind, things in found.items() if things}
