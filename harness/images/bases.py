"""The base images: Fedora from a registry, as in the tutorial, or Debian from the machine's own package mirror."""

from __future__ import annotations

import hashlib
import http.client
import platform
import re
import ssl
import threading
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import CapabilityMissing
from harness.core.process import run
from harness.core.progress import Progress

if TYPE_CHECKING:  # `setup` takes the sources, and must do without the harness's packages
    from harness.session.session import Session

#: A registry that answers later than this counts as out of reach, in seconds.
REGISTRY_LIMIT_S = 2.0

#: Longest assembly or download of a base image, in seconds.
BASE_LIMIT_S = 600.0

#: Changes when `assemble` does, so that bases built by an older harness are built anew.
_RECIPE = "3"

LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")


class Base(StrEnum):
    """A distribution that images are built on; also the ending of its Containerfiles."""

    FEDORA = "fedora"
    DEBIAN = "debian"


def registry_of(name: str, folder: Path = Path("/etc/containers")) -> str:
    """Return the host that the machine's containers-registries.conf.d(5) gives the short name `name`, or ""."""
    for file in sorted(folder.glob("registries.conf.d/*.conf")):
        try:
            aliases = tomllib.loads(file.read_text(encoding="utf-8")).get("aliases", {})
        except (OSError, tomllib.TOMLDecodeError):
            continue
        if name in aliases:
            return str(aliases[name]).partition("/")[0]
    return ""


def registry_answers(host: str, limit_s: float = REGISTRY_LIMIT_S) -> bool:
    """Whether a registry says anything to the API version check of the OCI distribution specification.

    The thread is left alone when the time is over: nothing ends a resolver that hangs.
    """
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(_says_yes(host, limit_s)), daemon=True)
    asking.start()
    asking.join(limit_s)
    return answers == [True]


def _says_yes(host: str, limit_s: float) -> bool:
    if not host:
        return False
    try:
        connection = http.client.HTTPSConnection(host, timeout=limit_s, context=ssl.create_default_context())
    except http.client.InvalidURL:
        return False
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except (OSError, UnicodeError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def choose() -> Base:
    """Return Fedora where its registry answers in time, else Debian."""
    return Base.FEDORA if registry_answers(registry_of("fedora")) else Base.DEBIAN


def debian_sources() -> tuple[str, ...]:
    """Return the `deb` lines of the machine's own Debian mirror, third parties' left out, main only.

    Raises CapabilityMissing where the machine is no Debian or its package lists were never fetched.
    """
    fields = "$(ORIGIN) $(COMPONENT) $(SITE) $(RELEASE)"
    listed = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], timeout_s=20, check=False)
    lines = []
    for line in listed.text.splitlines():
        origin, component, site, release = (*line.split(" "), "", "", "")[:4]
        if origin == "Debian" and component == "main":
            lines.append(f"deb {site} {release} main")
    if not lines:
        raise CapabilityMissing(
            "debian_mirror",
            "neither an image registry answers nor does apt-get know a Debian mirror",
            "give the machine access to a registry, or run 'apt-get update' on a Debian machine",
        )
    return tuple(sorted(set(lines), key=lambda text: (len(text), text)))


def in_suite(sources: Sequence[str], suite: str) -> tuple[str, ...]:
    """Return the `deb` lines of `debian_sources` for another release: bookworm-security -> trixie-security."""
    own = sources[0].split(" ")[2]
    lines = []
    for line in sources:
        kind, site, release, component = line.split(" ")
        if release == own or release.startswith(f"{own}-"):
            lines.append(f"{kind} {site} {suite}{release.removeprefix(own)} {component}")
    return tuple(lines)


#: Settings of apt.conf(5) that reaching a mirror can take: proxies, and dates of a mirror that is behind.
_MIRROR_SETTINGS = re.compile(r"Acquire::(Check-Date|Check-Valid-Until|Retries|https?::Proxy\b.*) ", re.IGNORECASE)


def mirror_settings() -> tuple[str, ...]:
    """Return the lines of the machine's apt.conf(5) without which its mirror may not be usable."""
    dumped = run(["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire"], timeout_s=20, check=False)
    return tuple(line for line in dumped.text.splitlines() if _MIRROR_SETTINGS.match(line))


def recipe(base: Base) -> str:
    """Return the hash of what a base is made from: this code's version and, for Debian, the machine's release."""
    parts = [_RECIPE, base]
    if base is Base.DEBIAN:
        parts.append(platform.freedesktop_os_release().get("VERSION_CODENAME", ""))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def make(base: Base, reference: str, session: Session, progress: Progress) -> None:
    """Put the base into the store of a building session under the name `reference`."""
    if base is Base.FEDORA:
        _pull("fedora", session, progress)
        session.run(["podman", "tag", "fedora", reference])
    else:
        _assemble(debian_sources(), reference, session, progress)


def _pull(name: str, session: Session, progress: Progress) -> None:
    title = f"pull the base image '{name}'"
    session.run_with_progress(
        ["podman", "pull", "--quiet", name], timeout_s=BASE_LIMIT_S, title=title, progress=progress
    )


def _assemble(sources: Sequence[str], reference: str, session: Session, progress: Progress) -> None:
    """Unpack a minimal Debian with apt from the machine's mirror and import it."""
    archive = f"{session.paths.home}/base.tar"
    suite = sources[0].split(" ")[2]
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    progress(f"assemble a Debian base ({suite}) from the machine's package mirror")
    # fmt: off
    session.run_with_progress(
        ["mmdebstrap", "--mode=unshare", "--variant=apt", "--include=ca-certificates",
         "--dpkgopt=force-unsafe-io", *options, suite, archive, *sources],
        timeout_s=BASE_LIMIT_S, title="mmdebstrap", progress=progress,
    )
    # fmt: on
    try:
        session.run(["podman", "import", "--quiet", archive, reference], timeout_s=BASE_LIMIT_S)
    finally:
        session.remove(archive)
