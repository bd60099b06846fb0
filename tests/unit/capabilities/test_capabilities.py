"""The capabilities: the table, what is asked for and when, the header, and programs."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.capabilities import userspace as probes
from harness.capabilities.table import ASKED_FOR, NEEDED, TABLE, Capabilities, Row
from harness.core import machine, process
from harness.core.errors import CapabilityMissing, UsageError
from harness.core.machine import Machine
from harness.core.process import SYSTEM_PATH, Completed
from tests.helpers.probing import ROOT, Recorder, script, write

# --- the table and the object -----------------------------------------------------------------------------------------


def test_table_is_complete() -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names)
    assert {name for group in NEEDED for name in group} <= set(names)
    assert set(ASKED_FOR) <= set(names)
    assert [row.name for row in TABLE if not row.enables or not row.hint] == []


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
    assert "vsock_loopback" in caught.value.hint


def test_require_raises_for_the_first_that_is_missing(tmp_path: Path) -> None:
    script(tmp_path, "/usr/bin/curl", "echo curl 8.9.1")
    capabilities = Capabilities(Machine(root=tmp_path, account=ROOT))
    capabilities.require("curl", "python")
    with pytest.raises(CapabilityMissing) as caught:
        capabilities.require("curl", "socat", "podman")
    assert caught.value.capability == "socat"
    assert caught.value.found == "there is no program 'socat'"
    assert caught.value.hint == "python3 -m harness setup"


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
    monkeypatch.setattr("harness.capabilities.table.TABLE", (row,))
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
        assert found.version in process.run([path, flag], timeout_s=10).text


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
    assert (found.present, found.version, found.detail) == (True, "2.39.4", plugin)


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
