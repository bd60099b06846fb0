"""How each capability is found out on this machine; `harness.capabilities.table` holds the table that names them.

A probe takes the `Machine` and returns what it `Found`. It does the thing itself where that is cheap and leaves no
trace (binds, connects, unshares); it never trusts the mere presence of a device file.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.core import account, process
from harness.core.errors import CommandError
from harness.core.machine import Found, Machine, Probe
from harness.session.oci_runtime import SYSTEMD
from harness.session.spec import QUADLET_GENERATORS

#: Time limit of one program that a probe runs, in seconds; `--version` takes 0.3 s at most where all is well.
PROGRAM_LIMIT_S = 5.0

#: Subordinate ids that a container needs: 65536, as useradd(8) gives by default.
SUBIDS_NEEDED = 65536

#: Oldest Python that the harness runs on.
_PYTHON = (3, 11)

_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)*(?:[-~^][\w.~^+-]*)?)")

#: Factor for the time limit of docker-compose's start.
_DOCKER_COMPOSE_PATIENCE = 4.0

#: docker-compose as the plugin of a `docker` that need not be there: it is the whole program, and runs by itself.
DOCKER_COMPOSE_PLUGINS = tuple(
    f"/usr/{folder}/docker/cli-plugins/docker-compose" for folder in ("libexec", "lib", "local/libexec", "local/lib")
)


def missing(detail: str, hint: str = "") -> Found:
    """Return that it is not there, and why."""
    return Found(False, "", detail, hint)


def why(error: OSError) -> str:
    """Return the name and the text of an error number."""
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"{name}, {os.strerror(error.errno or 0)}"


def attempt(machine: Machine, argv: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Run a short program; return its output and "", or its output and why it failed."""
    try:
        ended = machine.run(argv, timeout_s=PROGRAM_LIMIT_S * machine.patience, env=env, check=False)
    except CommandError as error:
        return "", error.sentence
    if ended.status == 0:
        return ended.text, ""
    text = ended.stderr.decode(errors="replace").strip()
    # The crash of a program in Go has its reason first, and ends in the registers of the processor.
    said = text.partition("\n")[0] if text.startswith(("runtime:", "runtime/")) else text.rpartition("\n")[2]
    return ended.text, f"'{argv[0]}' ended with status {ended.status}" + (f": {said}" if said else "")


def version_in(text: str) -> str:
    """Return the first thing in a program's `--version` that looks like a version."""
    match = _VERSION.search(text)
    return match.group(1) if match else ""


def program(*names: str, flag: str = "--version") -> Probe:
    """Return the probe for a program that is there when it can tell its version."""

    def probe(machine: Machine) -> Found:
        path = machine.program(*names)
        if path is None:
            return missing(f"there is no program '{names[0]}'")
        output, problem = attempt(machine, [path, flag])
        if problem:
            return missing(problem)
        return Found(True, version_in(output), machine.inside(path))

    return probe


def crun_systemd(machine: Machine) -> Found:
    """Find whether crun was built with libsystemd: without it, it has no use for podman's cgroup manager `systemd`."""
    crun = machine.program("crun")
    if crun is None:
        return missing("there is no program 'crun'")
    output, problem = attempt(machine, [crun, "--version"])
    if problem:
        return missing(problem)
    return Found(True, "", SYSTEMD) if SYSTEMD in output.split() else missing(f"'{crun} --version' has no {SYSTEMD}")


def docker_compose(machine: Machine) -> Found:
    """Find docker-compose, the plugin before the program: the latter may be a shim that calls `docker compose`."""
    # Version 1 is a large Python program: on a busy machine its start alone took more than 5 s.
    patient = replace(machine, patience=_DOCKER_COMPOSE_PATIENCE * machine.patience)
    plugin = program(*DOCKER_COMPOSE_PLUGINS)(patient)
    return plugin if plugin.present else program("docker-compose")(patient)


def docker_sdk(_machine: Machine) -> Found:
    """Find the package `docker` of the Python that runs this; it is not imported."""
    try:
        version = importlib.metadata.version("docker")
    except importlib.metadata.PackageNotFoundError:
        return missing(f"'{sys.executable}' has no package 'docker'")
    return Found(True, version, "the package 'docker'")


def systemd(machine: Machine) -> Found:
    """Find the program that `systemd --user` is; it is in no folder of PATH, see systemd(1)."""
    return program("/usr/lib/systemd/systemd", "/lib/systemd/systemd")(machine)


def dbus(machine: Machine) -> Found:
    """Find a message bus and the user unit that starts it."""
    bus = program("dbus-daemon", "dbus-broker")(machine)
    folders = ("/usr/lib/systemd/user", "/lib/systemd/user", "/etc/systemd/user")
    if bus.present and machine.first(*(f"{folder}/dbus.socket" for folder in folders)) is None:
        return Found(False, bus.version, "there is no user unit 'dbus.socket'")
    return bus


def podman_generate(machine: Machine) -> Found:
    """Find the deprecated podman-generate-systemd(1), which a later Podman may lack."""
    podman = program("podman")(machine)
    path = machine.program("podman")
    if not podman.present or path is None:
        return podman
    _output, problem = attempt(machine, [path, "generate", "systemd", "--help"])
    return missing(f"podman {podman.version} has no 'generate systemd': {problem}") if problem else podman


def quadlet(machine: Machine) -> Found:
    """Find Podman's generator of user units, see podman-systemd.unit(5)."""
    if machine.program(*QUADLET_GENERATORS) is None:
        return missing("there is no user generator 'podman-user-generator'")
    return program(*QUADLET_GENERATORS, flag="-version")(machine)


def python(_machine: Machine) -> Found:
    """Find the Python that runs this."""
    return Found(sys.version_info >= _PYTHON, platform.python_version(), sys.executable)


def cgroup2_folders(machine: Machine) -> tuple[Path, ...]:
    """Return where cgroup2 is mounted; on a hybrid machine that is /sys/fs/cgroup/unified."""
    rows = [line.split() for line in (machine.read("/proc/self/mounts") or "").splitlines()]
    return tuple(machine.file(row[1]) for row in rows if len(row) > 2 and row[2] == "cgroup2")


def cgroup_v2(machine: Machine) -> Found:
    """Find a cgroup v2 tree to make a session's cgroup in."""
    mounted = cgroup2_folders(machine)
    if not mounted:
        return missing("no cgroup2 file system is mounted")
    if not machine.account.root:
        return _delegated_cgroup(machine, mounted[0])
    for folder in mounted:
        if os.access(folder, os.W_OK):
            return Found(True, _hierarchy(machine), _controllers(folder))
    return missing(f"'{mounted[0]}' is read-only")


def _hierarchy(machine: Machine) -> str:
    """Tell systemd's two kinds of set-up apart: in a hybrid one the controllers are in cgroup v1 trees."""
    kinds = {line.split()[2] for line in (machine.read("/proc/self/mounts") or "").splitlines()}
    return "hybrid" if "cgroup" in kinds else "unified"


def _delegated_cgroup(machine: Machine, mounted: Path) -> Found:
    properties, problem = _user_manager(machine)
    if problem:
        return missing(f"no 'systemd --user' can delegate a cgroup: {problem}")
    folder = mounted / properties.get("ControlGroup", "").lstrip("/")
    try:
        owner = folder.stat().st_uid
    except OSError as error:
        return missing(f"the cgroup of 'systemd --user', '{folder}': {why(error)}")
    if owner != machine.account.uid:
        return missing(f"the cgroup of 'systemd --user', '{folder}', belongs to uid {owner}")
    return Found(True, "delegated", _controllers(folder))


def _controllers(folder: Path) -> str:
    names = ""
    with suppress(OSError):
        names = (folder / "cgroup.controllers").read_text(encoding="ascii").strip()
    return f"{folder}, controllers: {names or 'none'}"


def _user_manager(machine: Machine) -> tuple[dict[str, str], str]:
    """Ask the caller's own `systemd --user` for its properties; return them and "", or why there are none."""
    systemctl = machine.program("systemctl")
    if systemctl is None:
        return {}, "there is no program 'systemctl'"
    env = {**process.base_environment(), "XDG_RUNTIME_DIR": machine.account.runtime_dir}
    output, problem = attempt(machine, [systemctl, "--user", "show", "--property=Version,ControlGroup"], env)
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line), problem


def user_manager(machine: Machine) -> Found:
    """Reach the `systemd --user` of the caller's login session."""
    if machine.account.root:
        return Found(True, "", "the session brings its own")
    properties, problem = _user_manager(machine)
    if problem:
        name, uid = machine.account.name, machine.account.uid
        hint = (
            f"log in as '{name}' by console or ssh (su and sudo start no user manager), or "
            f"'sudo loginctl enable-linger {name}' and set XDG_RUNTIME_DIR=/run/user/{uid}, or run as root"
        )
        return missing(problem, hint)
    return Found(True, version_in(properties.get("Version", "")), machine.account.runtime_dir)


def namespaces(machine: Machine) -> Found:
    """Make, for a moment, the namespaces that a root session lives in; mounting /proc is what containers forbid."""
    if not machine.account.root:
        return Found(True, "", "not needed: the session is a delegated scope")
    unshare = machine.program("unshare")
    if unshare is None or machine.program("nsenter") is None:
        return missing("there is no program 'unshare' or 'nsenter'", "install the package 'util-linux'")
    flags = ("--mount", "--net", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child", "--mount-proc")
    _output, problem = attempt(machine, [unshare, *flags, "true"])
    return missing(problem) if problem else Found(True, "", "mount, net, ipc, pid, cgroup")


def rootless_podman(machine: Machine) -> Found:
    """Find whether an unprivileged account may make user namespaces and map its subordinate ids into them."""
    forbidden = _userns_forbidden(machine)
    if forbidden:
        setting, value, wanted = forbidden
        return missing(f"{setting} is {value}", f"sudo sysctl --write {setting}={wanted}")
    for name in ("newuidmap", "newgidmap"):
        path = machine.program(name)
        if path is None:
            return missing(f"there is no program '{name}'")
        if not _privileged(Path(path)):
            return missing(f"'{path}' is neither set-user-ID nor has file capabilities", f"sudo chmod u+s {path}")
    if "NoNewPrivs:\t1" in (machine.read("/proc/self/status") or ""):
        return missing("'no_new_privs' is set, so set-user-ID programs such as 'newuidmap' have no effect")
    problem = _userns_refused(machine)
    return missing(problem) if problem else Found(True, "", "user namespaces, newuidmap, newgidmap")


def _userns_forbidden(machine: Machine) -> tuple[str, str, str] | None:
    """Return the first setting that forbids user namespaces, its value and the one that allows them.

    Only some kernels have the second (Debian's) and the third (Ubuntu's, from which a profile of Podman's exempts it).
    """
    if machine.read("/proc/sys/user/max_user_namespaces") == "0":
        return "user.max_user_namespaces", "0", "15000"
    if machine.read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "kernel.unprivileged_userns_clone", "0", "1"
    exempt = machine.first("/etc/apparmor.d/podman")
    if machine.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" and exempt is None:
        return "kernel.apparmor_restrict_unprivileged_userns", "1", "0"
    return None


def _userns_refused(machine: Machine) -> str:
    """Make a user namespace for a moment as an unprivileged account; return why the kernel refused, or ""."""
    return in_user_namespace(machine, "true")


def in_user_namespace(machine: Machine, *command: str) -> str:
    """Run `unshare --user COMMAND` as an unprivileged account; return why it failed, or ""."""
    unshare, setpriv = machine.program("unshare"), machine.program("setpriv")
    if unshare is None or setpriv is None:
        return "there is no program 'unshare' or 'setpriv'"
    uid = account.throwaway().uid
    as_account = [setpriv, f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if machine.account.root else []
    root_inside = ["--map-root-user"] if len(command) > 1 else []
    return attempt(machine, [*as_account, unshare, "--user", *root_inside, *command])[1]


def _privileged(path: Path) -> bool:
    """Tell whether a program may map ids: set-user-ID (Debian) or file capabilities (Fedora), see newuidmap(1)."""
    if path.stat().st_mode & stat.S_ISUID:
        return True
    with suppress(OSError):
        return bool(os.getxattr(path, "security.capability"))
    return False


def subids(machine: Machine) -> Found:
    """Find subordinate ids: a root session generates its own and mounts them over the machine's files."""
    owner = machine.account
    files = {name: machine.read(f"/etc/{name}") for name in ("subuid", "subgid")}
    start = max(_first_free(text or "") for text in files.values())
    ranges = f"{start}-{start + SUBIDS_NEEDED - 1}"
    for name, text in files.items():
        if text is None:
            return missing(f"there is no file '/etc/{name}'", "sudo touch /etc/subuid /etc/subgid")
        if not owner.root and (count := _largest_range(text, {owner.name, str(owner.uid)})) < SUBIDS_NEEDED:
            return missing(
                f"'/etc/{name}' gives '{owner.name}' {count} ids in one range, {SUBIDS_NEEDED} are needed",
                f"sudo usermod --add-subuids {ranges} --add-subgids {ranges} {owner.name}",
            )
    return Found(True, "", "throwaway" if owner.root else f"of '{owner.name}'")


def _ranges(text: str) -> list[tuple[str, int, int]]:
    """Return owner, first id and count of each range in the text of a file as subuid(5)."""
    rows = [line.split(":") for line in text.splitlines()]
    return [(row[0], int(row[1]), int(row[2])) for row in rows if len(row) == 3 and (row[1] + row[2]).isdigit()]


def _largest_range(text: str, owners: set[str]) -> int:
    return max((count for owner, _start, count in _ranges(text) if owner in owners), default=0)


def _first_free(text: str) -> int:
    """Return the first id after all ranges, from useradd's own first one on (SUB_UID_MIN of login.defs(5))."""
    return max([100000, *(start + count for _owner, start, count in _ranges(text))])


def knows_module(machine: Machine, name: str) -> bool:
    """Tell whether the running kernel has a module, or has it built in."""
    folder = f"/lib/modules/{machine.kernel()}"
    lists = (machine.read(f"{folder}/{file}") or "" for file in ("modules.dep", "modules.builtin"))
    return any(f"/{name}.ko" in text for text in lists)
