"""Making sure of the system packages: find what is missing by looking for it, install it or tell the one command.

The package manager is never asked what is there, so that a second run takes milliseconds and changes nothing.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.capabilities.table import Capabilities
from harness.capabilities.userspace import DOCKER_COMPOSE_PLUGINS
from harness.core import process
from harness.core.cache import default_folder, writing
from harness.core.errors import Blame, CapabilityMissing, CommandError, HarnessError
from harness.core.locking import held
from harness.core.machine import Machine
from harness.core.process import NETWORK_INHERITED, SYSTEM_PATH
from harness.core.progress import Progress, silent
from harness.guest.engines import uml_kernel
from harness.guest.engines.uml import Uml

#: Time limit of one call of a package manager, in seconds: 200 MB over a slow line.
MANAGER_LIMIT_S = 1200.0

#: Time limit of the question whether sudo works without a password, in seconds.
_SUDO_LIMIT_S = 10.0


class PackagesMissing(HarnessError):
    """System packages are missing and could not be installed."""

    blame = Blame.MACHINE


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something the harness runs or needs, and the package it is in."""

    #: Programs, or files by their absolute path; one of them is enough.
    any_of: tuple[str, ...]
    #: Name of a package manager -> package; not wanted where the manager is not named.
    package: Mapping[str, str]
    #: The capability that it stands in for or gives: wanted only where the machine lacks that, and never needed; empty
    #: for what is always needed.
    only_for: str = ""


def _wanted(*any_of: str, apt: str, dnf: str = "") -> Wanted:
    return Wanted(any_of, {"apt-get": apt, "dnf": dnf} if dnf else {"apt-get": apt})


WANTED: tuple[Wanted, ...] = (
    _wanted("podman", apt="podman", dnf="podman"),
    _wanted("crun", apt="crun", dnf="crun"),
    _wanted("runc", apt="runc", dnf="runc"),
    _wanted("conmon", "/usr/libexec/podman/conmon", apt="conmon", dnf="conmon"),
    _wanted("catatonit", "/usr/libexec/podman/catatonit", apt="catatonit", dnf="catatonit"),
    _wanted("socat", apt="socat", dnf="socat"),
    _wanted("curl", apt="curl", dnf="curl"),
    _wanted("newuidmap", apt="uidmap", dnf="shadow-utils"),
    _wanted("newgidmap", apt="uidmap", dnf="shadow-utils"),
    _wanted("dbus-daemon", "dbus-broker", apt="dbus", dnf="dbus-broker"),
    _wanted(
        *("/usr/lib/systemd/user/dbus.socket", "/lib/systemd/user/dbus.socket"),
        apt="dbus-user-session",
        dnf="dbus-common",
    ),
    _wanted("ip", apt="iproute2", dnf="iproute"),
    # Podman 5 of Fedora brings pasta; Debian 12's pasta does not work in a session without a routable interface.
    _wanted("slirp4netns", apt="slirp4netns"),
    Wanted(("pasta", "slirp4netns"), {"dnf": "passt"}),
    # Fedora's image is the base there; only Debian assembles one.
    _wanted("mmdebstrap", apt="mmdebstrap"),
    # Debian has it; Ubuntu, which can unpack a Debian by it, has it not.
    _wanted("/usr/share/keyrings/debian-archive-keyring.gpg", apt="debian-archive-keyring"),
    _wanted("/usr/lib/systemd/systemd", "/lib/systemd/systemd", apt="systemd", dnf="systemd"),
    _wanted("systemctl", apt="systemd", dnf="systemd"),
    _wanted("systemd-socket-activate", apt="systemd", dnf="systemd"),
    _wanted("unshare", apt="util-linux", dnf="util-linux"),
    _wanted("nsenter", apt="util-linux", dnf="util-linux"),
    _wanted("setpriv", apt="util-linux", dnf="util-linux"),
    # A guest kernel that has what the machine's own lacks; built for x86 only.
    *(
        (
            Wanted(("linux.uml",), {"apt-get": "user-mode-linux"}, only_for="vsock_loopback"),
            Wanted(("mke2fs",), {"apt-get": "e2fsprogs"}, only_for="vsock_loopback"),
        )
        if platform.machine() == "x86_64"
        else ()
    ),
    # The client of the API service. Not every distribution that has dnf has it; Fedora's is the plugin alone, and its
    # /usr/bin/docker-compose, in a package of its own, calls the `docker` that is not there.
    Wanted(
        ("docker-compose", *DOCKER_COMPOSE_PLUGINS),
        {"apt-get": "docker-compose", "dnf": "docker-compose"},
        only_for="docker_compose",
    ),
)


#: What the guest engine `virtme` takes beside virtme-ng itself, a Python package; only who asks for it gets it.
VIRTME: tuple[Wanted, ...] = (
    _wanted("qemu-system-x86_64", apt="qemu-system-x86", dnf="qemu-system-x86-core"),
    _wanted("busybox", apt="busybox-static", dnf="busybox"),
    _wanted("script", apt="bsdutils", dnf="util-linux-script"),
    # A machine may run a kernel that is none of its distribution's packages.
    _wanted("/vmlinuz", "/boot/vmlinuz", apt="linux-image-amd64"),
)

#: What the harness's own tests take: the browser that the page of the report is looked at with.
TESTS: tuple[Wanted, ...] = (
    _wanted("chromium", "chromium-browser", apt="chromium", dnf="chromium"),
    _wanted("chromedriver", apt="chromium-driver", dnf="chromedriver"),
    _wanted("xz", apt="xz-utils", dnf="xz"),
)

#: Name -> what `harness setup --NAME` installs beside all the rest.
EXTRAS: Mapping[str, tuple[Wanted, ...]] = {"virtme": VIRTME, "tests": TESTS}


@dataclass(frozen=True, slots=True)
class Manager:
    """A package manager that the harness can use."""

    name: str
    #: Values of ID or ID_LIKE in os-release(5) of the distributions whose own it is; some have the other's too.
    families: frozenset[str]
    #: Options for when nobody watches.
    unattended: tuple[str, ...]
    #: Arguments that bring the lists of packages up to date; empty where it does that by itself.
    update: tuple[str, ...]
    install: tuple[str, ...]
    environment: Mapping[str, str]


MANAGERS: tuple[Manager, ...] = (
    Manager(
        name="apt-get",
        families=frozenset({"debian", "ubuntu"}),
        # Another run, or unattended-upgrades, may hold dpkg's lock.
        unattended=("-o", "DPkg::Lock::Timeout=300"),
        update=("update",),
        install=("install", "--yes", "--no-install-recommends"),
        # needrestart, which Ubuntu calls after every installation, would restart the machine's services.
        environment={"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"},
    ),
    Manager(
        name="dnf",
        families=frozenset({"fedora", "rhel", "centos"}),
        unattended=(),
        update=(),
        install=("install", "--assumeyes", "--setopt=install_weak_deps=False"),
        environment={},
    ),
)


@dataclass(frozen=True, slots=True)
class Installer:
    """Finds and installs what is missing on a machine: this one, unless a test says otherwise."""

    #: Folder below which the machine's files are.
    root: Path = Path("/")
    #: Where its programs are looked for.
    path: str = SYSTEM_PATH
    uid: int = field(default_factory=os.getuid)
    #: Whether the machine has a capability; asked only where the program instead of it is not there.
    has: Callable[[str], bool] = field(default_factory=lambda: Capabilities().has)
    wanted: tuple[Wanted, ...] = WANTED

    def manager(self) -> Manager | None:
        """Return the distribution's own package manager, None where the harness can't use it."""
        families = self._families()
        for manager in MANAGERS:
            if manager.families & families and self._program(manager.name):
                return manager
        return None

    def missing(self) -> tuple[Wanted, ...]:
        """Return what is wanted and not there; where no manager is known, what any distribution needs."""
        manager = self.manager()
        names = {manager.name} if manager else {known.name for known in MANAGERS}
        return tuple(
            row
            for row in self.wanted
            if names <= row.package.keys() and not self._there(row) and not (row.only_for and self.has(row.only_for))
        )

    def ensure(self, progress: Progress = silent) -> tuple[str, ...]:
        """Install what is missing, return the packages; raise PackagesMissing when that is not possible.

        What is only for one capability is tried last, each by itself, and missed without an error.
        """
        missing = self.missing()
        needed = tuple(row for row in missing if not row.only_for)
        packages = self._ensure(needed, progress) if needed else ()
        for without in dict.fromkeys(row.only_for for row in missing if row.only_for):
            try:
                packages += self._ensure([row for row in missing if row.only_for == without], progress)
            except PackagesMissing as error:
                progress(f"{error.sentence} {error.hint} Until then tests that need {without} are skipped.")
        return packages

    def _ensure(self, missing: Sequence[Wanted], progress: Progress) -> tuple[str, ...]:
        manager = self.manager()
        if manager is None:
            raise PackagesMissing(
                f"The programs {_quoted(missing)} are missing, and no package manager known here is there.",
                hint="Install these programs with the system's own package manager.",
            )
        packages = tuple(dict.fromkeys(row.package[manager.name] for row in missing))
        prefix = self._privilege(manager)
        if prefix is None:
            raise PackagesMissing(
                f"The system packages {', '.join(packages)} are missing, and installing them takes a password.",
                hint=f"Run: {self.by_hand(manager, packages)}",
            )
        progress(f"installing with {manager.name}: {', '.join(packages)}")
        self._install(manager, prefix, missing, progress)
        return packages

    def by_hand(self, manager: Manager, packages: Sequence[str]) -> str:
        """Return the one command with which a person installs `packages`."""
        steps = [shlex.join((manager.name, *manager.install, *packages))]
        if manager.update:
            steps.insert(0, shlex.join((manager.name, *manager.update)))
        line = " && ".join(steps)
        if self.uid == 0:
            return line
        if not self._program("sudo"):
            return f"su -c {shlex.quote(line)}"
        return f"sudo {line}" if len(steps) == 1 else f"sudo sh -c {shlex.quote(line)}"

    def _install(self, manager: Manager, prefix: Sequence[str], rows: Sequence[Wanted], progress: Progress) -> None:
        """Run the manager; what counts in the end is whether the programs are there."""
        packages = tuple(dict.fromkeys(row.package[manager.name] for row in rows))
        evidence = {}
        if manager.update:
            # A broken third-party list must not stop an installation that does not need it.
            evidence[f"{manager.name} update"] = self._manage(manager, prefix, manager.update, progress)
        evidence[f"{manager.name} install"] = self._manage(manager, prefix, (*manager.install, *packages), progress)
        still = [row for row in rows if not self._there(row)]
        if still:
            raise PackagesMissing(
                f"The package manager '{manager.name}' did not install {_quoted(still)}.",
                hint=f"See what it says, then run: {self.by_hand(manager, packages)}",
                evidence=evidence,
            )

    def _manage(self, manager: Manager, prefix: Sequence[str], arguments: Sequence[str], progress: Progress) -> str:
        """Run one command of the manager's; return what it said, with its status where that is not 0."""
        program = self._program(manager.name) or manager.name
        try:
            ended = process.run_with_progress(
                [*prefix, program, *manager.unattended, *arguments],
                timeout_s=MANAGER_LIMIT_S,
                title=f"{manager.name} {'update' if arguments is manager.update else 'install'}",
                progress=progress,
                env=self._environment(manager),
            )
        except CommandError as error:
            return f"{error.stdout.decode(errors='replace')}\n{error.sentence}"
        return ended.text

    def _privilege(self, manager: Manager) -> tuple[str, ...] | None:
        """Return what stands before the manager's command; None where that takes a password."""
        if self.uid == 0:
            return ()
        sudo = self._program("sudo")
        if sudo is None:
            return None
        env = {**process.base_environment(), "PATH": self.path}
        if process.run([sudo, "-n", "true"], timeout_s=_SUDO_LIMIT_S, env=env, check=False).status != 0:
            return None
        # sudo empties the environment, and with it the proxies.
        return (sudo, "-n", "env", *(f"{name}={value}" for name, value in self._extra(manager).items()))

    def _environment(self, manager: Manager) -> dict[str, str]:
        return {**process.base_environment(), **self._extra(manager), "PATH": self.path}

    def _extra(self, manager: Manager) -> dict[str, str]:
        network = {name: os.environ[name] for name in NETWORK_INHERITED if name in os.environ}
        return {**network, **manager.environment}

    def _families(self) -> set[str]:
        for name in ("etc/os-release", "usr/lib/os-release"):
            try:
                text = (self.root / name).read_text(encoding="utf-8")
            except OSError:
                continue
            pairs = (line.partition("=") for line in text.splitlines())
            return {word for key, _, value in pairs if key in ("ID", "ID_LIKE") for word in value.strip("\"'").split()}
        return set()

    def _program(self, name: str) -> str | None:
        return shutil.which(name, path=self.path)

    def _there(self, row: Wanted) -> bool:
        return any(
            (self.root / name.lstrip("/")).exists() if name.startswith("/") else self._program(name)
            for name in row.any_of
        )


def _quoted(rows: Sequence[Wanted]) -> str:
    """Return what to look for, the first choice of each row."""
    return ", ".join(f"'{row.any_of[0]}'" for row in rows)


def missing() -> tuple[Wanted, ...]:
    """Return what is wanted and not there on this machine."""
    return Installer().missing()


def ensure(progress: Progress = silent, extras: Sequence[str] = ()) -> tuple[str, ...]:
    """Install what is missing on this machine, return the packages; nothing is run where nothing is missing.

    `extras` are names of `EXTRAS`.
    """
    more = (row for name in extras for row in EXTRAS[name])
    installer = replace(Installer(), wanted=(*WANTED, *more))
    if not installer.missing():
        return ()
    lock = default_folder() / "setup.lock"
    with writing(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A package manager that finds another one at work gives up.
    with held(lock, "another run that installs packages", "setup", 2 * MANAGER_LIMIT_S, progress):
        return installer.ensure(progress)


def ensure_guest(progress: Progress = silent) -> str:
    """Fetch a newer guest kernel where vsock takes a guest and none that is here starts; return its release, or ""."""
    uml = Uml(Machine())
    if platform.machine() != "x86_64" or Capabilities().has("vsock_loopback") or not (problem := uml.problem()):
        return ""
    progress(f"fetching a newer kernel for guests: {problem}")
    try:
        uml_kernel.fetch(progress)
    except CapabilityMissing as error:
        progress(f"{error.sentence} Until then tests that need vsock_loopback are skipped.")
    return uml.kernel()
