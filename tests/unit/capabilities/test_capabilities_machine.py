"""The capabilities of the machine: real where it can show them, a fake root folder for what it can't."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.capabilities import kernel, loopback
from harness.capabilities import userspace as probes
from harness.capabilities.table import Capabilities
from harness.core import process
from harness.core.account import Account
from harness.core.machine import Machine
from harness.core.process import SYSTEM_PATH, Completed
from tests.helpers.probing import ROOT, USER, as_root, says, script, write

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
    assert "sudo loginctl enable-linger maria" in manager.hint
    assert not capabilities.has("cgroup_v2")


def test_user_manager_tells_its_version(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/systemctl", 'test "$XDG_RUNTIME_DIR" = /run/user/4711 && echo Version=255.4-1.fc40')
    found = probes.user_manager(Machine(root=tmp_path, account=USER))
    assert (found.present, found.version) == (True, "255.4-1.fc40")
    assert probes.user_manager(Machine(root=tmp_path, account=ROOT)).detail == "the session brings its own"


def test_namespaces_show_why_unshare_failed(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/unshare", "echo unshare: unshare failed: Operation not permitted >&2; exit 1")
    script(tmp_path, "/usr/bin/nsenter", "exit 0")
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
        return process.run([*argv[:-1], "sh", "-c", look], **options)

    found = probes.namespaces(Machine(account=ROOT, run=run))
    if not found.present:
        pytest.skip(found.detail)
    after = inside.read_text(encoding="ascii").split()
    assert len(after) == len(before)
    assert not set(after) & set(before.values()), "a namespace of the session would be the machine's own"


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
        assert loopback.connect_problem(client, address) == ""
    with closing(socket.socket()) as client:
        assert loopback.connect_problem(client, address).startswith("ECONNREFUSED, ")


def test_connect_problem_has_a_limit() -> None:
    with listener(0) as server, closing(socket.socket()) as first, closing(socket.socket()) as second:
        assert loopback.connect_problem(first, server.getsockname()) == ""
        assert loopback.connect_problem(second, server.getsockname(), 0.05) == "timed out after 0.05 s"


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

    monkeypatch.setattr("harness.capabilities.loopback.socket.socket", Watched)
    found = loopback.vsock_loopback(Machine())
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
        loopback.connect_problem(client, (cid, 3000))
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

    monkeypatch.setattr("harness.capabilities.loopback.socket.socket", Substitute)
    found = loopback.vsock_loopback(Machine())
    assert not found.present
    assert found.detail.startswith({19: "connect to CID 1: ENODEV", 110: "connect to CID 1: ETIMEDOUT"}[number])
    number = 0
    assert loopback.vsock_loopback(Machine()).present


# --- kernels and security modules -------------------------------------------------------------------------------------


def test_kvm_is_more_than_a_device_file(tmp_path: Path) -> None:
    assert kernel.kvm(Machine(root=tmp_path)).detail.startswith("open '/dev/kvm': ENOENT")
    write(tmp_path, "/dev/kvm", "")
    found = kernel.kvm(Machine(root=tmp_path))
    assert not found.present
    assert found.detail.startswith("ask '/dev/kvm' for its version: ENOTTY")


@pytest.mark.parametrize(("text", "mode"), [("1", "enforcing"), ("0", "permissive"), (None, "")])
def test_selinux_mode(tmp_path: Path, text: str | None, mode: str) -> None:
    if text is not None:
        write(tmp_path, "/sys/fs/selinux/enforce", text)
    found = kernel.selinux(Machine(root=tmp_path))
    assert (found.present, found.version) == (bool(mode), mode)


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_users_device_must_open(tmp_path: Path) -> None:
    """Its presence is not enough: a folder in its place can't be opened for writing, as a device of root's can't."""
    probe = kernel.device("net/tun", 200)
    machine = Machine(root=tmp_path, account=USER)
    assert probe(machine).detail.startswith("open '/dev/net/tun': ENOENT")
    (tmp_path / "dev/net/tun").mkdir(parents=True)
    assert probe(machine).detail.startswith("open '/dev/net/tun': EISDIR")
    (tmp_path / "dev/net/tun").rmdir()
    write(tmp_path, "/dev/net/tun", "")
    assert probe(machine).present


@as_root
def test_roots_device_takes_a_driver() -> None:
    """Root's sessions make the device, and only a kernel with its driver opens it."""
    assert kernel.device("net/tun", 200)(Machine(account=ROOT)).present
    found = kernel.device("nothing", 254)(Machine(account=ROOT))
    assert not found.present
    assert found.detail.startswith("'/usr/bin/unshare' ended with status 2: sh: 1: cannot create /tmp/device: No such")


@pytest.mark.parametrize(
    ("mounts", "controllers", "version", "detail"),
    [
        (HYBRID + "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n", "", "version 1", "memory, pids"),
        (UNIFIED, "cpu memory pids", "version 2", "memory, pids"),
        (HYBRID, "", "", "no cgroup controller 'memory'"),
        (UNIFIED, "cpu", "", "no cgroup controller 'memory' and 'pids'"),
        ("", "", "", "no cgroup controller 'memory' and 'pids'"),
    ],
)
def test_bounds_are_of_either_version(mounts: str, controllers: str, version: str, detail: str, tmp_path: Path) -> None:
    write(tmp_path, "/proc/self/mounts", mounts)
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        write(tmp_path, f"{folder}/cgroup.controllers", f"{controllers}\n")
    found = kernel.bounds(Machine(root=tmp_path, account=ROOT))
    assert (found.present, found.version, found.detail) == (bool(version), version, detail)
