"""What a container is given besides its sockets: podman's options, and the volumes and secrets made for a test."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.activation.base import Workload
from harness.contract import Contract, ImageTable, UnitFolder, VolumeTable, beside
from harness.contract.placeholders import filled
from harness.contract.types import HOME
from harness.core.transports import Listener
from harness.session.session import Session


def build_workload(
    contract: Contract, image: str, listeners: Sequence[Listener], home: str, aliases: Mapping[str, str] | None = None
) -> Workload:
    """Return a contract's container for sockets at addresses of a session whose home folder is `home`."""
    return Workload(
        contract.name,
        image,
        tuple(listeners),
        tuple(filled(_at_home(argument, home), listeners) for argument in contract.image.command),
        contract.limits.stop_s,
        tuple(_options(contract, home, listeners)),
        contract.image.handover,
        contract.image.ready,
        contract.image.backend,
        contract.limits.idle_exit_s,
        contract.service.settings,
        contract.units,
        aliases or {},
    )


def preview_workload(contract: Contract, image: str, home: str) -> Workload:
    """Return the same at the addresses that the contract itself says, for what is shown and not started."""
    tables = contract.sockets
    placed = [replace(it.listener, path=f"{home}/{it.path}") if it.path else it.listener for it in tables]
    return build_workload(contract, image, placed, home)


def _options(contract: Contract, home: str, listeners: Sequence[Listener]) -> Iterator[str]:
    """Yield podman's options for what the contract's image says, but for what an activation adds."""
    image = contract.image
    yield f"--network={image.podman_network}"
    variables = {name: filled(_at_home(text, home), listeners) for name, text in image.environment.items()}
    yield from (f"--env={name}={text}" for name, text in variables.items())
    yield from (f"--user={image.user}",) if image.user else ()
    yield from ("--read-only",) if image.read_only else ()
    yield from ("--init",) if image.init else ()
    yield from (_volume(contract, volume, home) for volume in image.volumes)
    yield from (f"--tmpfs={_at_home(mount.path, home)}:mode={mount.mode},size={mount.size}" for mount in image.tmpfs)
    yield from _secrets(contract.name, image)
    yield from image.options.arguments


def _at_home(text: str, home: str) -> str:
    return text.replace(HOME, home)


def _volume(contract: Contract, volume: VolumeTable, home: str) -> str:
    ending = ":ro" if volume.read_only else ""
    return f"--volume={own_name(contract.name, volume.name)}:{_at_home(volume.path, home)}{ending}"


def _secrets(contract: str, image: ImageTable) -> list[str]:
    found = []
    for secret in image.secrets:
        kind = f"type=env,target={secret.variable}" if secret.variable else f"type=mount,target={secret.name}"
        found.append(f"--secret={own_name(contract, secret.name)},{kind}")
    return found


def own_name(contract: str, name: str) -> str:
    """Return the name of a volume or a secret in the session."""
    return f"harness-{contract}-{name}"


@contextlib.contextmanager
def provision(session: Session, contract: Contract) -> Iterator[Mapping[str, str]]:
    """Make a contract's volumes and secrets, and take them away at the end; yields the secrets by their names.

    What a killed test has left in a session that is used again is replaced.
    """
    volumes = [own_name(contract.name, volume.name) for volume in contract.image.volumes]
    texts = {secret.name: secrets.token_hex(16) for secret in contract.image.secrets}
    labels = {own_name(contract.name, name): text for name, text in texts.items()}
    if contract.units:
        texts = labels = contract.units.secrets
    _remove(session, volumes, labels)
    try:
        for volume in contract.image.volumes:
            _fill(session, own_name(contract.name, volume.name), volume)
        for label, text in labels.items():
            # By standard input: a command line can be read by every process.
            session.run(["podman", "secret", "create", label, "-"], stdin=text.encode(errors="surrogateescape"))
        with _brought(session, contract.units) if contract.units else contextlib.nullcontext():
            yield texts
    finally:
        if not session.kept:
            _remove(session, volumes, labels)


def _remove(session: Session, volumes: Collection[str], labels: Collection[str]) -> None:
    if volumes:
        session.run(["podman", "volume", "rm", "--force", *volumes], check=False)
    if labels:
        session.run(["podman", "secret", "rm", *labels], check=False)


@contextlib.contextmanager
def _brought(session: Session, folder: UnitFolder) -> Iterator[None]:
    """Bring the files that lie beside unit files, and take away what was not there before; the account does both."""
    places = {session.paths.home: folder.at_home, session.paths.quadlets: folder.at_unit}
    new = []
    try:
        for place, archive in places.items():
            there = {name: os.path.lexists(session.outside(f"{place}/{name}")) for name in beside.names(archive)}
            new += [f"{place}/{name}" for name, was in there.items() if not was]
            if there:
                session.run(["mkdir", "-p", place])
                session.run(["tar", "--extract", f"--directory={place}"], stdin=archive)
        yield
    finally:
        if new and not session.kept:
            # Containers may have written into the folders, as users that only podman's namespace has.
            session.run(["podman", "unshare", "rm", "-rf", "--", *new], check=False)


def _fill(session: Session, name: str, volume: VolumeTable) -> None:
    session.run(["podman", "volume", "create", name])
    if volume.files:
        session.run(["podman", "volume", "import", name, "-"], stdin=_archive(volume.files, session.paths.home))


def _archive(files: Mapping[str, str], home: str) -> bytes:
    """Return a tar archive of texts, readable for every user of the container, and of the folders above them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folders = {parent for name in files for parent in _parents(name)}
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, text in files.items():
            data = _at_home(text, home).encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]
