"""Images that somebody else made: from the caller's own podman, a registry, Docker, or an archive."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.contract.reference import ImageReference, Source
from harness.core.errors import Blame, CommandError, ImageError, UsageError
from harness.core.process import Completed, run
from harness.core.progress import Progress
from harness.session.session import Session

#: Longest pull or copy of one image, in seconds.
LIMIT_S = 1200.0

#: Where podman keeps its logins, the first that is there, see containers-auth.json(5) and podman-login(1).
_LOGINS = ("{runtime}/containers/auth.json", "{config}/containers/auth.json", "{home}/.docker/config.json")

#: The largest file of logins that is read, in bytes.
_LARGEST = 1_000_000

#: What a registry says to somebody whom it does not know.
_LOCKED = re.compile(r"unauthorized|authentication required|access to the resource is denied|no basic auth", re.I)


def source_of(reference: ImageReference) -> str:
    """Return the hash of what an image is found by: its name, or what is in its archive; raise UsageError."""
    if not reference.file:
        return hashlib.sha256(f"reference\n{reference}".encode()).hexdigest()
    try:
        with Path(reference.file).open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(
            f"The image archive '{reference.file}' can't be read: {error.strerror}.",
            hint="A relative path is below the contract's folder; with --harness-image, below the current one.",
        ) from None
    return hashlib.sha256(f"archive\n{content}\n{reference.name}".encode()).hexdigest()


def fetch(name: str, reference: ImageReference, session: Session, progress: Progress) -> str:
    """Bring an image into the store that a session writes to, and return what podman calls it there.

    Raises ImageError, or UsageError for an archive that is none.
    """
    if reference.source.is_archive:
        progress(f"load the image of '{reference.file}'")
        return _of_archive(reference, session)
    if reference.source is Source.DOCKER:
        progress(f"copy the image '{reference.name}' from Docker")
        return _of_docker(reference, session)
    if reference.source is Source.ANYWHERE and _copied(reference, session, progress):
        return reference.name
    if not _id(reference.name, session):
        _pull(name, reference, session, progress)
    return reference.name


def _id(name: str, session: Session) -> str:
    """Return the id of an image in the session's store, or ""."""
    return session.run(_inspect(name), check=False).text.strip()


def _inspect(name: str) -> list[str]:
    return ["podman", "image", "inspect", "--format", "{{.Id}}", name]


# -- from another store ------------------------------------------------------------------------------------------------


def _copied(reference: ImageReference, session: Session, progress: Progress) -> bool:
    """Copy an image of the caller's own podman, unless the very same is there; return whether there is one."""
    own = run(_inspect(reference.name), timeout_s=30, check=False)
    if own.status != 0:
        return False
    if own.text.strip() != _id(reference.name, session):
        progress(f"copy the image '{reference.name}' from your own podman")
        _load(session, 'podman save --quiet "$0" | exec "$@"', reference.name)
    return True


def _of_docker(reference: ImageReference, session: Session) -> str:
    """Copy an image of the machine's Docker."""
    try:
        shown = run(["docker", "image", "inspect", "--format", "{{.Id}}", reference.name], timeout_s=30)
        loaded = _load(session, 'docker save "$0" | exec "$@"', reference.name)
    except CommandError as error:
        raise ImageError(
            f"The image '{reference}' can't be had from Docker.",
            hint="'docker images' shows which there are; its service has to run, and you have to be allowed to ask it.",
            evidence=error.evidence,
            blame=Blame.INPUT,
        ) from None
    return _names(loaded)[0] if shown and _names(loaded) else reference.name


def _of_archive(reference: ImageReference, session: Session) -> str:
    """Load an image of an archive, by the one name that is meant."""
    try:
        names = _names(_load(session, 'exec "$@" < "$0"', reference.file))
    except CommandError as error:
        raise UsageError(
            f"The file '{reference.file}' is no archive of an image.",
            hint="'podman save --format=oci-archive' makes one, and so does 'docker save'.",
            evidence=error.evidence,
        ) from None
    meant = [name for name in names if not reference.name or name in (reference.name, f"localhost/{reference.name}")]
    if len(meant) != 1:
        raise UsageError(
            f"The archive '{reference.file}' holds {', '.join(names) or 'no image'}.",
            hint=f"Name one of them: {reference.source}:{reference.file}:NAME.",
        )
    return meant[0]


def _load(session: Session, script: str, subject: str) -> Completed:
    """Load an image through a pipe: a session's files are in memory.

    What the shell runs is fixed; the image and the session's command are its arguments.
    """
    inside = (f"{name}={value}" for name, value in session.environment.items())
    load = ("env", "-i", *inside, *session.prefix, "podman", "load", "--quiet")
    return run(["/bin/sh", "-c", script, subject, *load], timeout_s=LIMIT_S)


def _names(loaded: Completed) -> list[str]:
    """Return the images that `podman load` tells of."""
    lines = re.findall(r"^Loaded image(?:\(s\))?: (.+)$", loaded.text, re.MULTILINE)
    return [name.strip() for line in lines for name in line.split(",")]


# -- from a registry ---------------------------------------------------------------------------------------------------


def _pull(name: str, reference: ImageReference, session: Session, progress: Progress) -> None:
    """Pull an image as the caller would; no registry is asked for names below `localhost/`: podman builds those."""
    said = ""
    if reference.registry != "localhost":
        progress(f"pull the image '{reference.name}'")
        with _as_caller(session, reference):
            pulled = session.run(["podman", "pull", "--quiet", reference.name], timeout_s=LIMIT_S, check=False)
        if pulled.status == 0:
            return
        said = pulled.stderr.decode(errors="replace")
    if _LOCKED.search(said):
        registry = reference.registry or "docker.io"
        raise ImageError(
            f"The registry '{registry}' does not let you have the image '{reference.name}' for '{name}'.",
            hint=f"Log in by 'podman login {registry}': the harness pulls with your login. Or correct the name.",
            evidence={"podman pull": said},
            blame=Blame.INPUT,
        )
    raise ImageError(
        f"The image '{reference.name}' for '{name}' is neither in the harness's store, nor in your own podman, nor can "
        "it be pulled.",
        hint="Build it with 'podman build', or correct its name.",
        evidence={"podman pull": said},
    )


@contextlib.contextmanager
def _as_caller(session: Session, reference: ImageReference) -> Iterator[None]:
    """Lend a session the caller's login for one registry, and what the caller has set for registries."""
    variables = os.environ
    home = variables.get("HOME", "")
    config = variables.get("XDG_CONFIG_HOME") or f"{home}/.config"
    runtime = variables.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    below = f"{session.paths.home}/.config/containers"
    given = [variables.get("REGISTRY_AUTH_FILE", "")]
    files = given if any(given) else [text.format(runtime=runtime, config=config, home=home) for text in _LOGINS]
    login = next((text for file in files if (text := _login(Path(file), reference.registry or "docker.io"))), "")
    registries = _read(Path(config, "containers/registries.conf"))
    try:
        if login:
            session.write(f"{below}/auth.json", login)
        if registries:
            session.write(f"{below}/registries.conf", registries)
        yield
    finally:
        for name in ("auth.json", "registries.conf"):
            session.remove(f"{below}/{name}")


def _login(file: Path, registry: str) -> str:
    """Return the part of a file of logins that is for a registry, "" where there is none."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        auths = json.loads(_read(file) or "{}").get("auths", {})
        same = {key: value for key, value in auths.items() if registry in re.split("/+", key)}
        return json.dumps({"auths": same}) if same else ""
    return ""


def _read(file: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError), file.open(encoding="utf-8") as opened:
        return opened.read(_LARGEST)
    return ""
