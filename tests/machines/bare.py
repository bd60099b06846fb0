"""A bare machine in namespaces: a pristine root in memory, a /dev without udev, and commands as a person types them.

Run as `python -m tests.machines.bare` with a line of JSON, the spec, as standard input: it runs the commands one after
the other and ends with the first status that is not 0. When its standard input closes, which the kernel does when the
caller is killed, it kills everything in the machine. The root is in memory, and gone with its namespaces. Nothing is
imported after the start, since the root has other packages.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, cast

from harness.session.factory import booted, cgroup_root
from harness.standalone import cgroups, syscalls

Spec = dict[str, Any]

#: Where the checkout is: below a home that nobody else may enter, as root's is.
CHECKOUT = "/root/socket-activation-harness"

#: What the root is built in, before it becomes the root.
_NEW = "/run"

#: Devices of any machine: path -> mode, major and minor number; see the kernel's devices.txt.
_DEVICES = {
    "null": (0o666, 1, 3),
    "zero": (0o666, 1, 5),
    "full": (0o666, 1, 7),
    "random": (0o666, 1, 8),
    "urandom": (0o666, 1, 9),
    "tty": (0o666, 5, 0),
}

#: Devices with the mode that the kernel gives them, where this machine has them; udev would open some of them.
_CLOSED = ("fuse", "kvm", "vsock", "kmsg")

#: Status of a machine on which the second run of a command has installed something.
INSTALLED = 70


def tell(line: str) -> None:
    """Print a line of our own."""
    print(f"fresh: {line}", flush=True)


# -- the machine ------------------------------------------------------------------------------------------------------


def make_root(spec: Spec) -> None:
    """As process 1 of new namespaces, make the machine and enter it."""
    carried, ignored = spec["carried"], shutil.ignore_patterns(".git", *spec["ignored"])
    folders = {name: syscalls.clone_mount(name) for name in carried["folders"]}
    texts = {name: Path(file).read_bytes() for name, file in carried["copies"].items()}
    artifacts = syscalls.clone_mount(spec["artifacts"])
    devices = _devices(spec["tun"])
    syscalls.mount("tmpfs", _NEW, "tmpfs", 0, "mode=755,size=75%")
    subprocess.run(["cp", "--archive", f"{spec['root']}/.", _NEW], check=True)
    shutil.copytree(spec["checkout"], _NEW + CHECKOUT, ignore=ignored, symlinks=True)
    texts |= {name: text.encode() for name, text in carried["files"].items()}
    for name, content in texts.items():
        file = Path(_NEW + name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(content)
    for name, descriptor in folders.items():
        os.makedirs(_NEW + name, exist_ok=True)
        syscalls.attach(descriptor, _NEW + name, read_only=True)
    os.mkdir(f"{_NEW}{CHECKOUT}/harness-artifacts")
    syscalls.attach(artifacts, f"{_NEW}{CHECKOUT}/harness-artifacts", read_only=False)
    syscalls.pivot_root(_NEW)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    syscalls.mount("sysfs", "/sys", "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    syscalls.mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    os.mkdir("/run/lock", 0o1777)
    _make_dev(devices)


def _devices(tun: str) -> dict[str, tuple[int, int, int]]:
    """Return the devices of the machine: path below /dev -> mode, major and minor number."""
    found = dict(_DEVICES)
    for name in _CLOSED:
        if os.path.exists(f"/dev/{name}"):
            number = os.stat(f"/dev/{name}").st_rdev
            found[name] = (0o644 if name == "kmsg" else 0o600, os.major(number), os.minor(number))
    if tun != "none":
        found["net/tun"] = (int(tun, 8), 10, 200)
    return found


def _make_dev(devices: dict[str, tuple[int, int, int]]) -> None:
    syscalls.mount("tmpfs", "/dev", "tmpfs", syscalls.MS_NOSUID, "mode=755")
    for name, (mode, major, minor) in devices.items():
        file = f"/dev/{name}"
        os.makedirs(os.path.dirname(file), 0o755, exist_ok=True)
        os.mknod(file, stat.S_IFCHR | 0o600, os.makedev(major, minor))
        os.chmod(file, mode)
    for name in ("pts", "shm"):
        os.mkdir(f"/dev/{name}")
    syscalls.mount("devpts", "/dev/pts", "devpts", syscalls.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620,gid=5")
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        os.symlink(target, f"/dev/{name}")


# -- the commands -----------------------------------------------------------------------------------------------------


def run(spec: Spec, command: str) -> int:
    """Run a command as a person's shell does; return its status. Process 1 reaps what others leave."""
    tell(f"$ {command}")
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.umask(0o022)
            os.chdir(CHECKOUT)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.execve("/bin/sh", ["sh", "-c", command], spec["env"])
        finally:
            os._exit(127)
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def installed() -> dict[str, int]:
    """Return what package managers have written: path -> time of its last change, in nanoseconds.

    tox installs the project itself anew each time, which takes a moment and comes from nowhere else.
    """
    found = [Path("/var/lib/dpkg/status"), Path("/var/lib/apt/lists")]
    for root in (CHECKOUT, "/root", "/usr/local/lib", "/usr/lib/python3"):
        found += Path(root).rglob("*.dist-info")
    own = "socket_activation_harness-"
    return {os.fspath(path): path.stat().st_mtime_ns for path in found if not path.name.startswith(own)}


def run_all(spec: Spec) -> int:
    """Run each command and what follows it, and say how it went; return the first status that is not 0."""
    statuses, lines = [], []
    for command, again in spec["runs"]:
        started = time.monotonic()
        first = run(spec, command)
        lines.append(f"{command}: status {first}, {time.monotonic() - started:.0f} s")
        before, started = installed(), time.monotonic()
        second = run(spec, again)
        changed = sorted(path for path, when in installed().items() if before.get(path) != when)
        what = f"installed {', '.join(changed)}" if changed else "nothing was installed"
        lines.append(f"{again}: status {second}, {time.monotonic() - started:.0f} s, {what}")
        statuses += [first, second, INSTALLED if changed else 0]
    disk = os.statvfs("/")
    lines.append(f"the machine had {(disk.f_blocks - disk.f_bfree) * disk.f_frsize / 1e9:.1f} GB of files")
    for line in lines:
        tell(line)
    return next((status for status in statuses if status), 0)


# -- the owner --------------------------------------------------------------------------------------------------------


def be_the_machine(spec: Spec, cgroup: str, owner: int) -> NoReturn:
    """Be process 1."""
    status = 71
    try:
        syscalls.die_with(owner)
        cgroups.join(cgroup)
        kinds = (syscalls.CLONE_NEWNS, syscalls.CLONE_NEWIPC, syscalls.CLONE_NEWCGROUP, syscalls.CLONE_NEWUTS)
        for kind in kinds:
            syscalls.unshare(kind)
        syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        make_root(spec)
        status = run_all(spec)
    except Exception as error:  # said to a person, whatever it is
        tell(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    os._exit(status)


def main() -> int:
    """Own the machine until its commands have ended, or the caller."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spec = cast("Spec", json.loads(sys.stdin.buffer.readline()))
    parent = cgroups.own() if booted() else os.fspath(cgroup_root())
    cgroup = f"{parent}/{cgroups.name_of(os.getpid())}"
    os.mkdir(cgroup, 0o755)
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)  # for the child
        owner = os.pidfd_open(os.getpid())
        pid = os.fork()
        if pid == 0:
            be_the_machine(spec, cgroup, owner)
        ended = os.pidfd_open(pid)
        select.select([0, ended], [], [])
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return abs(os.waitstatus_to_exitcode(status))
    finally:
        cgroups.remove(cgroup)


if __name__ == "__main__":
    sys.exit(main())
