"""The leak check: what it finds of living sessions, of dead owners and of broken-off builds, and what it removes."""

from __future__ import annotations

import io
import os
import signal
import tarfile
from pathlib import Path

import pytest

from harness.core.cache import FOLDER_VARIABLE
from harness.core.deadline import Deadline, wait_until
from harness.images.store import ImageStore
from harness.runtime import leaks
from harness.runtime.leaks import Kind, Remnant
from harness.runtime.runtime import Runtime
from harness.session import factory
from harness.standalone import cgroups
from tests.helpers.sessions import isolated


def of_session(name: str) -> list[Remnant]:
    """Return what there is on the machine of one session."""
    return [remnant for remnant in leaks.find() if remnant.session == name]


def test_a_living_session_is_found_and_is_no_leak(harness_runtime: Runtime) -> None:
    """Its cgroup, its processes and its supervisor are found while it lives; afterwards there is none of them."""
    harness_runtime.store.prepare()
    with factory.open_pristine_session(harness_runtime.store.graph) as session:
        found = of_session(session.name)
        assert {remnant.kind for remnant in found} == {Kind.CGROUP, Kind.PROCESS}
        assert any("--user" in remnant.what for remnant in found)
        assert any("supervisor" in remnant.what for remnant in found)
        assert all(remnant.alive and not remnant.kept for remnant in found)
        assert not [remnant for remnant in leaks.leaks() if remnant.session == session.name]
    assert of_session(session.name) == []


@isolated
def test_a_supervisor_that_is_killed_leaves_nothing(harness_runtime: Runtime) -> None:
    """SIGKILL of the supervisor ends the session, and somebody outside of its tree removes the cgroup."""
    harness_runtime.store.prepare()
    with factory.open_pristine_session(harness_runtime.store.graph) as session:
        os.kill(int(session.name.split("-")[1]), signal.SIGKILL)
        wait_until(session.cgroup.exists, lambda there: not there, Deadline.after(10), "the session's cgroup to go")
    assert of_session(session.name) == []


@isolated
def test_the_cgroup_of_nobody_is_a_leak_and_is_swept() -> None:
    """As a power failure of a container leaves it: the supervisor that it names has never been."""
    folder = factory.cgroup_root() / f"harness-{os.getpid()}-1-{Path('/proc/self/ns/pid').stat().st_ino}"
    (folder / "user").mkdir(parents=True)
    known = Remnant(Kind.CGROUP, os.fspath(folder), folder.name, alive=False)
    assert leaks.remnant_of(folder) == known
    # Any run of the harness on this machine sweeps, so another one may be faster.
    assert known in leaks.leaks() or not folder.exists()
    leaks.sweep()
    assert not folder.exists()


@isolated
def test_cgroups_of_another_process_namespace_are_left_alone() -> None:
    """Process numbers of a container mean nothing on its machine: what may live there is neither a leak nor swept."""
    folder = factory.cgroup_root() / "harness-1-1-1"
    folder.mkdir()
    try:
        assert cgroups.owner_of(folder.name) is None
        assert not [remnant for remnant in leaks.sweep() if remnant.session == folder.name]
        assert folder.is_dir()
    finally:
        folder.rmdir()


def test_a_kept_session_lives_until_it_is_swept(harness_runtime: Runtime) -> None:
    """A session that was kept outlives its owner, `sweep` leaves it alone, `sweep(kept=True)` ends it."""
    harness_runtime.store.prepare()
    with factory.open_pristine_session(harness_runtime.store.graph) as session:
        session.keep()
    wait_until(
        lambda: [remnant.kept for remnant in of_session(session.name)],
        any,
        Deadline.after(10),
        "the session to be kept",
    )
    leaks.sweep()
    assert all(remnant.alive for remnant in of_session(session.name))
    # Only this one: other tests keep sessions, too.
    leaks.end(session.cgroup)
    assert of_session(session.name) == []


def test_the_container_of_a_broken_off_build_is_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that was killed leaves its working container in the store."""
    monkeypatch.setenv(FOLDER_VARIABLE, os.fspath(tmp_path))
    store = ImageStore(tmp_path)
    store.prepare()
    with factory.open_build_session(store.graph) as session:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("empty"))
        session.outside(f"{session.paths.home}/empty.tar").write_bytes(archive.getvalue())
        session.outside(f"{session.paths.home}/empty.tar").chmod(0o644)
        session.run(["podman", "import", "--quiet", f"{session.paths.home}/empty.tar", "localhost/empty"])
        session.run(["podman", "create", "--name", "left-behind", "localhost/empty", "/bin/true"])
        found = [remnant for remnant in leaks.find() if remnant.kind is Kind.CONTAINER]
        assert [remnant.what for remnant in found] == ["['left-behind']"]
        session.run(["podman", "rm", "left-behind"])
    assert not [remnant for remnant in leaks.find() if remnant.kind is Kind.CONTAINER]
