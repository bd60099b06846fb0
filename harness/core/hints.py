"""What podman, the OCI runtime, systemd and package managers are known to say: what to do, and who has to do it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import Blame


@dataclass(frozen=True, slots=True)
class Hint:
    """What a known message means."""

    pattern: str
    advice: str
    #: Who has to act, where it is another than the error's class says.
    blame: Blame | None = None


_NONE = Hint("", "")

_HINTS = (
    Hint(
        r"Resource temporarily unavailable|failed to create new OS thread|pthread_create failed",
        "No more processes or threads can be started; raise the limit: 'ulimit -u', pids.max, kernel.pid_max.",
        Blame.MACHINE,
    ),
    Hint(
        r"no space left on device|disk quota exceeded",
        "Free some disk space; 'python -m harness images prune' removes what is unused.",
        Blame.MACHINE,
    ),
    Hint(
        r"Temporary failure resolving|Could not resolve host|lookup .* (no such host|server misbehaving)",
        "A name could not be resolved; check the machine's network and proxy variables.",
        Blame.MACHINE,
    ),
    Hint(
        r"cannot set up namespace|newuidmap.*(not permitted|failed)|no subuid ranges",
        "The account has no subordinate ids; see subuid(5).",
        Blame.MACHINE,
    ),
    Hint(
        r"session's view of the machine: PermissionError|nsenter: .*(Permission denied|not permitted)",
        "Root lacks a capability of capabilities(7) here; in a container, run it by 'podman run --privileged'.",
        Blame.MACHINE,
    ),
    Hint(
        r"mount tmpfs on /\S+: No such file",
        "Make that folder; every machine has it, see hier(7).",
        Blame.MACHINE,
    ),
    Hint(
        r"Cannot find unit for notify message of PID",
        "Podman's first start in a login races with its own READY=1; run 'podman unshare true' once before it.",
        Blame.MACHINE,
    ),
    Hint(
        r"unsupported key '\w+' in group",
        "This Podman's Quadlet does not know the key; docs/quadlet.md tells which Podman the harness writes for.",
        Blame.MACHINE,
    ),
)

#: What they say where the program in the container was never executed, the most telling first.
_STARTS = (
    *_HINTS,
    Hint(
        r"/dev/net/tun",
        "Let the account open /dev/net/tun: 'chmod 0666 /dev/net/tun', after 'modprobe tun' where there is none.",
        Blame.MACHINE,
    ),
    Hint(
        r"\b(slirp4netns|pasta|netavark|aardvark-dns|conmon)\b.*(failed|not found|executable file)"
        r"|could not find .*(slirp4netns|pasta|netavark|aardvark|conmon)|default OCI runtime .* not found"
        r"|executable found for OCI runtime",
        "Podman lacks one of its programs, or that failed; 'python -m harness setup' installs them.",
        Blame.MACHINE,
    ),
    Hint(
        r"resource temporarily unavailable|cannot fork|failed to fork|too many open files|cannot allocate memory",
        "The machine, or the session's cgroup, is out of processes, descriptors or memory.",
        Blame.MACHINE,
    ),
    Hint(
        r"controller `\w+` is not available|opening file `(cpu|io|memory|pids)\.",
        "The session's cgroup lacks a controller that a limit takes; cgroups of version 2 with all of them have it.",
        Blame.MACHINE,
    ),
    Hint(
        r"sd-bus call|cgroups?:|systemd.*not supported|systemd cgroup flag",
        "The OCI runtime can't use systemd's cgroups; 'python -m harness doctor' names a runtime that can.",
        Blame.MACHINE,
    ),
    Hint(
        r"Failed to locate executable|Failed at step EXEC",
        "The unit starts a program that is not there; look at its ExecStart= and at where podman is installed.",
        Blame.MACHINE,
    ),
    Hint(
        r"image not known|no such image",
        "Build or pull the image; the unit starts it with '--pull=never'.",
        Blame.IMAGE,
    ),
    Hint(
        r"executable file .*not found|attempted to invoke a command that was not found|exec format error"
        r"|OCI permission denied|unable to find user|crun: open executable",
        "The image's program can't be executed; look at its ENTRYPOINT, CMD and USER, and 'command' below [image].",
        Blame.IMAGE,
    ),
    Hint(
        r"unknown (shorthand )?flag|invalid reference format|invalid argument .* for .*flag",
        "Podman refuses an option; look at the contract's 'options', or at the unit.",
        Blame.INPUT,
    ),
)

#: What systemd says of a socket that it can't make; no image can be to blame for that.
_SOCKETS = (
    Hint(
        r"Address already in use",
        "Another process, or another line of the same unit, has the address: 'ss -lnp' shows who listens.",
    ),
    Hint(
        r"Cannot assign requested address|Address family not supported",
        "The machine has no such address; 'python -m harness doctor' tells which transports it can do.",
        Blame.MACHINE,
    ),
    *_HINTS,
)


def hint(output: str) -> Hint:
    """Return what is known of a message in `output`; a hint without advice where nothing is."""
    return _find(output, _HINTS)


def start_hint(output: str) -> Hint:
    """Return what is known of a start that never reached the program; unknown words accuse nobody."""
    return _find(output, _STARTS, Hint("", "", Blame.UNKNOWN))


def socket_hint(output: str) -> Hint:
    """Return what is known of why systemd does not listen; nobody is blamed for unknown words."""
    found = _find(output, _SOCKETS)
    return Hint(found.pattern, found.advice, found.blame or Blame.UNKNOWN)


def _find(output: str, known: Sequence[Hint], otherwise: Hint = _NONE) -> Hint:
    return next((item for item in known if re.search(item.pattern, output, re.IGNORECASE)), otherwise)
