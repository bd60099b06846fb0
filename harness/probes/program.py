"""The client program that a contract names: in the session, or in a container of its own image."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.contract import ClientImage, ExecProbe
from harness.core.deadline import Deadline
from harness.core.errors import CommandError
from harness.core.transports import Endpoint, Transport
from harness.probes.reply import Reply, Times
from harness.session.session import Session

#: Name of the container that a client runs in, before the number of its thread: one thread asks one after the other.
CONTAINER = "harness-client"


@dataclass(frozen=True, slots=True)
class Supplies:
    """What a contract's client programs are given for a test."""

    #: A client image of the contract -> how podman knows it.
    images: Mapping[ClientImage, str] = field(default_factory=dict)
    #: Name -> text of the secrets made for the test.
    secrets: Mapping[str, str] = field(default_factory=dict)

    def masked(self, text: str) -> str:
        """Return a text for people, with the contract's words in place of the secrets that somebody put into it.

        `podman inspect` shows secrets that are variables, and an image may print what it was given.
        """
        for name, secret in self.secrets.items():
            # A program may have read it without the newline that an editor has put at a file's end.
            text = text.replace(secret.strip(), f"{{secret:{name}}}")
        return text


def _name() -> str:
    return f"{CONTAINER}-{threading.get_native_id()}"


def command(endpoint: Endpoint, promised: ExecProbe, supplies: Supplies) -> tuple[str, ...]:
    """Return the client's command line, its placeholders filled in."""
    arguments = promised.arguments(endpoint.placeholders)
    if promised.image is None:
        return arguments
    image = supplies.images.get(promised.image, promised.image.reference or promised.image.containerfile)
    # fmt: off
    return (
        "podman", "run", f"--name={_name()}", "--rm", "--replace", "--pull=never", "--interactive",
        # No relay: a conmon that is late sees the program's end first, and drops what podman attached too late to read.
        "--log-driver=passthrough", "--network=host",
        # SELinux lets no container connect to a socket of the user's; a client is no image under test.
        "--security-opt=label=disable",
        *((f"--volume={endpoint.path}:{endpoint.path}",) if endpoint.transport is Transport.UNIX else ()),
        image, *arguments,
    )
    # fmt: on


def ask(session: Session, endpoint: Endpoint, promised: ExecProbe, supplies: Supplies, deadline: Deadline) -> Reply:
    """Run the program to its end and return its standard output and its exit status."""
    line = command(endpoint, promised, supplies)
    sent = promised.input(supplies.secrets)
    limit_s = max(0.001, deadline.remaining_s)
    started = time.monotonic()
    status, complaint = None, ""
    try:
        done = session.run(line, timeout_s=limit_s, stdin=sent, check=False)
        status, body, complaint = done.status, done.stdout, done.stderr.decode(errors="replace").strip()
    except CommandError as error:
        body, complaint = error.stdout, f"{error.sentence} {error.stderr.decode(errors='replace')}".strip()
        if promised.image:
            # podman is gone, but conmon and the container are not its children.
            session.run(["podman", "rm", "--force", "--ignore", "--time=0", _name()], check=False)
    ended = time.monotonic()
    return Reply(
        endpoint,
        "exec",
        # As the contract has it, so that no secret gets into a report.
        promised.stdin.encode(),
        body,
        Times(started, None, None, ended),
        complaint,
        command=(*session.prefix, *line),
        exit_status=status,
    )
