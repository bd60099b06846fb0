"""What this machine can do, and a userland on it: one table, probed lazily, for `doctor`, the header and `requires`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.capabilities import kernel, loopback
from harness.capabilities import userspace as probes
from harness.core import hints
from harness.core.errors import CapabilityMissing, UsageError
from harness.core.machine import Found, Machine, Probe
from harness.core.userland import HOST, Userland
from harness.guest.engines.uml import Uml
from harness.guest.engines.virtme import Virtme

#: Probes that run at the same time; nearly all of their time is a child's start.
_PROBES_AT_ONCE = 4

_SETUP = "python3 -m harness setup"


def _package(name: str) -> str:
    return f"install the package '{name}', where the distribution has it"


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that this machine can do, or can't."""

    name: str
    present: bool
    #: Version or mode, empty where there is none.
    version: str
    #: What was seen: where it is, or why it is not there.
    detail: str
    #: What the harness can do with it.
    enables: str
    #: How to get it.
    hint: str


@dataclass(frozen=True, slots=True)
class Row:
    """One capability that the harness knows."""

    name: str
    enables: str
    hint: str
    probe: Probe
    #: Whether a guest kernel has it, wherever the machine's own lacks it.
    guest: bool = False
    #: Whether it is of the userland that sessions use, and not of the machine's kernel or of this process.
    userland: bool = False


#: Every capability, in the order in which `doctor` shows them.
TABLE: tuple[Row, ...] = (
    Row("python", "the harness itself", "install Python 3.11 or newer", probes.python),
    Row("systemd", "sessions: their own 'systemd --user'", _SETUP, probes.systemd, userland=True),
    Row(
        "systemd_socket_activate",
        "the activation 'launcher'",
        _SETUP,
        probes.program("systemd-socket-activate"),
        userland=True,
    ),
    Row(
        "cgroup_v2",
        "sessions: a cgroup of their own, and their end",
        "as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup, writable; as a user: log in to a systemd machine",
        probes.cgroup_v2,
    ),
    Row(
        "bounds",
        "sessions: bounds of memory and processes, so that a hostile image harms nobody",
        "enable the cgroup controllers 'memory' and 'pids'; in a container: podman run --privileged --cgroupns=host",
        kernel.bounds,
    ),
    Row("user_manager", "sessions of an ordinary user", "log in by console or ssh", probes.user_manager),
    Row(
        "namespaces",
        "isolated sessions, made by root",
        "run on a machine, or in a container that may mount and unshare (podman run --privileged)",
        probes.namespaces,
    ),
    Row("dbus", "sessions: the message bus that Podman asks for cgroups", _SETUP, probes.dbus, userland=True),
    Row("podman", "containers", _SETUP, probes.program("podman"), userland=True),
    Row(
        "rootless_podman",
        "containers of an unprivileged account",
        f"{_SETUP}; in a container also allow user namespaces (podman run --privileged)",
        probes.rootless_podman,
    ),
    Row("subids", "containers of an unprivileged account", "see subuid(5)", probes.subids),
    Row(
        "storage_overlay",
        "starting a container in 0.1 s instead of 6 s",
        "boot a kernel from 6.6, with the overlay file system",
        kernel.storage_overlay,
    ),
    Row("crun", "containers: the runtime", _SETUP, probes.program("crun"), userland=True),
    Row(
        "crun_systemd",
        "containers by crun; without it, sessions use runc",
        "use a crun that was built with libsystemd, as distributions' packages are",
        probes.crun_systemd,
        userland=True,
    ),
    Row("runc", "containers: the other runtime", _SETUP, probes.program("runc"), userland=True),
    Row("conmon", "containers", _SETUP, probes.program("conmon", "/usr/libexec/podman/conmon"), userland=True),
    Row(
        "catatonit",
        "containers with an init (--init)",
        _SETUP,
        probes.program("catatonit", "/usr/libexec/podman/catatonit"),
        userland=True,
    ),
    Row("socat", "the probe 'socat'", _SETUP, probes.program("socat", flag="-V"), userland=True),
    Row("curl", "the probe 'curl'", _SETUP, probes.program("curl"), userland=True),
    Row(
        "mmdebstrap",
        "a Debian base image where no registry answers",
        _package("mmdebstrap"),
        probes.program("mmdebstrap"),
    ),
    Row(
        "tun",
        "containers with published ports",
        "sudo chmod 666 /dev/net/tun; or run as root",
        kernel.device("net/tun", 200),
    ),
    Row(
        "fuse", "containers with fuse-overlayfs", "sudo chmod 666 /dev/fuse; or run as root", kernel.device("fuse", 229)
    ),
    Row("ipv6_loopback", "the transports tcp6 and udp6", "boot without ipv6.disable=1", loopback.ipv6_loopback),
    Row(
        "vsock_loopback",
        "the transport vsock",
        "as root: modprobe vsock_loopback; where the kernel has no such module, the harness boots a guest (see 'uml')",
        loopback.vsock_loopback,
        guest=True,
    ),
    Row(
        "slirp4netns",
        "containers with a network",
        _package("slirp4netns"),
        probes.program("slirp4netns"),
        userland=True,
    ),
    Row(
        "pasta",
        "containers with a network, Podman 5's own way",
        _package("passt"),
        probes.program("pasta"),
        userland=True,
    ),
    Row(
        "podman_generate",
        "the activation 'generate'",
        "use a Podman that still has podman-generate-systemd(1), or the activation 'quadlet'",
        probes.podman_generate,
        userland=True,
    ),
    Row("quadlet", "the activation 'quadlet'", "install Podman 4.4 or newer", probes.quadlet, userland=True),
    Row("docker_compose", "the API service, asked by docker-compose", _SETUP, probes.docker_compose, userland=True),
    Row("docker_sdk", "the API service, asked by the Docker SDK", "pip install 'docker>=7.1'", probes.docker_sdk),
    Row(
        "uml",
        "a guest kernel without root and KVM, for what this kernel lacks",
        f"{_SETUP}, where the distribution has the package 'user-mode-linux'",
        kernel.engine(Uml),
    ),
    Row(
        "virtme",
        "a guest kernel of any distribution's, in QEMU",
        "python3 -m harness setup --virtme && pip install virtme-ng",
        kernel.engine(Virtme),
    ),
    Row(
        "kvm",
        "a fast guest kernel, if it boots",
        "load kvm_intel or kvm_amd, and be allowed to open it",
        kernel.kvm,
    ),
    Row("selinux", "checks of SELinux labels", "run on a machine with SELinux, such as Fedora", kernel.selinux),
)

#: What a guest kernel has.
GUEST = frozenset(row.name for row in TABLE if row.guest)

#: What the suites can't run without; of each group one is enough.
NEEDED: tuple[tuple[str, ...], ...] = (
    ("python",),
    ("systemd",),
    ("systemd_socket_activate",),
    ("cgroup_v2",),
    ("user_manager",),
    ("namespaces",),
    ("dbus",),
    ("podman",),
    ("rootless_podman",),
    ("subids",),
    ("storage_overlay",),
    ("crun", "runc"),
    ("conmon",),
    ("socat",),
    ("curl",),
)

#: What some tests of the suites ask for beyond that: the transports.
ASKED_FOR = ("ipv6_loopback", "vsock_loopback")


class Capabilities:
    """The capabilities of one machine with one userland; each is probed when it is first asked for, then remembered."""

    def __init__(self, machine: Machine | None = None, userland: Userland = HOST) -> None:
        self._machine = machine or Machine()
        self._userland = userland
        self._within = self._machine.within(userland)
        self._rows = {row.name: row for row in TABLE}
        self._known: dict[str, Capability] = {}

    def get(self, name: str) -> Capability:
        """Return one capability by its name."""
        if name not in self._rows:
            raise UsageError(f"There is no capability '{name}'.", hint=f"Use one of: {', '.join(sorted(self._rows))}.")
        if name not in self._known:
            self._known[name] = self._probe(self._rows[name])
        return self._known[name]

    def has(self, name: str) -> bool:
        """Tell whether the machine has a capability."""
        return self.get(name).present

    def require(self, *names: str) -> None:
        """Raise CapabilityMissing for the first of `names` that the machine lacks."""
        for name in names:
            capability = self.get(name)
            if not capability.present:
                raise CapabilityMissing(name, capability.detail, capability.hint)

    def all(self) -> tuple[Capability, ...]:
        """Return every capability, in the table's order."""
        return self._several(self._rows)

    def lacking(self) -> tuple[tuple[str, ...], ...]:
        """Return the groups of NEEDED of which the machine has none; empty where the suites can run."""
        self._several(name for group in NEEDED for name in group)
        return tuple(group for group in NEEDED if not any(self.has(name) for name in group))

    def header(self, *, stood_in: Collection[str] = ()) -> list[str]:
        """Return the lines for pytest's header: versions, and what the suites would need and is missing.

        What `stood_in` names is done by something else and not missed.
        """
        lacking = [" or ".join(group) for group in self.lacking()]
        self._several((*ASKED_FOR, "python"))
        lacking += [name for name in ASKED_FOR if name not in stood_in and not self.has(name)]
        runtime = next((name for name in ("crun", "runc") if self.has(name)), "")
        versions = [f"kernel {self._machine.kernel()}", "python", "systemd", "podman", runtime or "no runtime"]
        line = ", ".join(self._versioned(text) for text in versions)
        place = "" if self._userland == HOST else f" {self._userland.name}"
        rows = [f"harness{place}: {line}"]
        if lacking:
            rows.append(f"harness{place}: missing here: {', '.join(lacking)} (see 'python3 -m harness doctor')")
        return rows

    def _versioned(self, text: str) -> str:
        """Return a capability's name and version; any other text as it is."""
        if text not in self._rows:
            return text
        capability = self.get(text)
        return f"{text} {capability.version}".rstrip() if capability.present else f"no {text}"

    def _several(self, names: Iterable[str]) -> tuple[Capability, ...]:
        """Return several capabilities, probing at the same time those that are not known."""
        wanted = list(names)
        with ThreadPoolExecutor(_PROBES_AT_ONCE) as pool:
            return tuple(pool.map(self.get, wanted))

    def _probe(self, row: Row) -> Capability:
        try:
            found = row.probe(self._within if row.userland else self._machine)
        except OSError as error:  # a folder that may not be read, say: no reason to end the whole run
            found = Found(False, "", f"could not be found out: {error}")
        hint = found.hint or hints.hint(found.detail).advice or row.hint
        if row.userland and not self._userland.is_host:
            hint = f"unpack a userland '{self._userland.name}' that has it, see 'python3 -m harness userland'"
        return Capability(row.name, found.present, found.version, found.detail, row.enables, hint)
