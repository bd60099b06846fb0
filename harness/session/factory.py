"""Making sessions: as root in namespaces of their own, as an ordinary user in a delegated scope."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.core import account as accounts
from harness.core.deadline import Deadline
from harness.core.errors import CapabilityMissing, SessionError, WaitTimeout
from harness.core.hints import hint
from harness.core.process import base_environment, network_environment
from harness.core.userland import HOST, Userland
from harness.session import oci_runtime
from harness.session import spec as specs
from harness.session.bounds import BUILDS, TESTS, Bounds
from harness.session.manager import Manager
from harness.session.owned_process import OwnedProcess
from harness.session.session import Session
from harness.session.spec import Bind, Paths, Spec

#: Where a session sees the shared store of images.
STORE = "/run/harness/store"

#: Environment variable that names the folder for the homes of isolated sessions in a guest whose memory is no place for
#: Podman's containers.
DISK_VARIABLE = "HARNESS_SESSION_DISK"

#: Longest wait for a session, in seconds; the supervisor's own limit is a little shorter.
_OPEN_LIMIT_S = 40.0

#: Joins the cgroups that the first argument names, and becomes the program behind it.
_JOIN = 'IFS=:; for group in $0; do echo 0 >"$group/cgroup.procs" || exit; done; exec "$@"'


@contextlib.contextmanager
def open_session(store: Path, *binds: Bind, userland: Userland = HOST, bounds: Bounds = TESTS) -> Iterator[Session]:
    """Open a session in which images of `store` are activated; its network, as root, has nothing but `lo`.

    Raises CapabilityMissing for another userland than the machine's own where sessions are not isolated.
    """
    with _open(_spec(store, *binds, userland=userland, bounds=bounds, writing=False)) as session:
        # Without podman's pause process the first service of a session can lose its READY=1 (podman 4.3 to 5.4).
        session.run(["podman", "unshare", "true"])
        yield session


@contextlib.contextmanager
def open_pristine_session(store: Path, userland: Userland = HOST) -> Iterator[Session]:
    """Open a session as `open_session` does, but as a first login finds it: podman has never run there."""
    with _open(_spec(store, userland=userland, bounds=TESTS, writing=False)) as session:
        yield session


@contextlib.contextmanager
def open_build_session(store: Path, *binds: Bind) -> Iterator[Session]:
    """Open a session that writes to `store` and has the machine's network, for package mirrors and registries."""
    with _open(_spec(store, *binds, bounds=BUILDS, writing=True)) as session:
        session.run(["podman", "unshare", "true"])
        yield session


def is_isolated() -> bool:
    """Whether sessions of this process get namespaces, an account and ports of their own, which takes root."""
    return os.geteuid() == 0


def _spec(store: Path, *context: Bind, writing: bool, userland: Userland = HOST, bounds: Bounds = TESTS) -> Spec:
    """Describe the session that this process can have."""
    if not is_isolated():
        if not userland.is_host:
            raise CapabilityMissing(
                "userlands",
                f"a session with '{userland.name}' for its root takes the mounts of an isolated session",
                "run as root, or add --harness-guest=always, which boots the userland as a machine",
            )
        return _delegated(store, bounds, writing=writing)
    account = accounts.throwaway()
    paths = Paths(account.home, account.runtime_dir, "/run/harness")
    storage = specs.storage_writing(STORE) if writing else specs.storage_reading(STORE)
    binds = [Bind(os.fspath(store), STORE, read_only=not writing), *context]
    if disk := os.environ.get(DISK_VARIABLE):
        binds.append(Bind(_folder_on(disk), os.fspath(Path(account.home).parent), read_only=False))
    if writing:
        binds.extend(Bind(folder, folder) for folder in _resolver_folders())
    return Spec(
        account.uid,
        account.gid,
        paths,
        specs.environment(account, paths) | (network_environment() if writing else {}),
        specs.config_files(paths, storage, oci_runtime.choose(userland)),
        accounts.etc_files(account, userland.file("/etc")),
        binds,
        () if writing else specs.store_locks(STORE),
        own_network=not writing,
        cgroup_parent="" if booted() else os.fspath(cgroup_root()),
        manager=_manager_command(userland),
        root="" if userland.is_host else os.fspath(userland.root),
        bounds=bounds,
        disks=() if writing or disk else paths.disks,
    )


def _delegated(store: Path, bounds: Bounds, *, writing: bool) -> Spec:
    own = accounts.current()
    base = f"{own.runtime_dir}/harness-{secrets.token_hex(4)}"
    paths = Paths(f"{base}/home", f"{base}/run", f"{base}/state")
    storage = specs.storage_writing(os.fspath(store)) if writing else specs.storage_reading(os.fspath(store))
    return Spec(
        own.uid,
        own.gid,
        paths,
        specs.environment(own, paths) | (network_environment() if writing else {}),
        specs.config_files(paths, storage, oci_runtime.choose(HOST)),
        own_network=False,
        manager=_manager_command(HOST),
        bounds=bounds,
    )


def _manager_command(userland: Userland) -> tuple[str, ...]:
    for path in specs.MANAGER_PATHS:
        if userland.file(os.fspath(path)).exists():
            # basic.target has the sockets of a login, D-Bus among them, and none of the services that the machine's
            # packages want in every login (default.target).
            return (os.fspath(path), "--user", "--unit=basic.target", "--log-target=journal")
    raise CapabilityMissing("systemd", f"none of {', '.join(map(str, specs.MANAGER_PATHS))}", "install systemd")


def _folder_on(disk: str) -> str:
    """Return a new folder on a guest's disk, which is thrown away with the guest."""
    folder = tempfile.mkdtemp(prefix="homes-", dir=disk)
    Path(folder).chmod(0o755)
    return folder


def booted() -> bool:
    """Whether systemd is the machine's process 1, see sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def _resolver_folders() -> list[str]:
    """Return the folder that /etc/resolv.conf really is in, where the session's own /run would hide it."""
    folder = Path("/etc/resolv.conf").resolve().parent
    return [os.fspath(folder)] if folder.is_relative_to("/run") and folder.is_dir() else []


def cgroup_root(mounts: Path = Path("/proc/self/mountinfo")) -> Path:
    """Return where cgroup version 2 is mounted; on a hybrid machine that is not /sys/fs/cgroup itself."""
    for line in mounts.read_text(encoding="utf-8").splitlines():
        before, _dash, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    raise CapabilityMissing("cgroup_v2", "no file system of type cgroup2 is mounted", "boot with cgroup version 2")


@contextlib.contextmanager
def _open(spec: Spec) -> Iterator[Session]:
    """Start the supervisor, wait for the session, end both on the way out."""
    supervisor = OwnedProcess("session", SessionError, scope(spec.bounds), _supervisor_environment())
    try:
        supervisor.send(json.dumps(asdict(spec)).encode())
        session = _await_ready(spec, supervisor)
        try:
            yield session
        finally:
            session.close()
    finally:
        supervisor.end()


def _await_ready(spec: Spec, supervisor: OwnedProcess) -> Session:
    """Read what the supervisor says until the session is ready."""
    deadline = Deadline.after(_OPEN_LIMIT_S)
    heard: dict[str, Any] = {}
    while "ready" not in heard:
        message = supervisor.receive(deadline.remaining_s)
        if message is None:
            raise WaitTimeout("a session", deadline.elapsed_s, heard)
        heard |= message
        if not message:
            raise _not_made("its supervisor ended", supervisor, heard)
        if "error" in heard:
            raise _not_made(f"could not {heard['step']}: {heard['error']}", supervisor, heard)
    manager = Manager(socket.socket(fileno=heard["descriptors"][0]), spec.uid)
    return _session(spec, heard["init"], heard["cgroup"], heard["bounded"], manager, supervisor)


def _not_made(why: str, supervisor: OwnedProcess, heard: dict[str, Any]) -> SessionError:
    return SessionError(
        f"No throwaway session could be made: {why}.",
        hint=hint(why).advice or "'python -m harness doctor' tells what this machine lacks.",
        evidence={"systemd --user": heard.get("log", ""), "supervisor": supervisor.said()},
    )


def _session(
    spec: Spec, init: int, cgroup: str, bounded: Mapping[str, str], manager: Manager, supervisor: OwnedProcess
) -> Session:
    account = accounts.throwaway() if is_isolated() else accounts.current()
    root, prefix = Path("/"), _through_the_manager()
    if is_isolated():
        root, prefix = Path(f"/proc/{init}/root"), _through_namespaces(spec, init, cgroup, bounded)
    client_prefix = prefix if is_isolated() else ()
    return Session(
        Path(cgroup).name, account, spec.paths, spec.env, manager, prefix, client_prefix, root, Path(cgroup),
        init, spec.own_network, supervisor, spec.bounds, bounded,
    )  # fmt: skip


def _through_namespaces(spec: Spec, init: int, cgroup: str, bounded: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command prefix that enters a session's cgroups, namespaces and account."""
    # Those that have the session's bounds are in a hierarchy of their own, or above the session's.
    # What stands beside a session is not to wait for its processes: clients have a processor's time of their own.
    groups = {folder for name, folder in bounded.items() if name != "cpu" and not cgroup.startswith(folder)}
    join = ("/bin/sh", "-c", _JOIN, ":".join([*sorted(groups), f"{cgroup}/user/clients"]))
    namespaces = ("--mount", "--ipc", "--pid", "--net", "--cgroup")
    account = (f"--setuid={spec.uid}", f"--setgid={spec.gid}", f"--wdns={spec.paths.home}")
    return (*join, "nsenter", f"--target={init}", *namespaces, *account, "--")


def _through_the_manager() -> tuple[str, ...]:
    """Return the command prefix for a session without namespaces: its manager starts the command in its own cgroup."""
    return ("systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", "--")


def scope(bounds: Bounds | None = None) -> tuple[str, ...]:
    """Return the command prefix that puts a process into a delegated scope where systemd owns the cgroups."""
    if not booted():
        return ()
    mode = () if is_isolated() else ("--user",)
    properties = ["Delegate=yes", *(bounds.properties if bounds else ())]
    return ("systemd-run", *mode, "--scope", "--quiet", "--collect", *(f"--property={it}" for it in properties), "--")


def _supervisor_environment() -> dict[str, str]:
    """Return the environment of the supervisor; systemd-run --user needs the way to the login's own manager."""
    allowed = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
    return base_environment() | {name: os.environ[name] for name in allowed if name in os.environ}
