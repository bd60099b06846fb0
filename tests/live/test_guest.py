"""A guest's life without pytest: boots and ends, in bounded time, whatever happens to it or to its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, GuestError
from harness.core.machine import Machine
from harness.guest.engines.base import Boot, EngineName, Launch, Mode
from harness.guest.engines.select import choose
from harness.guest.engines.uml import Uml
from harness.guest.engines.virtme import Virtme, release_of
from harness.guest.guest import Guest, Limits, folders
from harness.runtime import leaks
from harness.standalone import cgroups
from tests.helpers.runs import environment

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

#: How long a guest may take here, in seconds, on a machine that does other things, too.
LIMITS = Limits(boot_s=60, stall_s=60)

needs_uml = pytest.mark.harness_requires("uml")


@dataclass(frozen=True, slots=True)
class Fake:
    """An engine whose kernel is a shell script that is given the exchange folder."""

    script: str
    name: EngineName = EngineName.UML
    time_scale: float = 1.0
    boot_limit_s: float = 5.0

    def problem(self) -> str:
        """Return that there is none."""
        return ""

    def kernel(self) -> str:
        """Return a release."""
        return "0.1-fake"

    def launch(self, boot: Boot) -> Launch:
        """Return the script."""
        return Launch(("/bin/sh", "-c", self.script, "kernel", os.fspath(boot.folder)), {"PATH": PATH})


def boot_of(guest: Guest, *command: str) -> Boot:
    """Return a boot that runs `command`."""
    return Boot(guest.folder, command, "/", {"PATH": PATH, "FOLDER": os.fspath(guest.folder)})


@needs_uml
def test_a_command_runs_in_another_kernel_and_can_change_nothing_of_the_machine(tmp_path: Path) -> None:
    engine = Uml(Machine())
    with Guest() as guest:
        script = f'uname -r; mount -o remount,rw /; touch {tmp_path}/changed; touch "$FOLDER/written"; exit 7'
        guest.boot(engine, boot_of(guest, "sh", "-c", script))
        assert guest.watch(LIMITS) == 7
        assert (guest.folder / "written").exists()
        assert guest.output().splitlines()[0] == engine.kernel() != os.uname().release
        assert guest.folder.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "changed").exists()
    assert not guest.folder.exists()


@needs_uml
def test_a_panic_is_an_error_with_the_consoles_tail() -> None:
    with Guest() as guest:
        guest.boot(Uml(Machine()), boot_of(guest, "sh", "-c", "echo c >/proc/sysrq-trigger"))
        said = r"The guest 'uml' \(kernel .*\) ended by itself, .*: Kernel panic - not syncing: sysrq triggered crash"
        with pytest.raises(GuestError, match=said) as caught:
            guest.watch(LIMITS)
    assert "Call Trace" in caught.value.evidence["console"]
    assert caught.value.blame is Blame.MACHINE


@needs_uml
def test_a_command_without_memory_ends(tmp_path: Path) -> None:
    with Guest() as guest:
        boot = Boot(guest.folder, ("python3", "-c", "bytearray(1 << 30)"), "/", {"PATH": PATH}, memory_mb=512)
        guest.boot(Uml(Machine()), boot)
        assert guest.watch(LIMITS) != 0


@needs_uml
def test_a_hang_is_an_error_in_bounded_time() -> None:
    with Guest() as guest:
        guest.boot(Uml(Machine()), boot_of(guest, "sleep", "1000"))
        started = time.monotonic()
        with pytest.raises(GuestError, match=r"made no progress for 0\.5 s"):
            guest.watch(Limits(boot_s=60, stall_s=0.5))
        assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("script", "limits", "said"),
    [
        ("echo here; sleep 100", Limits(0.5, 60), "did not boot within 0.5 s"),
        ("echo here; exit 3", LIMITS, "ended by itself, with status 3"),
        ("echo here; kill -9 $$", LIMITS, "ended by itself, with status 137"),
    ],
)
def test_a_kernel_that_does_not_boot(script: str, limits: Limits, said: str) -> None:
    with Guest() as guest:
        guest.boot(Fake(script), boot_of(guest, "true"))
        with pytest.raises(GuestError, match=said) as caught:
            guest.watch(limits)
        assert caught.value.evidence["console"] == "here\n"
    assert not guest.folder.exists()


def test_progress_puts_the_end_off() -> None:
    with Guest() as guest:
        guest.boot(Fake('touch "$1/booted"; sleep 1; echo 0 >"$1/status"'), boot_of(guest, "true"))
        assert guest.watch(Limits(5, 0.3), progress=time.monotonic) == 0


def test_a_watch_can_be_stopped() -> None:
    with Guest() as guest:
        guest.boot(Fake("sleep 100"), boot_of(guest, "true"))
        assert guest.watch(LIMITS, stopped=lambda: True) is None


OWNER = """
import sys, time
from harness.core.machine import Machine
from harness.guest.engines.base import Boot
from harness.guest.engines.uml import Uml
from harness.guest.guest import Guest
guest = Guest()
guest.boot(Uml(Machine()), Boot(guest.folder, ("sleep", "1000"), "/", {"PATH": "/usr/bin:/bin"}))
print(guest.folder, flush=True)
time.sleep(1000)
"""


@needs_uml
def test_a_killed_owner_leaves_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], env=environment(), stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().decode().strip())
        wait_until((folder / "booted").exists, bool, Deadline.after(60), "the guest to boot")
        assert (folder, True) in folders()
        assert any(remnant.what == os.fspath(folder) for remnant in leaks.find())
        owner.send_signal(signal.SIGKILL)
    wait_until(folder.exists, lambda there: not there, Deadline.after(20), "the exchange folder to go")
    gone = lambda: [item for item in leaks.find() if os.fspath(folder) in item.what]  # noqa: E731
    wait_until(gone, lambda found: not found, Deadline.after(20), "the guest's processes to go")


def test_an_abandoned_folder_is_a_leak_and_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path))
    name = cgroups.name_of(os.getpid()).removeprefix("harness-").replace(str(os.getpid()), "1", 1)
    abandoned, other = tmp_path / f"harness-guest-{name}-0a", tmp_path / "harness-guest-1-1-1-0a"
    abandoned.mkdir()
    other.mkdir()
    assert (abandoned, False) in folders()
    assert any(remnant.what == os.fspath(abandoned) for remnant in leaks.leaks())
    leaks.sweep()
    assert not abandoned.exists()
    assert other.exists()


def test_no_guest_where_none_is_wanted() -> None:
    assert choose(Mode.NEVER, None).engine is None


def test_a_kernel_by_name_means_the_engine_that_boots_any(tmp_path: Path) -> None:
    plan = choose(Mode.AUTO, None, "6.12.30-amd64", machine=Machine(root=tmp_path))
    assert plan.engine is None
    assert plan.problem.startswith("virtme: ")


@pytest.mark.parametrize(("wanted", "found"), [("", "6.10.2-amd64"), ("6.9.8-amd64", "6.9.8-amd64"), ("7.0", "")])
def test_the_newest_kernel_is_booted_unless_one_is_named(tmp_path: Path, wanted: str, found: str) -> None:
    (tmp_path / "boot").mkdir()
    for release in ("6.9.8-amd64", "6.10.2-amd64", "6.1.0-9-amd64"):
        image = bytearray(0x500)
        image[0x20E:0x210] = (0x100).to_bytes(2, "little")
        image[0x300:0x340] = f"{release} (somebody@somewhere) #1".encode().ljust(0x40, b"\0")
        (tmp_path / f"boot/vmlinuz-{release}").write_bytes(image)
    assert Virtme(Machine(root=tmp_path), wanted).kernel() == found


def test_a_kernel_that_says_no_release_is_called_by_its_file(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz-mine"
    image.write_bytes(b"")
    assert release_of(image) == "mine"
    assert Virtme(Machine(), os.fspath(image)).kernel() == "mine"


def test_an_engine_that_is_not_there_tells_the_package(tmp_path: Path) -> None:
    plan = choose(Mode.AUTO, EngineName.UML, machine=Machine(root=tmp_path))
    assert plan.engine is None
    assert "install the package 'user-mode-linux'" in plan.problem
