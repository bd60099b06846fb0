"""Making sure of the system packages: this machine's own names for real, a recorded manager for installing."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.capabilities import packages
from harness.capabilities.packages import EXTRAS, MANAGERS, TESTS, VIRTME, WANTED, Installer, PackagesMissing, Wanted
from harness.core import process
from harness.core.cache import FOLDER_VARIABLE
from harness.core.errors import Blame
from harness.core.locking import is_locked

APT, DNF = MANAGERS
ON_DEBIAN = [row for row in (*WANTED, *TESTS) if "apt-get" in row.package]
on_debian = pytest.mark.skipif(Installer().manager() is not APT, reason="needs a Debian machine")


class Place:
    """A fake machine: a folder of programs, its files, and a record of the package manager's calls."""

    def __init__(self, folder: Path, distribution: str) -> None:
        self.root = folder
        self.bin = folder / "bin"
        self.record = folder / "record"
        self.bin.mkdir()
        (folder / "etc").mkdir()
        (folder / "etc/os-release").write_text(f"NAME=X\n{distribution}\n", encoding="utf-8")

    def script(self, name: str, text: str) -> None:
        """Make a program; only builtins of the shell work in it, for the folder is the whole of PATH."""
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        file.chmod(0o755)

    def manager(self, name: str, *, installs: bool = True, status: int = 0) -> None:
        """Make a package manager that records its calls and, if it `installs`, whatever is wanted."""
        shown = '"frontend=$DEBIAN_FRONTEND$NEEDRESTART_SUSPEND" "proxy=$https_proxy" "secret=$CI_SECRET"'
        text = [f'printf "%s " {name} "$@" {shown} >>{self.record}; echo >>{self.record}; echo this is {name}']
        if installs:
            text.append('case " $* " in *" install "*)')
            for row in (*WANTED, *VIRTME, *TESTS):
                if row.any_of[0].startswith("/"):
                    # No mkdir without a PATH: the folders are made here.
                    (self.root / row.any_of[0].lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                    text.append(f": >{self.root}{row.any_of[0]}")
                else:
                    text.append(f"{self.copier} {self.bin}/{name} {self.bin}/{row.any_of[0]}")
            text.append(";; esac")
        self.script(name, "\n".join([*text, f"exit {status}"]))

    @property
    def copier(self) -> str:
        """The command that makes an executable file of another."""
        return f"{shutil.which('cp')} -n"

    def have(self, *rows: Wanted) -> None:
        """Put what `rows` want on the machine."""
        for row in rows:
            if row.any_of[0].startswith("/"):
                file = self.root / row.any_of[0].lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
            else:
                self.script(row.any_of[0], "")

    def calls(self) -> list[str]:
        """Return the manager's calls, each in one line."""
        return self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []

    def installer(self, uid: int = 0) -> Installer:
        """Return the installer that sees this place only, on a machine that has every capability."""
        return Installer(root=self.root, path=os.fspath(self.bin), uid=uid, has=lambda _name: True)


def wanted(program: str) -> Wanted:
    """Return the row of a program."""
    return next(row for row in WANTED if program in row.any_of)


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the caller's environment a proxy and a secret."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("CI_SECRET", "hidden")


@pytest.fixture
def debian(tmp_path: Path) -> Place:
    """Return a fake Debian without any of the packages."""
    place = Place(tmp_path, "ID=debian")
    place.manager("apt-get")
    return place


@pytest.fixture
def fedora(tmp_path: Path) -> Place:
    """Return a fake Fedora without any of the packages, on which somebody installed apt."""
    place = Place(tmp_path, "ID=fedora")
    place.manager("dnf")
    place.manager("apt-get")
    return place


# --- this machine -----------------------------------------------------------------------------------------------------


@on_debian
@pytest.mark.parametrize(
    "row", [row for row in (*WANTED, *TESTS) if "apt-get" in row.package], ids=lambda row: row.any_of[0]
)
def test_debian_package_holds_what_is_wanted(row: Wanted) -> None:
    """Ask dpkg who owns the file here: the package of the table, or one that it depends on."""
    found = next((path for path in map(_on_this_machine, row.any_of) if path), None)
    if found is None:
        pytest.skip(f"'{row.any_of[0]}' is not installed here")
    package = row.package["apt-get"]
    # The database knows the file below /usr or below /, whichever side of the merge the package was built on.
    names = {found, found.removeprefix("/usr"), f"/usr{found}"}
    owners = process.run(["dpkg-query", "--search", *sorted(names)], timeout_s=20, check=False).text
    depends = process.run(
        ["dpkg-query", "--show", "--showformat=${Depends}, ${Pre-Depends}", package], timeout_s=20, check=False
    ).text
    known = {
        package,
        *(part.split()[0].partition(":")[0] for part in depends.replace("|", ",").split(",") if part.strip()),
    }
    assert {line.partition(":")[0] for line in owners.splitlines()} & known


def _on_this_machine(name: str) -> str | None:
    path = name if name.startswith("/") else shutil.which(name, path=process.SYSTEM_PATH)
    return os.path.realpath(path) if path and Path(path).exists() else None


@on_debian
def test_every_debian_package_exists() -> None:
    names = sorted({row.package["apt-get"] for row in ON_DEBIAN})
    lists = Path("/var/lib/apt/lists")
    if not any(lists.glob("*_Packages*")):
        pytest.skip("this machine has no package lists")
    shown = process.run(["apt-cache", "show", "--no-all-versions", *names], timeout_s=60, check=False).text
    assert [name for name in names if f"Package: {name}\n" not in shown] == []


def test_nothing_runs_where_nothing_is_missing(debian: Place) -> None:
    debian.have(*WANTED)
    assert debian.installer().missing() == ()
    assert debian.installer().ensure() == ()
    assert debian.calls() == []


def test_module_functions_look_at_this_machine() -> None:
    assert packages.missing() == Installer().missing()
    if not packages.missing():
        assert packages.ensure() == ()


def test_extras_are_wanted_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Wanted, ...]] = []
    monkeypatch.setattr(Installer, "missing", lambda self: self.wanted)
    monkeypatch.setattr(Installer, "ensure", lambda self, _progress: asked.append(self.wanted))
    packages.ensure()
    packages.ensure(extras=["tests"])
    assert asked == [WANTED, (*WANTED, *TESTS)]
    assert EXTRAS["tests"] is TESTS


def test_only_one_run_installs_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    locked: list[bool] = []
    monkeypatch.setenv(FOLDER_VARIABLE, os.fspath(tmp_path / "cache"))
    monkeypatch.setattr(Installer, "missing", lambda self: self.wanted)
    monkeypatch.setattr(Installer, "ensure", lambda self, _: locked.append(is_locked(tmp_path / "cache/setup.lock")))
    packages.ensure()
    assert locked == [True]
    assert not is_locked(tmp_path / "cache/setup.lock")


# --- installing -------------------------------------------------------------------------------------------------------


def test_apt_updates_then_installs_only_what_is_missing(debian: Place) -> None:
    debian.have(*(row for row in WANTED if row.package.get("apt-get") not in ("socat", "uidmap")))
    told: list[str] = []
    assert debian.installer().ensure(told.append) == ("socat", "uidmap")
    update, install = debian.calls()
    tail = "frontend=noninteractive1 proxy=http://proxy.example:3128 secret= "
    assert update == f"apt-get -o DPkg::Lock::Timeout=300 update {tail}"
    options = "install --yes --no-install-recommends socat uidmap"
    assert install == f"apt-get -o DPkg::Lock::Timeout=300 {options} {tail}"
    assert told == ["installing with apt-get: socat, uidmap"]
    assert debian.installer().ensure() == ()
    assert len(debian.calls()) == 2, "a second run must not call the manager"


def test_dnf_installs_by_fedoras_names(fedora: Place) -> None:
    installed = fedora.installer().ensure()
    assert {"shadow-utils", "dbus-broker", "iproute", "passt", "podman", "crun"} <= set(installed)
    assert not {"mmdebstrap", "uidmap"} & set(installed)
    assert len(set(installed)) == len(installed)
    [call] = fedora.calls()
    options = "install --assumeyes --setopt=install_weak_deps=False"
    assert call == f"dnf {options} {' '.join(installed)} frontend= proxy=http://proxy.example:3128 secret= "


def test_dnf_installs_once(fedora: Place) -> None:
    fedora.installer().ensure()
    assert fedora.installer().missing() == ()
    assert fedora.installer().ensure() == ()
    assert len(fedora.calls()) == 1


def test_dnf_installs_extras_by_fedoras_names(fedora: Place) -> None:
    fedora.have(*WANTED)
    installed = replace(fedora.installer(), wanted=(*WANTED, *VIRTME, *TESTS)).ensure()
    assert installed == ("qemu-system-x86-core", "busybox", "util-linux-script", "chromium", "chromedriver", "xz")


def test_a_dnf_that_fails_is_shown(fedora: Place) -> None:
    fedora.manager("dnf", installs=False, status=1)
    with pytest.raises(PackagesMissing) as caught:
        fedora.installer().ensure()
    assert list(caught.value.evidence) == ["dnf install"]
    assert "ended with status 1" in caught.value.evidence["dnf install"]
    assert "then run: dnf install --assumeyes" in caught.value.hint


@pytest.mark.parametrize(
    ("distribution", "manager"),
    [
        ('ID=linuxmint\nID_LIKE="ubuntu debian"', "apt-get"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "dnf"),
        ("ID=arch", None),
    ],
)
def test_the_distribution_decides_on_the_manager(tmp_path: Path, distribution: str, manager: str | None) -> None:
    place = Place(tmp_path, distribution)
    place.manager("apt-get")
    place.manager("dnf")
    found = place.installer().manager()
    assert (found.name if found else None) == manager


def test_a_manager_that_installs_nothing_is_shown(debian: Place) -> None:
    debian.manager("apt-get", installs=False, status=100)
    debian.have(*(row for row in WANTED if row != wanted("socat")))
    with pytest.raises(PackagesMissing) as caught:
        debian.installer().ensure()
    assert "'socat'" in caught.value.sentence
    assert "this is apt-get" in caught.value.evidence["apt-get install"]
    assert "ended with status 100" in caught.value.evidence["apt-get install"]
    assert caught.value.hint.endswith("apt-get update && apt-get install --yes --no-install-recommends socat")


def test_a_broken_list_does_not_stop_the_installation(debian: Place) -> None:
    text = (debian.bin / "apt-get").read_text(encoding="utf-8")
    debian.script("apt-get", f'case "$*" in *update*) echo called >>{debian.record}; exit 100;; esac\n{text}')
    assert "socat" in debian.installer().ensure()
    assert debian.calls()[0] == "called"


# --- what is only for one capability ----------------------------------------------------------------------------------


def lacking(place: Place, *capabilities: str) -> Installer:
    """Return the installer that sees this place only, on a machine without these capabilities."""
    return replace(place.installer(), has=lambda name: name not in capabilities)


def test_docker_compose_may_be_a_plugin(fedora: Place) -> None:
    docker_compose = wanted("docker-compose")
    fedora.have(*(row for row in WANTED if row != docker_compose))
    assert lacking(fedora, "docker_compose").missing() == (docker_compose,)
    plugin = fedora.root / "usr/libexec/docker/cli-plugins/docker-compose"
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    assert lacking(fedora, "docker_compose").missing() == ()


def test_what_is_only_for_one_capability_is_not_needed(fedora: Place) -> None:
    fedora.manager("dnf", installs=False, status=1)
    fedora.have(*(row for row in WANTED if not row.only_for))
    told: list[str] = []
    assert lacking(fedora, "docker_compose").ensure(told.append) == ()
    assert told[-1].startswith("The package manager 'dnf' did not install 'docker-compose'. See what it says")
    assert told[-1].endswith("Until then tests that need docker_compose are skipped.")


def test_one_that_can_not_be_had_does_not_stop_another(debian: Place) -> None:
    rows = tuple(Wanted((name,), {"apt-get": name}, only_for=name) for name in ("never-was", "socat"))
    text = (debian.bin / "apt-get").read_text(encoding="utf-8")
    debian.script("apt-get", f'case "$*" in *never-was*) exit 100;; esac\n{text}')
    told: list[str] = []
    assert replace(lacking(debian, "never-was", "socat"), wanted=rows).ensure(told.append) == ("socat",)
    assert "need never-was are skipped" in "".join(told)


# --- without root -----------------------------------------------------------------------------------------------------


def test_sudo_without_a_password_gets_the_environment_by_hand(debian: Place) -> None:
    env = shutil.which("env")
    debian.script("env", f'exec {env} "$@"')
    debian.script("sudo", f'unset DEBIAN_FRONTEND https_proxy; echo "sudo $1 $2" >>{debian.record}; shift; exec "$@"')
    debian.script("true", "exit 0")
    debian.have(*(row for row in WANTED if row != wanted("socat")))
    assert debian.installer(uid=1000).ensure() == ("socat",)
    calls = debian.calls()
    assert calls[:2] == ["sudo -n true", "sudo -n env"]
    assert calls[-1].endswith("socat frontend=noninteractive1 proxy=http://proxy.example:3128 secret= ")


def test_dnf_by_sudo_gets_the_proxies_and_no_secret(fedora: Place) -> None:
    env = shutil.which("env")
    fedora.script("env", f'exec {env} "$@"')
    fedora.script("sudo", f'unset https_proxy CI_SECRET; echo "sudo $1 $2" >>{fedora.record}; shift; exec "$@"')
    fedora.script("true", "exit 0")
    fedora.have(*(row for row in WANTED if row != wanted("socat")))
    assert fedora.installer(uid=1000).ensure() == ("socat",)
    assert fedora.calls() == [
        *("sudo -n true", "sudo -n env"),
        "dnf install --assumeyes --setopt=install_weak_deps=False socat "
        "frontend= proxy=http://proxy.example:3128 secret= ",
    ]


@pytest.mark.parametrize("sudo", [False, True])
def test_without_the_right_to_install_the_one_command_is_told(debian: Place, sudo: bool) -> None:
    if sudo:
        debian.script("sudo", "echo sudo: a password is required >&2; exit 1")
    debian.have(*(row for row in WANTED if row != wanted("socat") and row != wanted("curl")))
    with pytest.raises(PackagesMissing) as caught:
        debian.installer(uid=1000).ensure()
    assert caught.value.blame is Blame.MACHINE
    assert "socat, curl" in caught.value.sentence
    line = "'apt-get update && apt-get install --yes --no-install-recommends socat curl'"
    assert caught.value.hint == f"Run: {'sudo sh -c' if sudo else 'su -c'} {line}"
    assert debian.calls() == []


def test_dnfs_one_command_needs_no_shell(fedora: Place) -> None:
    fedora.script("sudo", "exit 1")
    fedora.have(*(row for row in WANTED if row != wanted("socat")))
    with pytest.raises(PackagesMissing) as caught:
        fedora.installer(uid=1000).ensure()
    assert caught.value.hint == "Run: sudo dnf install --assumeyes --setopt=install_weak_deps=False socat"


def test_without_a_known_manager_the_programs_are_named(tmp_path: Path) -> None:
    place = Place(tmp_path, "ID=arch")
    place.have(*(row for row in WANTED if row != wanted("socat") and row != wanted("ip")))
    with pytest.raises(PackagesMissing) as caught:
        place.installer().ensure()
    assert "'socat', 'ip'" in caught.value.sentence
