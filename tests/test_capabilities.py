"""The capabilities: real on this machine where it can show them, a fake root folder for what it can't."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness import capability_probes as probes
from harness import command, kernel_probes, machine
from harness.capabilities import ASKED_FOR, NEEDED, TABLE, Capabilities, Row
from harness.command import SYSTEM_PATH, Completed
from harness.errors import CapabilityMissing, UsageError
from harness.machine import Machine
from harness.session.account import Account

ROOT = Account("root", 0, 0, "/root", "/run/user/0")
#: An ordinary user; the uid is the tests' own where that is not root's, so that files made here belong to it.
USER = Account("maria", os.getuid() or 4711, os.getgid(), "/home/maria", "/run/user/4711")

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


class Recorder:
    """Runs programs for real and remembers which."""

    def __init__(self) -> None:
        self.programs: list[str] = []

    def __call__(self, argv: Sequence[str], **options: Any) -> Completed:
        self.programs.append(Path(argv[0]).name)
        return command.run(argv, **options)


def says(text: str, status: int = 0, stderr: bytes = b"") -> Callable[..., Completed]:
    """Return a runner whose programs all print `text`."""

    def run(argv: Sequence[str], **_options: object) -> Completed:
        return Completed(tuple(argv), status, text.encode(), stderr, 0.0)

    return run


def write(root: Path, path: str, text: str) -> None:
    """Make a file below a fake root folder."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def script(root: Path, path: str, text: str) -> None:
    """Make a shell script below a fake root folder."""
    write(root, path, f"#!/bin/sh\n{text}\n")
    (root / path.lstrip("/")).chmod(0o755)


# --- the table and the object -----------------------------------------------------------------------------------------


def test_table_is_complete() -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names)
    assert {name for group in NEEDED for name in group} <= set(names)
    assert set(ASKED_FOR) <= set(names)
    assert [row.name for row in TABLE if not row.enables or not row.remedy] == []


def test_all_keeps_the_order_of_the_table() -> None:
    assert [one.name for one in Capabilities().all()] == [row.name for row in TABLE]


def test_nothing_runs_before_it_is_asked_for_and_then_once() -> None:
    recorder = Recorder()
    capabilities = Capabilities(Machine(run=recorder))
    assert recorder.programs == []
    first = capabilities.get("socat")
    assert recorder.programs == (["socat"] if shutil.which("socat", path=SYSTEM_PATH) else [])
    recorder.programs.clear()
    assert capabilities.get("socat") is first
    assert capabilities.has("socat") is first.present
    assert recorder.programs == []


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        Capabilities().has("vsok_loopback")
    assert "'vsok_loopback'" in caught.value.sentence
    assert "vsock_loopback" in caught.value.remedy


def test_require_raises_for_the_first_that_is_missing(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/curl", "echo curl 8.9.1")
    capabilities = Capabilities(Machine(root=tmp_path, account=ROOT))
    capabilities.require("curl", "python")
    with pytest.raises(CapabilityMissing) as caught:
        capabilities.require("curl", "socat", "podman")
    assert caught.value.capability == "socat"
    assert caught.value.found == "there is no program 'socat'"
    assert caught.value.remedy == "python3 -m harness setup"


def test_one_runtime_is_enough(tmp_path: Path) -> None:
    assert ("crun", "runc") in Capabilities(Machine(root=tmp_path, account=ROOT)).lacking()
    script(tmp_path, "/usr/bin/runc", "echo runc version 1.2.3")
    lacking = Capabilities(Machine(root=tmp_path, account=ROOT)).lacking()
    assert ("crun", "runc") not in lacking
    assert ("podman",) in lacking


def test_a_probe_that_may_not_look_is_a_missing_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_machine: Machine) -> machine.Found:
        raise PermissionError(13, "Permission denied", "/somewhere")

    row = Row("kvm", "x", "y", forbidden)
    monkeypatch.setattr("harness.capabilities.TABLE", (row,))
    found = Capabilities().get("kvm")
    assert not found.present
    assert "/somewhere" in found.detail


# --- the header -------------------------------------------------------------------------------------------------------


def test_header_tells_versions_and_runs_only_what_it_needs() -> None:
    recorder = Recorder()
    capabilities = Capabilities(Machine(run=recorder))
    lines = capabilities.header()
    assert lines[0].startswith(f"harness: kernel {os.uname().release}, python 3.")
    assert f"podman {capabilities.get('podman').version}".strip() in lines[0] or "no podman" in lines[0]
    assert "mmdebstrap" not in recorder.programs, "a Perl program, slow to start, and of no use to the header"
    assert len(lines) == 1 + bool(capabilities.lacking() or not all(map(capabilities.has, ASKED_FOR)))


def test_header_names_what_is_missing(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/crun", "echo crun version 1.14.4")
    lines = Capabilities(Machine(root=tmp_path, account=ROOT)).header()
    assert "no systemd, no podman, crun 1.14.4" in lines[0]
    missing = lines[1].partition("missing here: ")[2].partition(" (see")[0].split(", ")
    assert {"systemd", "podman", "conmon", "subids"} <= set(missing)
    assert "crun or runc" not in missing
    assert "python" not in missing


# --- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("podman version 5.0.0-dev", "5.0.0-dev"),
        ("tini version 0.1.7_catatonit", "0.1.7"),
        ("systemd 252 (252.38-1~deb12u1)\n+PAM", "252"),
        ("socat by Gerhard Rieger - see www.dest-unreach.org\nsocat version 1.7.4.4 on 06 Nov 2022", "1.7.4.4"),
        ("pasta 0.0~git20250503.587980c-2\nCopyright 2020", "0.0~git20250503.587980c-2"),
        ("pasta 0^20250217.ga1e48a0-2.fc42.x86_64-pasta", "0^20250217.ga1e48a0-2.fc42.x86_64-pasta"),
        ("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1", "7.88.1"),
        ("docker-compose version 1.29.2, build unknown", "1.29.2"),
        ("Docker Compose version v2.39.4", "2.39.4"),
        ("x86_64 only", ""),
        ("", ""),
    ],
)
def test_version_in(text: str, version: str) -> None:
    assert probes.version_in(text) == version


@pytest.mark.parametrize(("name", "flag"), [("podman", "--version"), ("socat", "-V"), ("curl", "--version")])
def test_a_program_of_this_machine(name: str, flag: str) -> None:
    path = shutil.which(name, path=SYSTEM_PATH)
    found = Capabilities().get(name)
    assert found.present is (path is not None)
    if path is not None:
        assert found.detail == path
        assert found.version
        assert found.version in command.run([path, flag], timeout_s=10).text


def test_a_program_that_cannot_run_is_missing(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/crun", "echo first >&2; echo libyajl.so.2: cannot open >&2; exit 127")
    found = probes.program("crun")(Machine(root=tmp_path))
    assert not found.present
    assert found.detail == f"'{tmp_path}/usr/bin/crun' ended with status 127: libyajl.so.2: cannot open"


def test_a_program_that_hangs_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROGRAM_LIMIT_S", 0.2)
    script(tmp_path, "/usr/bin/crun", "exec sleep 20")
    found = probes.program("crun")(Machine(root=tmp_path))
    assert not found.present
    assert "did not end within 0.2 s" in found.detail


def test_conmon_may_be_in_podmans_own_folder(tmp_path: Path) -> None:
    script(tmp_path, "/usr/libexec/podman/conmon", "echo conmon version 2.1.12")
    assert Capabilities(Machine(root=tmp_path)).get("conmon").version == "2.1.12"


def test_docker_compose_is_the_plugin_before_what_calls_it(tmp_path: Path) -> None:
    missing = probes.docker_compose(Machine(root=tmp_path))
    assert (missing.present, missing.detail) == (False, "there is no program 'docker-compose'")
    script(tmp_path, "/usr/bin/docker-compose", "echo docker-compose version 1.29.2, build unknown")
    assert probes.docker_compose(Machine(root=tmp_path)).version == "1.29.2"
    plugin = "/usr/libexec/docker/cli-plugins/docker-compose"
    script(tmp_path, plugin, "echo Docker Compose version 2.39.4")
    script(tmp_path, "/usr/bin/docker-compose", "exec docker compose")
    found = probes.docker_compose(Machine(root=tmp_path))
    assert (found.present, found.version, found.detail) == (True, "2.39.4", f"{tmp_path}{plugin}")


def test_docker_compose_may_start_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def run(argv: Sequence[str], timeout_s: float, **_options: object) -> Completed:
        limits.append(timeout_s)
        return Completed(tuple(argv), 0, b"docker-compose version 1.29.2", b"", 0.0)

    monkeypatch.setattr(probes, "PROGRAM_LIMIT_S", 5.0)
    script(tmp_path, "/usr/bin/docker-compose", "")
    assert probes.docker_compose(Machine(root=tmp_path, run=run, patience=2.0)).present
    assert limits == [40.0]


def test_docker_sdk_is_a_package_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", {"docker": "7.2.0"}.__getitem__)
    found = probes.docker_sdk(Machine())
    assert (found.present, found.version) == (True, "7.2.0")

    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    found = probes.docker_sdk(Machine())
    assert not found.present
    assert found.detail.endswith("has no package 'docker'")


def test_dbus_needs_its_user_unit(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/dbus-broker", "echo dbus-broker 36")
    found = probes.dbus(Machine(root=tmp_path))
    assert (found.present, found.version) == (False, "36")
    assert "'dbus.socket'" in found.detail
    write(tmp_path, "/usr/lib/systemd/user/dbus.socket", "[Socket]\n")
    assert probes.dbus(Machine(root=tmp_path)).present


def test_quadlet_is_the_generator_of_user_units(tmp_path: Path) -> None:
    assert not probes.quadlet(Machine(root=tmp_path)).present
    script(tmp_path, "/usr/lib/systemd/system-generators/podman-system-generator", "echo 5.4.2")
    assert not probes.quadlet(Machine(root=tmp_path)).present
    script(tmp_path, "/usr/lib/systemd/user-generators/podman-user-generator", '[ "$1" = -version ] && echo 5.4.2')
    assert probes.quadlet(Machine(root=tmp_path)).version == "5.4.2"


# --- what a session needs ---------------------------------------------------------------------------------------------

HYBRID = "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "folder", "version"),
    [(HYBRID, "/sys/fs/cgroup/unified", "hybrid"), (UNIFIED, "/sys/fs/cgroup", "unified")],
)
def test_cgroup_v2_of_root(tmp_path: Path, mounts: str, folder: str, version: str) -> None:
    write(tmp_path, "/proc/self/mounts", mounts)
    write(tmp_path, f"{folder}/cgroup.controllers", "cpu memory pids\n")
    found = probes.cgroup_v2(Machine(root=tmp_path, account=ROOT))
    assert (found.present, found.version) == (True, version)
    assert found.detail == f"{tmp_path}{folder}, controllers: cpu memory pids"


def test_cgroup_v1_alone_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path, "/proc/self/mounts", HYBRID.splitlines()[0])
    found = probes.cgroup_v2(Machine(root=tmp_path, account=ROOT))
    assert (found.present, found.detail) == (False, "no cgroup2 file system is mounted")


@as_root
def test_cgroup_v2_here_takes_a_new_cgroup() -> None:
    found = Capabilities().get("cgroup_v2")
    if not found.present:
        pytest.skip(found.detail)
    folder = probes.cgroup2_folders(Machine())[0] / f"capability-test-{os.getpid()}"
    folder.mkdir()
    folder.rmdir()


def test_cgroup_v2_of_a_user_is_the_managers_own(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/systemctl", "")
    write(tmp_path, "/proc/self/mounts", UNIFIED)
    cgroup = "/user.slice/user-4711.slice/user@4711.service"
    write(tmp_path, f"/sys/fs/cgroup{cgroup}/cgroup.controllers", "memory pids")
    os.chown(tmp_path / f"sys/fs/cgroup{cgroup}", USER.uid, -1)
    run = says(f"Version=255.4\nControlGroup={cgroup}\n")
    found = probes.cgroup_v2(Machine(root=tmp_path, account=USER, run=run))
    assert (found.present, found.version) == (True, "delegated")
    assert found.detail.endswith(f"{cgroup}, controllers: memory pids")
    other = Account("otto", USER.uid + 1, 1, "/", "/")
    found = probes.cgroup_v2(Machine(root=tmp_path, account=other, run=run))
    assert not found.present
    assert found.detail.endswith(f"belongs to uid {USER.uid}")


def test_a_user_without_a_manager_has_neither_it_nor_a_cgroup(tmp_path: Path) -> None:
    if shutil.which("systemctl", path=SYSTEM_PATH) is None:
        pytest.skip("needs systemctl")
    stranger = Account("maria", 4711, 4711, "/", os.fspath(tmp_path))
    capabilities = Capabilities(Machine(account=stranger))
    manager = capabilities.get("user_manager")
    assert not manager.present
    assert "ended with status 1" in manager.detail
    assert "sudo loginctl enable-linger maria" in manager.remedy
    assert not capabilities.has("cgroup_v2")


def test_user_manager_tells_its_version(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/systemctl", 'test "$XDG_RUNTIME_DIR" = /run/user/4711 && echo Version=255.4-1.fc40')
    found = probes.user_manager(Machine(root=tmp_path, account=USER))
    assert (found.present, found.version) == (True, "255.4-1.fc40")
    assert probes.user_manager(Machine(root=tmp_path, account=ROOT)).detail == "the session brings its own"


def test_namespaces_show_why_unshare_failed(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/unshare", "echo unshare: unshare failed: Operation not permitted >&2; exit 1")
    found = probes.namespaces(Machine(root=tmp_path, account=ROOT))
    assert not found.present
    assert found.detail.endswith("status 1: unshare: unshare failed: Operation not permitted")
    found = probes.namespaces(Machine(root=tmp_path, account=USER))
    assert found.present
    assert found.detail.startswith("not needed")


@as_root
def test_namespaces_here_are_made_and_gone(tmp_path: Path) -> None:
    before = {
        name: os.fspath(Path(f"/proc/self/ns/{name}").readlink()) for name in ("mnt", "net", "ipc", "pid", "cgroup")
    }
    inside = tmp_path / "inside"

    def run(argv: Sequence[str], **options: Any) -> Completed:
        look = f"for n in {' '.join(before)}; do readlink /proc/self/ns/$n; done >{inside}"
        return command.run([*argv[:-1], "sh", "-c", look], **options)

    found = probes.namespaces(Machine(account=ROOT, run=run))
    if not found.present:
        pytest.skip(found.detail)
    after = inside.read_text(encoding="ascii").split()
    assert len(after) == len(before)
    assert not set(after) & set(before.values()), "a namespace of the session would be the machine's own"


# --- rootless containers ----------------------------------------------------------------------------------------------


@pytest.fixture
def rootless(tmp_path: Path) -> Path:
    """Return a fake root folder in which rootless containers work."""
    for name in ("newuidmap", "newgidmap"):
        script(tmp_path, f"/usr/bin/{name}", "")
        (tmp_path / f"usr/bin/{name}").chmod(0o4755)
    for name in ("unshare", "setpriv"):
        script(tmp_path, f"/usr/bin/{name}", "")
    write(tmp_path, "/proc/sys/user/max_user_namespaces", "96365\n")
    return tmp_path


def test_rootless_podman(rootless: Path) -> None:
    assert probes.rootless_podman(Machine(root=rootless)).present


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ],
)
def test_settings_that_forbid_user_namespaces(rootless: Path, setting: str, bad: str, good: str) -> None:
    file = f"/proc/sys/{setting.replace('.', '/')}"
    write(rootless, file, f"{bad}\n")
    found = probes.rootless_podman(Machine(root=rootless))
    assert (found.present, found.detail) == (False, f"{setting} is {bad}")
    assert found.remedy == f"sudo sysctl --write {setting}={good}"
    write(rootless, file, f"{good}\n")
    assert probes.rootless_podman(Machine(root=rootless)).present


def test_ubuntus_profile_exempts_podman(rootless: Path) -> None:
    write(rootless, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
    write(rootless, "/etc/apparmor.d/podman", "profile podman /usr/bin/podman flags=(unconfined) { userns, }\n")
    assert probes.rootless_podman(Machine(root=rootless)).present


def test_newgidmap_must_have_the_right(rootless: Path) -> None:
    newgidmap = rootless / "usr/bin/newgidmap"
    newgidmap.chmod(0o755)
    found = probes.rootless_podman(Machine(root=rootless))
    assert not found.present
    assert found.remedy == f"sudo chmod u+s {newgidmap}"
    newgidmap.unlink()
    assert probes.rootless_podman(Machine(root=rootless)).detail == "there is no program 'newgidmap'"


@as_root
def test_newgidmap_may_have_file_capabilities(rootless: Path) -> None:
    setcap = shutil.which("setcap", path=SYSTEM_PATH)
    newgidmap = rootless / "usr/bin/newgidmap"
    newgidmap.chmod(0o755)
    if setcap is None or command.run([setcap, "cap_setgid=ep", str(newgidmap)], timeout_s=5, check=False).status:
        pytest.skip("can't give a file capabilities here")
    assert probes.rootless_podman(Machine(root=rootless)).present


def test_no_new_privileges_and_a_refusing_kernel(rootless: Path) -> None:
    write(rootless, "/proc/self/status", "Name:\tx\nNoNewPrivs:\t1\n")
    assert "no_new_privs" in probes.rootless_podman(Machine(root=rootless)).detail
    write(rootless, "/proc/self/status", "Name:\tx\nNoNewPrivs:\t0\n")
    found = probes.rootless_podman(
        Machine(root=rootless, run=says("", 1, b"unshare failed: Operation not permitted\n"))
    )
    assert not found.present
    assert found.detail.endswith("unshare failed: Operation not permitted")


@pytest.mark.parametrize(
    ("text", "count", "free"),
    [
        ("", 0, "165536-231071"),
        ("otto:100000:65536\n", 0, "165536-231071"),
        ("maria:100000:1000\nmaria:200000:2000\notto:7:8\n", 2000, "202000-267535"),
        ("maria:100000:many\nmaria:1\n", 0, "165536-231071"),
    ],
)
def test_too_few_subids_of_a_user(tmp_path: Path, text: str, count: int, free: str) -> None:
    write(tmp_path, "/etc/subuid", "maria:100000:65536\n")
    write(tmp_path, "/etc/subgid", text)
    found = probes.subids(Machine(root=tmp_path, account=USER))
    assert not found.present
    assert found.detail == f"'/etc/subgid' gives 'maria' {count} ids in one range, 65536 are needed"
    assert found.remedy == f"sudo usermod --add-subuids {free} --add-subgids {free} maria"
    assert probes.subids(Machine(root=tmp_path, account=ROOT)).present, "root's session brings its own"


def test_enough_subids_of_a_user_by_name_or_number(tmp_path: Path) -> None:
    write(tmp_path, "/etc/subuid", "otto:1:2\nmaria:100000:65536\n")
    write(tmp_path, "/etc/subgid", f"{USER.uid}:100000:70000")
    assert probes.subids(Machine(root=tmp_path, account=USER)).present


def test_subid_files_must_be_there_to_be_mounted_over(tmp_path: Path) -> None:
    write(tmp_path, "/etc/subuid", "")
    found = probes.subids(Machine(root=tmp_path, account=ROOT))
    assert (found.present, found.detail) == (False, "there is no file '/etc/subgid'")


@pytest.mark.parametrize(
    ("release", "filesystems", "modules", "problem"),
    [
        ("5.10.0-30-amd64", "nodev\toverlay", "", "the kernel '5.10.0-30-amd64' is older than 5.13"),
        ("4.18.0-553.el8", "nodev\toverlay", "", "the kernel '4.18.0-553.el8' is older than 5.13"),
        ("6.8.0", "nodev\tfuse", "", "the kernel '6.8.0' has no overlay file system, nor a module of it"),
        ("6.8.0", "nodev\tfuse", "kernel/fs/overlayfs/overlay.ko.zst:", ""),
        ("6.8.0", "nodev\toverlay", "", ""),
        ("10.0.1", "nodev\toverlay", "", ""),
    ],
)
def test_overlay(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    release: str,
    filesystems: str,
    modules: str,
    problem: str,
) -> None:
    monkeypatch.setattr(kernel_probes, "tmpfs_xattr_problem", str)
    write(tmp_path, "/proc/sys/kernel/osrelease", f"{release}\n")
    write(tmp_path, "/proc/filesystems", f"\text4\n{filesystems}\n")
    write(tmp_path, f"/lib/modules/{release}/modules.dep", modules)
    found = kernel_probes.storage_overlay(Machine(root=tmp_path))
    assert found.present is (problem == "")
    assert found.detail == (problem or "native, also on tmpfs")
    monkeypatch.setattr(kernel_probes, "tmpfs_xattr_problem", lambda: "tmpfs has none")
    assert not kernel_probes.storage_overlay(Machine(root=tmp_path)).present


def test_user_attributes_on_tmpfs_as_in_a_folder_of_it() -> None:
    folder = "/dev/shm"  # noqa: S108 - nothing gets a name in it
    if f" {folder} tmpfs " not in Path("/proc/self/mounts").read_text(encoding="utf-8"):
        pytest.skip(f"'{folder}' is no tmpfs here")
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        os.setxattr(fd, "user.test", b"1")
        works = True
    except OSError:
        works = False
    finally:
        os.close(fd)
    assert (kernel_probes.tmpfs_xattr_problem() == "") is works


# --- transports -------------------------------------------------------------------------------------------------------


def listener(backlog: int) -> socket.socket:
    """Return a listening socket on 127.0.0.1."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    made.listen(backlog)
    return made


def test_connect_problem() -> None:
    with listener(1) as server, closing(socket.socket()) as client:
        address = server.getsockname()
        assert probes.connect_problem(client, address) == ""
    with closing(socket.socket()) as client:
        assert probes.connect_problem(client, address).startswith("ECONNREFUSED, ")


def test_connect_problem_has_a_limit() -> None:
    with listener(0) as server, closing(socket.socket()) as first, closing(socket.socket()) as second:
        assert probes.connect_problem(first, server.getsockname()) == ""
        assert probes.connect_problem(second, server.getsockname(), 0.05) == "timed out after 0.05 s"


def test_ipv6_loopback_agrees_with_the_kernels_addresses() -> None:
    addresses = Path("/proc/net/if_inet6")
    has_it = addresses.exists() and "0" * 31 + "1 " in addresses.read_text(encoding="ascii")
    assert Capabilities().has("ipv6_loopback") is has_it


def test_vsock_connects_to_cid_1_only_and_not_at_all_where_it_cannot_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[tuple[int, object]] = []

    class Watched(socket.socket):
        def connect_ex(self, address: Any) -> int:
            assert address[0] == 1, "stopped before anything leaves this machine"
            connected.append((self.family, address[0]))
            return super().connect_ex(address)

    monkeypatch.setattr("harness.capability_probes.socket.socket", Watched)
    found = probes.vsock_loopback(Machine())
    if found.present:
        assert connected == [(socket.AF_VSOCK, 1)]
    else:
        assert connected == []
        assert found.detail.startswith(("socket: ", "bind to CID 1: E"))


@pytest.mark.parametrize("cid", [0, 2, 3, socket.VMADDR_CID_ANY])
def test_no_probe_can_connect_to_another_machine(cid: int) -> None:
    tried: list[object] = []

    class Vsock(socket.socket):
        """TCP that calls itself vsock, and that never connects."""

        @property
        def family(self) -> socket.AddressFamily:
            return socket.AF_VSOCK

        def connect_ex(self, address: Any) -> int:
            tried.append(address)
            return 111

    with closing(Vsock()) as client, pytest.raises(ValueError, match=f"must not connect to CID {cid}$"):
        probes.connect_problem(client, (cid, 3000))
    assert tried == []


@pytest.mark.parametrize("number", [19, 110])
def test_vsock_says_why_a_connection_failed(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let TCP over 127.0.0.1 stand for vsock, whose loopback this machine may lack."""

    class Substitute(socket.socket):
        def __init__(self, *_family: object) -> None:
            super().__init__(socket.AF_INET, socket.SOCK_STREAM)

        @property
        def family(self) -> socket.AddressFamily:
            return socket.AF_VSOCK

        def bind(self, address: Any) -> None:
            assert address == (1, socket.VMADDR_PORT_ANY)
            super().bind(("127.0.0.1", 0))

        def connect_ex(self, address: Any) -> int:
            assert address[0] == 1
            return number or super().connect_ex(("127.0.0.1", address[1]))

    monkeypatch.setattr("harness.capability_probes.socket.socket", Substitute)
    found = probes.vsock_loopback(Machine())
    assert not found.present
    assert found.detail.startswith({19: "connect to CID 1: ENODEV", 110: "connect to CID 1: ETIMEDOUT"}[number])
    number = 0
    assert probes.vsock_loopback(Machine()).present


# --- kernels and security modules -------------------------------------------------------------------------------------


def test_kvm_is_more_than_a_device_file(tmp_path: Path) -> None:
    assert kernel_probes.kvm(Machine(root=tmp_path)).detail.startswith("open '/dev/kvm': ENOENT")
    write(tmp_path, "/dev/kvm", "")
    found = kernel_probes.kvm(Machine(root=tmp_path))
    assert not found.present
    assert found.detail.startswith("ask '/dev/kvm' for its version: ENOTTY")


@pytest.mark.parametrize(("text", "mode"), [("1", "enforcing"), ("0", "permissive"), (None, "")])
def test_selinux_mode(tmp_path: Path, text: str | None, mode: str) -> None:
    if text is not None:
        write(tmp_path, "/sys/fs/selinux/enforce", text)
    found = kernel_probes.selinux(Machine(root=tmp_path))
    assert (found.present, found.version) == (bool(mode), mode)
