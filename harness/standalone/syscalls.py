"""The few system calls that Python 3.11 does not have: unshare(2), setns(2), mount(2), umount2(2), prctl(2).

Only the standard library, since the supervisor imports this before it has any packages.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000

_MNT_DETACH = 0x2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
#: The same numbers on every architecture but Alpha.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
#: By machine, since C libraries have no function for it.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_PUNCH_HOLE, _KEEP_SIZE = 0x2, 0x1
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def punch_hole(descriptor: int, start: int, length: int) -> None:
    """Free the space of a part of a file, which then reads as zeros, see fallocate(2)."""
    mode = ctypes.c_int(_PUNCH_HOLE | _KEEP_SIZE)
    result = _libc.fallocate(descriptor, mode, ctypes.c_long(start), ctypes.c_long(length))
    _check(result, f"free {length} bytes of a file")


def unshare(flags: int) -> None:
    """Move the caller into new namespaces, see unshare(2)."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace that `fd` refers to, see setns(2)."""
    _check(_libc.setns(fd, kind), f"setns({kind:#x})")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount, see mount(2); the OSError names source and target."""
    arguments = [text.encode() or None for text in (source, target, kind)]
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None), f"mount {source} on {target}")


def detach(target: str) -> None:
    """Take away a mount with all below it, where there is one; what is open in it stays usable, see umount2(2)."""
    _libc.umount2(target.encode(), _MNT_DETACH)


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Bind-mount `source` on `target`, which must exist."""
    mount(source, target, flags=MS_BIND)
    if read_only:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def clone_mount(path: str) -> int:
    """Return a descriptor of a bind mount of `path` that is nowhere yet, see open_tree(2)."""
    descriptor = int(_libc.syscall(_OPEN_TREE, _AT_FDCWD, path.encode(), _OPEN_TREE_CLONE | os.O_CLOEXEC))
    _check(min(descriptor, 0), f"open_tree of '{path}'")
    return descriptor


def attach(mount_fd: int, target: str, *, read_only: bool) -> None:
    """Put the mount that `mount_fd` stands for on `target`, which must exist, and close it; see move_mount(2)."""
    result = _libc.syscall(_MOVE_MOUNT, mount_fd, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, f"move_mount to {target}")
    os.close(mount_fd)
    if read_only:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def make_read_only(target: str, *, but: str) -> None:
    """Make all mounts at and below `target` read-only in this namespace, except the one at `but`; mount_setattr(2)."""
    for path, flags, (added, taken) in (
        (target, _AT_RECURSIVE, (_MOUNT_ATTR_RDONLY, 0)),
        (but, 0, (0, _MOUNT_ATTR_RDONLY)),
    ):
        attributes = struct.pack("QQQQ", added, taken, 0, 0)
        result = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, attributes, len(attributes))
        _check(result, f"mount_setattr of {path}")


def pivot_root(folder: str) -> None:
    """Make the mount at `folder` the root of this mount namespace, and take the old one away, see pivot_root(2)."""
    os.chdir(folder)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), f"pivot_root to {folder}")
    detach(".")
    os.chdir("/")


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent's thread ends; a later setuid clears it, see prctl(2).

    `parent` is the parent's pidfd, opened before the fork: of an end before this call the kernel says nothing.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if select.select([parent], [], [], 0)[0]:
        os._exit(127)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, see PR_SET_CHILD_SUBREAPER in prctl(2)."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def bring_up_loopback() -> None:
    """Set the interface `lo` of the caller's network namespace up, see netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
