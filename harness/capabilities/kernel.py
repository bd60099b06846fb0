"""How capabilities of the kernel's are found out: overlay, KVM, SELinux, and other kernels that can be booted."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from harness.capabilities.userspace import attempt, cgroup_v2, in_user_namespace, knows_module, missing, why
from harness.core.machine import Found, Machine, Probe
from harness.guest.engines.base import Engine

#: KVM_GET_API_VERSION, see Documentation/virt/kvm/api.rst of the kernel.
_KVM_GET_API_VERSION = 0xAE00

#: Oldest kernels with overlay mounts in a user namespace that Podman takes (containers-storage.conf(5)).
_OVERLAY_KERNEL = (5, 13)


def storage_overlay(machine: Machine) -> Found:
    """Find whether containers of an unprivileged account can use the kernel's overlay on a session's tmpfs home."""
    release = machine.kernel()
    version = release.partition("-")[0]
    numbers = tuple(int(text) for text in version.split(".")[:2] if text.isdigit())
    if numbers < _OVERLAY_KERNEL:
        return Found(False, version, f"the kernel '{release}' is older than {'.'.join(map(str, _OVERLAY_KERNEL))}")
    if not _knows_overlay(machine):
        return Found(False, version, f"the kernel '{release}' has no overlay file system, nor a module of it")
    problem = tmpfs_xattr_problem()
    if not problem:
        return Found(True, version, "native, also on tmpfs")
    refused = overlay_refused(machine)
    if refused:
        return Found(False, version, f"{problem}; {refused}")
    return Found(True, version, f"{problem}: a container can't remove or replace a folder of its image")


def _knows_overlay(machine: Machine) -> bool:
    return "overlay" in (machine.read("/proc/filesystems") or "").split() or knows_module(machine, "overlay")


def overlay_refused(machine: Machine) -> str:
    """Mount an overlay on tmpfs for a moment as an unprivileged account; return why that failed, or "".

    Both mounts are in a namespace of their own, which ends with the program.
    """
    script = (
        "mount -t tmpfs harness /tmp && cd /tmp && mkdir lower upper work all && "
        "mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work harness all && : >all/file"
    )
    return in_user_namespace(machine, "--mount", "sh", "-c", script)


def tmpfs_xattr_problem() -> str:
    """Set a user extended attribute on a file in tmpfs, as rootless overlay does; return why it failed, or "".

    Kernels from 6.6 have them. A memfd is a file in the kernel's own tmpfs (memfd_create(2)), so nothing can stay.
    """
    fd = os.memfd_create("harness")
    try:
        os.setxattr(fd, "user.harness", b"1")
    except OSError as error:
        return f"tmpfs has no user extended attributes ({why(error)}); kernels from 6.6 have them"
    finally:
        os.close(fd)
    return ""


def engine(kind: Callable[[Machine], Engine]) -> Probe:
    """Return the probe for a way to boot a guest kernel."""

    def probe(machine: Machine) -> Found:
        found = kind(machine)
        problem = found.problem()
        return missing(problem) if problem else Found(True, found.kernel(), f"kernel {found.kernel()}")

    return probe


def bounds(machine: Machine) -> Found:
    """Find the controllers that bound what a session takes, in either version of cgroups(7)."""
    rows = [line.split() for line in (machine.read("/proc/self/mounts") or "").splitlines()]
    older = {name for row in rows if len(row) > 3 and row[2] == "cgroup" for name in row[3].split(",")}
    newer = set(cgroup_v2(machine).detail.partition("controllers: ")[2].split())
    if lacking := [name for name in ("memory", "pids") if name not in older | newer]:
        return missing(f"no cgroup controller {' and '.join(map(repr, lacking))}")
    return Found(True, "version 1" if "memory" in older else "version 2", "memory, pids")


def device(name: str, minor: int) -> Probe:
    """Return the probe for a device below /dev: root's sessions make one, an ordinary user opens the machine's."""
    path = f"/dev/{name}"
    # What a session does, see open_devices of the supervisor; seen by this program alone.
    script = f"mount -t tmpfs tmpfs /tmp && mknod /tmp/device c 10 {minor} && : <>/tmp/device"

    def probe(machine: Machine) -> Found:
        if machine.account.root:
            unshare = machine.program("unshare") or "unshare"
            _output, problem = attempt(machine, [unshare, "--mount", "--propagation=private", "sh", "-c", script])
            return missing(problem) if problem else Found(True, "", "the session brings its own")
        try:
            os.close(os.open(machine.file(path), os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return missing(f"open '{path}': {why(error)}")
        return Found(True, "", path)

    return probe


def kvm(machine: Machine) -> Found:
    """Open /dev/kvm and ask for its version; some machines have the device and hang in every guest nevertheless."""
    try:
        fd = os.open(machine.file("/dev/kvm"), os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return missing(f"open '/dev/kvm': {why(error)}")
    try:
        version = fcntl.ioctl(fd, _KVM_GET_API_VERSION)
    except OSError as error:
        return missing(f"ask '/dev/kvm' for its version: {why(error)}")
    finally:
        os.close(fd)
    return Found(True, f"API {version}", "opens; only booting a guest proves it")


def selinux(machine: Machine) -> Found:
    """Read the mode from selinuxfs, see selinux(8)."""
    modes = {"1": "enforcing", "0": "permissive"}
    mode = modes.get(machine.read("/sys/fs/selinux/enforce") or "")
    return Found(True, mode, mode) if mode else missing("disabled")
