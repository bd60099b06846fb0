"""A userland that a guest boots as a machine of its own, where an ordinary user logs in and runs the suites."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import cache
from harness.core.account import SUBID_COUNT, SUBID_START, UID
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import GuestError, UsageError
from harness.core.machine import Machine
from harness.core.userland import Userland
from harness.guest import system, wheels
from harness.guest.engines.base import Boot, Mode
from harness.guest.engines.select import Plan, refusal
from harness.guest.engines.uml import Uml
from harness.guest.engines.virtme import Virtme
from harness.guest.guest import Guest, Limits
from harness.guest.system import System
from harness.images.store import Image
from harness.userlands.store import UserlandStore
from tests.helpers.runs import REPOSITORY, environment, run_pytest
from tests.helpers.sessions import isolated

#: How long a guest may take here, in seconds, on a machine that does other things, too.
LIMITS = Limits(boot_s=180, stall_s=60)

#: What a guest with a systemd of its own takes here.
boots = [isolated, pytest.mark.harness_requires("uml", "mmdebstrap")]

#: What the user sees, one thing per line.
QUESTIONS = """
cat /proc/1/comm
id -u
grep "^$(id -un):" /etc/subuid
cut -d: -f3 /proc/self/cgroup
systemctl is-system-running
loginctl show-user "$(id -u)" --property=Linger --property=State --value | sort | paste -sd' '
systemd-run --user --scope --quiet -p Delegate=yes sh -c 'cd "/sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)"
    cat cgroup.controllers'
. /etc/os-release && echo "$VERSION_CODENAME"
touch "$FOLDER/mine" && stat -c %u "$FOLDER/mine"
touch /usr/bin/mine 2>&1 | grep -o 'Permission denied'
"""


@pytest.fixture(scope="module")
def trixie() -> Userland:
    """The userland, unpacked once and kept in the cache."""
    return UserlandStore(cache.default_folder()).get("trixie")


def machine(trixie: Userland, packages: Path) -> System:
    """Return the machine without any packages of Python's."""
    packages.mkdir()
    return system.describe(trixie, packages, [])


def boot_of(guest: Guest, machine: System, script: str) -> Boot:
    """Return a boot that runs a shell script."""
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FOLDER": os.fspath(guest.folder)}
    return Boot(guest.folder, ("sh", "-c", script), "/", variables, system=machine)


class TestBoot:
    """What boots."""

    pytestmark = boots

    def test_an_ordinary_user_has_a_login_and_a_delegated_cgroup(self, trixie: Userland, tmp_path: Path) -> None:
        with Guest() as guest:
            guest.boot(Uml(Machine()), boot_of(guest, machine(trixie, tmp_path / "packages"), QUESTIONS))
            assert guest.watch(LIMITS) is not None
            answers = guest.output().splitlines()
            owner = (guest.folder / "mine").stat().st_uid
        first, uid, subids, cgroup, state, login, controllers, release, seen, refused = answers
        assert first == "systemd"
        assert uid == str(UID)
        assert subids == f"harness:{SUBID_START}:{SUBID_COUNT}"
        assert cgroup.startswith(f"/user.slice/user-{UID}.slice/session-")
        assert state in ("running", "starting")
        assert login == "active yes"
        assert {"cpu", "memory", "pids"} <= set(controllers.split())
        assert release == "trixie"
        assert seen == str(owner) == str(UID)
        assert refused == "Permission denied"
        assert not guest.folder.exists()

    def test_a_user_manager_that_does_not_start_is_an_error_with_its_own_words(
        self, trixie: Userland, tmp_path: Path
    ) -> None:
        broken = "[Service]\nExecStartPre=/bin/sh -c 'echo no manager today; exit 3'\n"
        whole = machine(trixie, tmp_path / "packages")
        files = {**whole.files, "/run/systemd/system/user@.service.d/broken.conf": broken}
        said = r"ended by itself, .*: init: the user manager of 'harness' did not start\."
        with Guest() as guest:
            guest.boot(Uml(Machine()), boot_of(guest, replace(whole, files=files), "true"))
            with pytest.raises(GuestError, match=said) as caught:
                guest.watch(LIMITS)
        assert "no manager today" in caught.value.evidence["console"]

    def test_the_suites_run_there(self, echo_image: Image, tmp_path: Path) -> None:
        """Over vsock, which needs the guest's kernel; by Quadlet, which needs the userland's Podman."""
        one = "test_reply[trixie-echo-quadlet-vsock]"
        run = run_pytest(
            tmp_path,
            *("suites/test_replies.py", "-n", "0", "-k", one, f"--harness-contract={REPOSITORY / 'containers/echo'}"),
            *("--harness-guest=always", "--harness-userland=trixie", "--harness-guest-engine=uml"),
        )
        assert run.outcomes == {one: "passed"}, run.output
        assert run.status == 0

    def test_a_killed_run_leaves_nothing(self, trixie: Userland, tmp_path: Path) -> None:
        script = OWNER.format(root=os.fspath(trixie.root), packages=os.fspath(tmp_path))
        with subprocess.Popen([sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            folder = Path(owner.stdout.readline().decode().strip())
            console = folder / "console"
            said = lambda: console.read_text(errors="replace") if console.exists() else ""  # noqa: E731
            try:
                wait_until(said, lambda text: "Welcome to Debian" in text, Deadline.after(60), "the guest's systemd")
            finally:
                owner.send_signal(signal.SIGKILL)
        wait_until(folder.exists, lambda there: not there, Deadline.after(20), "the exchange folder to go")
        running = lambda: [pid for pid in Path("/proc").glob("[0-9]*") if names(pid, folder)]  # noqa: E731
        wait_until(running, lambda found: not found, Deadline.after(20), "the guest's processes to go")


OWNER = """
import time
from pathlib import Path
from harness.guest import system
from harness.guest.engines.base import Boot
from harness.guest.guest import Guest
from harness.guest.engines.uml import Uml
from harness.core.machine import Machine
from harness.core.userland import Userland
guest = Guest()
machine = system.describe(Userland("trixie", Path({root!r})), Path({packages!r}), [])
guest.boot(Uml(Machine()), Boot(guest.folder, ("sleep", "1000"), "/", {{"PATH": "/bin"}}, system=machine))
print(guest.folder, flush=True)
time.sleep(1000)
"""


def names(process: Path, folder: Path) -> bool:
    """Whether a process has the folder in its command line."""
    try:
        return os.fspath(folder).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


# -- what is refused --------------------------------------------------------------------------------------------------


def unpacked(root: Path, *files: str) -> Userland:
    """Return a userland with nothing but some empty files."""
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Userland("small", root)


def test_a_userland_that_can_boot_nothing_is_told_all_that_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        system.check(unpacked(tmp_path, "usr/bin/journalctl"))
    assert caught.value.sentence == (
        "The userland 'small' can't be booted as a machine: it has no /usr/bin/python3, /usr/bin/systemctl, "
        "/lib/systemd/systemd or /usr/lib/systemd/systemd."
    )


def test_the_python_of_a_userland(tmp_path: Path) -> None:
    userland = unpacked(tmp_path, "usr/bin/python3.13")
    (tmp_path / "usr/bin/python3").symlink_to("/etc/alternatives/python3")
    with pytest.raises(UsageError, match="is no link to a Python 3"):
        wheels.python_of(userland)
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "etc/alternatives/python3").symlink_to("/usr/bin/python3.13")
    assert wheels.python_of(userland) == "3.13"


@pytest.mark.parametrize(
    ("userlands", "said"),
    [
        (("host",), ""),
        (("trixie",), ""),
        (("host", "trixie"), "a guest has one userland, and --harness-userland names 2: host, trixie"),
    ],
)
def test_a_guest_has_one_userland(userlands: tuple[str, ...], said: str) -> None:
    assert refusal(Plan(Mode.ALWAYS, Uml(Machine())), userlands) == said
    assert refusal(Plan(Mode.AUTO, Uml(Machine())), userlands) == ""


def test_only_one_engine_boots_userlands() -> None:
    plan = Plan(Mode.ALWAYS, Virtme(Machine()))
    assert refusal(plan, ("host",)) == ""
    assert "only the engine 'uml' boots another userland" in refusal(plan, ("trixie",))
    assert refusal(Plan(Mode.ALWAYS, None, "no kernel"), ("trixie",)) == "no guest can be booted: no kernel"


@pytest.mark.harness_requires("uml")
def test_two_userlands_are_a_usage_error_of_the_run(tmp_path: Path) -> None:
    both = ("--harness-guest=always", "--harness-userland=host", "--harness-userland=trixie")
    run = run_pytest(tmp_path, "suites/test_replies.py", *both)
    assert run.status == pytest.ExitCode.USAGE_ERROR
    assert "--harness-guest=always, but a guest has one userland" in run.output


def test_folders_in_others_are_seen_with_them() -> None:
    folders = [Path(name) for name in ("/a/b", "/a", "/a/b/c", "/ab", "/a")]
    assert system.outermost(folders) == ["/a", "/ab"]
    with pytest.raises(UsageError, match="for a project in '/'"):
        system.outermost([Path("/"), *folders])


# -- its Python -------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of packages for a pip that can ask nobody but that folder."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", os.fspath(tmp_path))
    return tmp_path


def python(root: Path) -> Userland:
    """Return a userland with a Python, as far as its version goes."""
    userland = unpacked(root, "usr/bin/python3.13")
    (root / "usr/bin/python3").symlink_to("python3.13")
    return userland


def test_packages_that_pip_can_not_get_are_an_error_with_its_words(without_index: Path) -> None:
    folder = without_index / "packages"
    with pytest.raises(GuestError, match=r"pip could not install what the tests need for Python 3\.13") as caught:
        wheels.packages(python(without_index / "root"), [], folder)
    assert "ERROR: " in caught.value.evidence["stdout"]
    assert "ensurepip" in caught.value.hint
    assert [file.name for file in folder.iterdir()] == ["install.lock"]


def test_packages_are_installed_once(
    without_index: Path, monkeypatch: pytest.MonkeyPatch, built: Callable[[str], Image]
) -> None:
    monkeypatch.setattr(wheels, "_requirements", lambda: ["nothing-of-that-name"])
    userland, folder = python(without_index / "root"), without_index / "packages"
    made: list[tuple[str, ...]] = []

    def install(pins: list[str], version: str, target: Path, _progress: object) -> None:
        made.append((version, *pins))
        target.mkdir()

    monkeypatch.setattr(wheels, "_install", install)
    first = wheels.packages(userland, ["jeepney", "no-such-package"], folder)
    assert wheels.packages(userland, ["jeepney"], folder) == first
    assert len(made) == 1
    assert made[0][0] == "3.13"
    assert made[0][1].startswith("jeepney==")
    assert wheels.packages(userland, ["jeepney", "sh"], folder) != first
