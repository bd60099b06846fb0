"""Machines that can't: each says what it lacks and the way out, with a status of its own, and nothing is left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import INFRASTRUCTURE, Blame, ImageError
from harness.core.process import run
from harness.images.store import Image, ImageStore, blaming
from harness.runtime import leaks
from harness.session import factory
from tests.helpers.runs import REPOSITORY, environment
from tests.helpers.sessions import isolated

pytestmark = isolated

#: Opens a session; prints what a service of its account can open, its umask, and whether /dev outside has changed.
LOOK = """
import sys
from pathlib import Path
from harness.core.deadline import Deadline
from harness.session import factory

def devices():
    return [(path, path.lstat()) for path in (Path("/dev/fuse"), *Path("/dev").glob("net/*")) if path.exists()]

before = devices()
look = ": <>/dev/net/tun && : <>/dev/fuse && : >/dev/shm/x && : <>/dev/ptmx && ls -d /dev/pts/ptmx && umask"
with factory.open_pristine_session(Path(sys.argv[1])) as session:
    session.write(session.paths.units + "/look.service", f"[Service]\\nType=oneshot\\nExecStart=/bin/sh -c '{look}'\\n")
    session.manager.reload()
    try:
        session.manager.start("look.service", Deadline.after(10))
    finally:
        print(session.output("look.service"), "unchanged" if devices() == before else "changed")
"""

#: What a container has as /dev: no other devices, whatever the machine below has.
OWN_DEV = (
    "mount -t tmpfs tmpfs /mnt; mkdir /mnt/pts /mnt/shm; ln -s pts/ptmx /mnt/ptmx;"
    " mount -t devpts -o ptmxmode=666 devpts /mnt/pts; mount -t tmpfs tmpfs /mnt/shm;"
    " for name in null zero full random urandom tty; do touch /mnt/$name; mount --bind /dev/$name /mnt/$name; done;"
    " mount --move /mnt /dev"
)

#: A machine -> what a shell does to it.
LACKING = {
    "nothing": "true",
    "tun 0600": f"{OWN_DEV}; mkdir /dev/net; mknod -m 600 /dev/net/tun c 10 200; mknod -m 666 /dev/fuse c 10 229",
    "tun and fuse 0666": f"{OWN_DEV}; mkdir /dev/net; mknod -m 666 /dev/net/tun c 10 200;"
    " mknod -m 666 /dev/fuse c 10 229",
    "no tun": f"{OWN_DEV}; mknod -m 666 /dev/fuse c 10 229",
    "a container's /dev": OWN_DEV,
    "umask 077": "umask 077",
}


def in_own_mounts(script: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a mount namespace in which the shell `script` has changed the machine."""
    return subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-ec", f'{script}; exec "$@"', "sh", *command],
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("lacking", LACKING)
def test_a_session_brings_what_the_machine_lacks(lacking: str, tmp_path: Path) -> None:
    """Devices for every user, modes without an umask; the machine's own devices stay as they are."""
    ended = in_own_mounts(LACKING[lacking], sys.executable, "-c", LOOK, os.fspath(tmp_path))
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.split() == ["/dev/pts/ptmx", "0022", "unchanged"]


def test_without_cgroup_v2(built: Callable[[str], Image], tmp_path: Path) -> None:
    """A machine with version 1 only, or none: the error names the capability, and `doctor` says no."""
    built("containers/echo")
    gone = "umount --recursive --lazy /sys/fs/cgroup"
    suite = [sys.executable, "-m", "pytest", "suites/test_replies.py", "-k", "echo-unit-tcp4", "-p", "no:cacheprovider"]
    ended = in_own_mounts(gone, *suite, f"--harness-artifacts-dir={tmp_path}")
    assert ended.returncode == INFRASTRUCTURE, ended.stdout
    assert "This machine lacks the capability 'cgroup_v2'" in ended.stdout
    assert "[environment error: CapabilityMissing]" in ended.stdout
    doctor = in_own_mounts(gone, sys.executable, "-m", "harness", "doctor")
    assert doctor.returncode == 1
    assert "mount -t cgroup2" in doctor.stdout


def test_a_full_disk(tmp_path: Path) -> None:
    """A store on a file system that is too small: an ImageError that blames the machine and says what to remove."""
    store = ImageStore(tmp_path)
    store.prepare()
    with factory.open_build_session(store.graph) as session:
        size = f"size=8m,mode=700,uid={session.account.uid},gid={session.account.gid}"
        # Only the session sees this mount, and it ends with the session.
        enter = ["nsenter", f"--target={session.init}", "--mount", "--"]
        run([*enter, "mount", "-t", "tmpfs", "-o", size, "tmpfs", factory.STORE], timeout_s=10)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            large = tarfile.TarInfo("large")
            large.size = 20_000_000
            tar.addfile(large, io.BytesIO(os.urandom(large.size)))
        file = f"{session.paths.home}/large.tar"
        session.outside(file).write_bytes(archive.getvalue())
        session.outside(file).chmod(0o644)
        with pytest.raises(ImageError) as caught, blaming("large"):
            session.run(["podman", "import", "--quiet", file, "localhost/large"])
    assert caught.value.blame is Blame.MACHINE
    assert "'large' can't be built" in str(caught.value)
    assert "images prune" in caught.value.hint
    assert not [remnant for remnant in leaks.leaks() if remnant.session == session.name]
