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

from harness import leaks
from harness.command import run
from harness.errors import Blame, ImageError
from harness.images import Image, ImageStore, blaming
from harness.recorder import INFRASTRUCTURE
from harness.session import opening
from tests.runs import REPOSITORY, environment
from tests.sessions import isolated

pytestmark = isolated


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


def test_without_cgroup_v2(built: Callable[[str], Image], tmp_path: Path) -> None:
    """A machine with version 1 only, or none: the error names the capability, and `doctor` says no."""
    built("containers/echo")
    gone = "umount --recursive --lazy /sys/fs/cgroup"
    suite = [sys.executable, "-m", "pytest", "suites/test_replies.py", "-k", "echo-unit-tcp4", "-p", "no:cacheprovider"]
    ended = in_own_mounts(gone, *suite, f"--harness-artifacts-dir={tmp_path}")
    assert ended.returncode == INFRASTRUCTURE, ended.stdout
    assert "This machine lacks the capability 'cgroup_v2'" in ended.stdout
    assert "(the machine can't: CapabilityMissing)" in ended.stdout
    doctor = in_own_mounts(gone, sys.executable, "-m", "harness", "doctor")
    assert doctor.returncode == 1
    assert "mount -t cgroup2" in doctor.stdout


def test_a_full_disk(tmp_path: Path) -> None:
    """A store on a file system that is too small: an ImageError that blames the machine and says what to remove."""
    store = ImageStore(tmp_path)
    store.prepare()
    with opening.building(store.graph) as session:
        size = f"size=8m,mode=700,uid={session.account.uid},gid={session.account.gid}"
        # Only the session sees this mount, and it ends with the session.
        enter = ["nsenter", f"--target={session.init}", "--mount", "--"]
        run([*enter, "mount", "-t", "tmpfs", "-o", size, "tmpfs", opening.STORE], timeout_s=10)
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
    assert "images prune" in caught.value.remedy
    assert not [remnant for remnant in leaks.leaks() if remnant.session == session.name]
