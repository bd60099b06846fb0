"""How userlands are made from a distribution's own packages: a table of names."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.core.errors import CapabilityMissing
from harness.images import bases

#: Changes when the commands below do, so that userlands built by an older harness are built anew.
_VERSION = "1"


class Tool(StrEnum):
    """The program that unpacks a distribution's packages into a folder."""

    MMDEBSTRAP = "mmdebstrap"
    DNF = "dnf"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A distribution, and the packages that a session needs of it."""

    name: str
    tool: Tool
    packages: tuple[str, ...]

    @property
    def suite(self) -> str:
        """The distribution's release: Debian's is the recipe's name, Fedora's is the machine's own."""
        return self.name if self.tool is Tool.MMDEBSTRAP else _own_release().get("VERSION_ID", "")

    @property
    def source(self) -> str:
        """Hash of what is made: this code's version, the release, the packages' names. It knows no versions of them."""
        parts = (_VERSION, self.tool, self.suite, *self.packages)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def command(self, root: Path) -> tuple[str, ...]:
        """Return the command line that fills the new folder `root`; raise CapabilityMissing where none can."""
        if self.tool is Tool.MMDEBSTRAP:
            return _mmdebstrap(root, self.suite, self.packages)
        return _dnf(root, self.packages)


#: What a session takes, what the suites run in it, and what booting it as a machine takes.
_DEBIAN = (
    *("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd"),
    *("podman", "conmon", "crun", "runc", "catatonit", "uidmap"),
    *("slirp4netns", "netavark", "aardvark-dns", "nftables", "docker-compose"),
    *("socat", "curl", "ca-certificates", "iproute2", "python3", "procps", "kmod"),
)

_FEDORA = (
    *("fedora-release", "systemd", "dbus-broker", "dbus-common", "util-linux", "glibc-minimal-langpack"),
    *("podman", "conmon", "crun", "runc", "catatonit", "shadow-utils"),
    *("passt", "slirp4netns", "netavark", "aardvark-dns", "nftables", "docker-compose"),
    *("socat", "curl", "ca-certificates", "iproute", "python3", "procps-ng", "kmod"),
)

#: Name -> recipe. Another release of Debian is a row.
RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("bookworm", Tool.MMDEBSTRAP, _DEBIAN),
        # Debian 12's pasta does not work in a session without a routable interface; its Podman does without.
        Recipe("trixie", Tool.MMDEBSTRAP, (*_DEBIAN, "passt")),
        Recipe("fedora", Tool.DNF, _FEDORA),
    )
}


def _mmdebstrap(root: Path, suite: str, packages: Sequence[str]) -> tuple[str, ...]:
    """Return mmdebstrap(1) with the machine's own mirror, or with mmdebstrap's where the machine knows none."""
    try:
        sources = bases.in_suite(bases.debian_sources(), suite)
    except CapabilityMissing:
        sources = ()
    # fmt: off
    return (
        "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}",
        "--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude={pattern}" for pattern in bases.LEFT_OUT),
        *(f"--aptopt={line}" for line in bases.mirror_settings()),
        suite, str(root), *sources,
    )
    # fmt: on


def _dnf(root: Path, packages: Sequence[str]) -> tuple[str, ...]:
    """Return dnf with the machine's own repositories and release, see dnf5-installroot(7)."""
    if _own_release().get("ID") != "fedora":
        raise CapabilityMissing(
            "fedora_mirror",
            "its repositories are taken from a Fedora machine, which this is not",
            "take an image with --from-image, or a tar with --from-tar",
        )
    # fmt: off
    return (
        "dnf", f"--installroot={root}", "--use-host-config", "--assumeyes", "--setopt=install_weak_deps=False",
        "--setopt=tsflags=nodocs", "install", *packages,
    )
    # fmt: on


def _own_release() -> dict[str, str]:
    return platform.freedesktop_os_release()
