"""What rootless containers need of the machine, by a fake root folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.capabilities import kernel
from harness.capabilities import userspace as probes
from harness.core import process
from harness.core.machine import Machine
from harness.core.process import SYSTEM_PATH
from tests.helpers.probing import ROOT, USER, as_root, says, script, write

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
    assert found.hint == f"sudo sysctl --write {setting}={good}"
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
    assert found.hint == f"sudo chmod u+s {newgidmap}"
    newgidmap.unlink()
    assert probes.rootless_podman(Machine(root=rootless)).detail == "there is no program 'newgidmap'"


@as_root
def test_newgidmap_may_have_file_capabilities(rootless: Path) -> None:
    setcap = shutil.which("setcap", path=SYSTEM_PATH)
    newgidmap = rootless / "usr/bin/newgidmap"
    newgidmap.chmod(0o755)
    if setcap is None or process.run([setcap, "cap_setgid=ep", str(newgidmap)], timeout_s=5, check=False).status:
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
    assert found.hint == f"sudo usermod --add-subuids {free} --add-subgids {free} maria"
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
    monkeypatch.setattr(kernel, "tmpfs_xattr_problem", str)
    write(tmp_path, "/proc/sys/kernel/osrelease", f"{release}\n")
    write(tmp_path, "/proc/filesystems", f"\text4\n{filesystems}\n")
    write(tmp_path, f"/lib/modules/{release}/modules.dep", modules)
    found = kernel.storage_overlay(Machine(root=tmp_path))
    assert found.present is (problem == "")
    assert found.detail == (problem or "native, also on tmpfs")
    monkeypatch.setattr(kernel, "tmpfs_xattr_problem", lambda: "tmpfs has none")
    assert not kernel.storage_overlay(Machine(root=tmp_path)).present


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
    assert (kernel.tmpfs_xattr_problem() == "") is works
