"""How userlands are made of packages: the command lines, what they are found by, tools that fail."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from harness.capabilities import packages
from harness.core.errors import Blame, CapabilityMissing, UsageError
from harness.images import bases
from harness.images.bases import in_suite
from harness.runtime.runtime import Runtime
from harness.userlands import recipes, unpack
from harness.userlands.recipes import RECIPES, Tool
from harness.userlands.requirements import lacking, system
from harness.userlands.store import UserlandStore
from tests.helpers.probing import as_root, script

SOURCES = (
    "deb http://mirror/debian bookworm main",
    "deb http://mirror/debian bookworm-updates main",
    "deb http://mirror/debian unstable main",
    "deb http://mirror/security bookworm-security main",
)

MANAGERS = {Tool.MMDEBSTRAP: "apt-get", Tool.DNF: "dnf"}


@pytest.fixture
def fedora(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine be one that has dnf."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "fedora", "VERSION_ID": "44"})


def test_the_mirror_of_another_release() -> None:
    """The machine's own mirror has the other release, too; what is of no release is left out."""
    assert in_suite(SOURCES, "trixie") == (
        "deb http://mirror/debian trixie main",
        "deb http://mirror/debian trixie-updates main",
        "deb http://mirror/security trixie-security main",
    )


def test_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release and the folder come last, then the mirror; no manuals are unpacked."""
    monkeypatch.setattr(bases, "debian_sources", lambda: SOURCES)
    command = RECIPES["trixie"].command(Path("/cache/root"))

    assert command[0] == "mmdebstrap"
    assert command[-5:] == ("trixie", "/cache/root", *in_suite(SOURCES, "trixie"))
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in command
    (included,) = [option for option in command if option.startswith("--include=")]
    assert {"systemd", "podman", "crun", "passt", "netavark"} <= set(included.partition("=")[2].split(","))


def test_debian_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine knows no mirror, mmdebstrap takes the one that it knows."""

    def none() -> tuple[str, ...]:
        raise CapabilityMissing("debian_mirror", "", "")

    monkeypatch.setattr(bases, "debian_sources", none)
    assert RECIPES["trixie"].command(Path("/cache/root"))[-2:] == ("trixie", "/cache/root")


@pytest.mark.usefixtures("fedora")
def test_fedora() -> None:
    """dnf installs into the folder from the machine's own repositories, see dnf5-installroot(7)."""
    command = RECIPES["fedora"].command(Path("/cache/root"))

    assert command[: command.index("install") + 1] == (
        *("dnf", "--installroot=/cache/root", "--use-host-config", "--assumeyes"),
        *("--setopt=install_weak_deps=False", "--setopt=tsflags=nodocs", "install"),
    )
    assert {"fedora-release", "systemd", "podman", "crun"} <= set(command)


def test_fedora_elsewhere(userlands: UserlandStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what else leads to a Fedora."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian"})
    with pytest.raises(CapabilityMissing, match="from a Fedora machine") as caught:
        RECIPES["fedora"].command(userlands.folder)
    assert "--from-image" in caught.value.hint


@pytest.mark.parametrize("name", RECIPES)
def test_a_session_can_be_had(name: str) -> None:
    """A recipe has the package of each program that the harness itself needs on a machine of that family."""
    recipe, manager = RECIPES[name], MANAGERS[RECIPES[name].tool]
    needed = {row.package[manager] for row in packages.WANTED if manager in row.package and not row.only_for}
    # util-linux is in every Debian; the others are for who makes userlands.
    assert needed - {"util-linux", "mmdebstrap", "debian-archive-keyring"} <= set(recipe.packages)


@pytest.mark.usefixtures("fedora")
def test_what_a_userland_is_found_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release, package or version of the harness's own code is another userland."""
    trixie = RECIPES["trixie"]
    others = {recipe.source for recipe in RECIPES.values()}
    others.add(replace(trixie, packages=(*trixie.packages, "vim")).source)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "fedora", "VERSION_ID": "45"})
    others.add(RECIPES["fedora"].source)
    monkeypatch.setattr(recipes, "_VERSION", "another")
    others.add(trixie.source)

    assert len(others) == len(RECIPES) + 3


@pytest.fixture
def userlands(tmp_path: Path) -> UserlandStore:
    """A store of the test's own."""
    return UserlandStore(tmp_path / "cache")


@as_root
def test_a_tool_that_is_not_there(userlands: UserlandStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and nothing is made."""
    monkeypatch.setattr(unpack, "base_environment", lambda: {"PATH": str(tmp_path)})
    with pytest.raises(CapabilityMissing, match="'mmdebstrap'"):
        userlands.get("trixie")
    assert userlands.unpacked() == ()
    assert not list(userlands.folder.glob("trixie*"))


@as_root
def test_a_tool_that_fails(userlands: UserlandStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words are shown, and nothing is left of what it has made."""
    script(tmp_path, "/bin/mmdebstrap", "echo 'E: no such mirror' >&2; exit 25")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    with pytest.raises(UsageError) as caught:
        userlands.get("trixie")

    assert caught.value.sentence == (
        "The userland 'trixie' can't be made: The program 'mmdebstrap' ended with status 25."
    )
    assert caught.value.blame is Blame.MACHINE
    assert "E: no such mirror" in str(caught.value)
    assert not list(userlands.folder.glob("trixie*"))


@as_root
@pytest.mark.harness_requires("mmdebstrap")
def test_trixie(harness_runtime: Runtime) -> None:
    """The real one, of the store that all runs share: made at its first use, which takes half a minute."""
    trixie = UserlandStore(harness_runtime.store.folder, harness_runtime.progress).get("trixie")

    assert system(trixie).startswith("Debian GNU/Linux 13")
    assert lacking(trixie) == ()
    assert not any(trixie.file("/usr/share/man").rglob("*.gz"))
