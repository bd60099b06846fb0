"""Images: found by the hash of what they are built from, built once under a lock, shared read-only by all sessions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from harness.contract import FILE_NAME, ClientImage, Contract
from harness.contract.reference import ImageReference
from harness.core import account as accounts
from harness.core.cache import writing
from harness.core.deadline import Deadline
from harness.core.errors import CommandError, ImageError, WaitTimeout
from harness.core.hints import hint
from harness.core.locking import held, locked
from harness.core.progress import Progress, silent
from harness.images import bases, fetching
from harness.images.bases import Base
from harness.session import factory
from harness.session.session import Session
from harness.session.spec import store_locks

#: What the name of a client's image ends in behind the contract's; no contract's name has a dot.
CLIENT = ".client"

#: Longest build, pull or copy of one image, in seconds.
BUILD_LIMIT_S = 1200.0


class BuildNetwork(StrEnum):
    """What the steps of a Containerfile see of the network, see --network= in podman-build(1)."""

    HOST = "host"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is in the store."""

    #: The contract's name, or `base-fedora`, `base-debian`.
    name: str
    #: The name that podman knows it by.
    reference: str
    #: The image's own id, 64 hexadecimal digits.
    id: str
    #: What it was built on; empty for an image that came ready-made.
    base: str
    #: Hash of what it was built from.
    source: str
    build_s: float


class ImageStore:
    """One folder with a podman graph root and, beside it, one small record per image."""

    def __init__(self, folder: Path, progress: Progress = silent, network: BuildNetwork = BuildNetwork.HOST) -> None:
        self.folder = folder
        self._progress = progress
        self._network = network
        #: podman's graph root, owned by the account of the sessions.
        self.graph = folder / "store"
        #: What is known of each image.
        self.records = folder / "images"

    # -- looking ------------------------------------------------------------------------------------------------

    def images(self) -> tuple[Image, ...]:
        """Return every image in the store, by name."""
        found = []
        for file in sorted(self.records.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append(Image(**json.loads(file.read_text(encoding="utf-8"))))
        return tuple(image for image in found if self._present(image))

    def find(self, name: str, source: str) -> Image | None:
        """Return the image `name` built from `source`, or None; reads two files and starts no program."""
        file = self._record(name, source)
        try:
            image = Image(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return image if self._present(image) else None

    def known_base(self) -> Base | None:
        """Return the base that images here were built on before; Fedora if there are both."""
        names = {image.name for image in self.images()}
        return next((base for base in Base if f"base-{base}" in names), None)

    # -- making -------------------------------------------------------------------------------------------------

    def base(self, base: Base) -> Image:
        """Return the base image, made at its first use."""
        name, source = f"base-{base}", bases.recipe(base)
        if image := self.find(name, source):
            return image
        with self._locked(name):
            return self.find(name, source) or self._make_base(base, name, source)

    def image(self, contract: Contract, base: Base) -> Image:
        """Return the image of a contract, built at its first use; raise ImageError when it can't be."""
        if contract.image.reference:
            return self.existing(contract.name, contract.image.reference, contract.folder)
        return self.built(contract.name, containerfile(contract, base), base)

    def chosen(self, contract: Contract, reference: str, base: Base) -> Image:
        """Return the image that somebody names for a contract, or the contract's own where `reference` is empty."""
        return self.existing(contract.name, reference) if reference else self.image(contract, base)

    def clients(self, contract: Contract, base: Base) -> dict[ClientImage, str]:
        """Return how podman knows the images of a contract's client programs, built unless they are here."""
        return {client: self.client(contract, client, base).reference for client in contract.clients}

    def client(self, contract: Contract, client: ClientImage, base: Base) -> Image:
        """Return the image that a probe's client runs in, as `image` does."""
        name = f"{contract.name}{CLIENT}"
        if client.reference:
            return self.existing(name, client.reference, contract.folder)
        return self.built(name, containerfile(contract, base, client.containerfile), base)

    def built(self, name: str, file: Path, base: Base) -> Image:
        """Return the image `name` of a Containerfile on `base`, built at its first use."""
        foundation = self.base(base)
        source = source_hash(file, foundation.id)
        if image := self.find(name, source):
            return image
        with self._locked(name):
            return self.find(name, source) or self._build(name, file, foundation, source)

    def existing(self, name: str, reference: str, folder: Path = Path()) -> Image:
        """Return an image that somebody else made: from here, the caller's own podman, a registry, or an archive.

        The path of an archive may be relative to `folder`. Raises ImageError or UsageError.
        """
        meant = ImageReference.parse(reference).below(folder)
        source, started = fetching.source_of(meant), time.monotonic()
        with self._locked(name):
            if meant.file and (image := self.find(name, source)):
                return image
            with self._building() as session:
                called = fetching.fetch(name, meant, session, self._progress)
                found = session.run(["podman", "image", "inspect", "--format", "{{.Id}}", called]).text.strip()
                if meant.file:
                    # Another archive may have an image of the same name.
                    own = f"localhost/harness/{name}:{source[:12]}"
                    session.run(["podman", "tag", found, own])
                    called = own
            return self._keep(Image(name, called, found, "", source, time.monotonic() - started))

    def wanted(self, contracts: Sequence[Contract]) -> tuple[str, ...]:
        """Return the `source` of every image here that some contract needs as it stands, and of their bases."""
        sources = set()
        for image in self.images():
            if not image.name.startswith("base-"):
                continue
            sources.add(image.source)
            for contract in contracts:
                for name in (contract.image.containerfile, *(client.containerfile for client in contract.clients)):
                    with contextlib.suppress(ImageError):
                        sources.add(source_hash(containerfile(contract, Base(image.base), name), image.id))
        return tuple(sorted(sources))

    def prune(self, keep: tuple[str, ...] = ()) -> tuple[Image, ...]:
        """Remove all images but those whose `source` is in `keep`; the caller makes sure that no session uses them."""
        with self._locked("all images"):
            gone = tuple(image for image in self.images() if image.source not in keep)
            if not gone:
                return ()
            with self._building() as session:
                for image in gone:
                    session.run(["podman", "rmi", "--force", image.reference], timeout_s=120, check=False)
                    self._record(image.name, image.source).unlink(missing_ok=True)
                session.run(["podman", "image", "prune", "--force"], timeout_s=120)
            return gone

    # -- the steps ----------------------------------------------------------------------------------------------

    def _make_base(self, base: Base, name: str, source: str) -> Image:
        started = time.monotonic()
        reference = f"localhost/harness/{name}:{source[:12]}"
        with blaming(name), self._building() as session:
            bases.make(base, reference, session, self._progress)
            found = session.run(["podman", "image", "inspect", "--format", "{{.Id}}", reference]).text.strip()
        return self._keep(Image(name, reference, found, str(base), source, time.monotonic() - started))

    def _build(self, name: str, file: Path, foundation: Image, source: str) -> Image:
        started = time.monotonic()
        reference = f"localhost/harness/{name}:{source[:12]}"
        self._progress(f"build the image '{name}' from {file.name} on {foundation.name}")
        with blaming(name), self._building() as session:
            context = f"{session.paths.home}/context"
            _copy_sources(file.parent, session, context)
            # A proxy's address may have a password in it.
            options = [f"--network={self._network}", f"--http-proxy={self._network is BuildNetwork.HOST}".lower()]
            # fmt: off
            session.run_with_progress(
                ["podman", "build", "--pull=never", *options, "--build-arg", f"BASE={foundation.reference}",
                 "--tag", reference, "--file", f"{context}/{file.name}", context],
                timeout_s=BUILD_LIMIT_S, title=f"build '{name}'", progress=self._progress,
            )
            # fmt: on
            found = session.run(["podman", "image", "inspect", "--format", "{{.Id}}", reference]).text.strip()
        return self._keep(Image(name, reference, found, foundation.base, source, time.monotonic() - started))

    @contextlib.contextmanager
    def _building(self) -> Iterator[Session]:
        self.prepare()
        with factory.open_build_session(self.graph) as session:
            yield session

    def prepare(self) -> None:
        """Make the store's folders, the graph root for the sessions' account, everything else for the caller."""
        for folder in (self.records, self.graph):
            with writing(self.folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if factory.is_isolated():
            account, now = accounts.throwaway(), self.graph.stat()
            if (now.st_uid, now.st_gid) != (account.uid, account.gid):  # a guest sees the store read-only
                os.chown(self.graph, account.uid, account.gid)

    def ready(self) -> None:
        """Prepare the store for sessions that read it: podman makes its locks there, which it can't as a reader."""
        self.prepare()
        wanted = [Path(file) for file in store_locks(os.fspath(self.graph))]
        deadline = Deadline.after(BUILD_LIMIT_S)
        while not all(file.exists() for file in wanted):
            if deadline.expired:
                raise WaitTimeout("podman's locks in a new store", deadline.elapsed_s, sorted(self.graph.glob("*")))
            # Who builds the first image makes them, too, long before all images are built and the store is free.
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(locked(self.folder / "build.lock", limit_s=1))
                except WaitTimeout:
                    continue
                stack.enter_context(self._building()).run(["podman", "images"])

    @contextlib.contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """Hold the one lock under which the store is written, saying so while another run holds it."""
        self.prepare()
        file = self.folder / "build.lock"
        with held(file, "another run that builds images", what, BUILD_LIMIT_S, self._progress):
            yield

    def _present(self, image: Image) -> bool:
        return (self.graph / "overlay-images" / image.id).is_dir()

    def _record(self, name: str, source: str) -> Path:
        return self.records / f"{name}-{source[:12]}.json"

    def _keep(self, image: Image) -> Image:
        file = self._record(image.name, image.source)
        draft = file.with_suffix(".new")
        with writing(self.folder):
            draft.write_text(json.dumps(asdict(image), indent=1) + "\n", encoding="utf-8")
            draft.replace(file)
        self._progress(f"the image '{image.name}' is ready ({image.build_s:.0f} s)")
        return image


def containerfile(contract: Contract, base: Base, name: str = "") -> Path:
    """Return the Containerfile of a contract for `base`: the one with its ending, else the one without.

    `name` is that of another Containerfile than the one of the image under test.
    """
    plain = contract.folder / (name or contract.image.containerfile)
    for file in (plain.with_name(f"{plain.name}.{base}"), plain):
        if file.is_file():
            return file.resolve()
    raise ImageError(
        f"The contract '{contract.name}' has no Containerfile: there is neither '{plain}.{base}' nor '{plain}'.",
        hint="Add one, or set image.reference to the name of an existing image.",
    )


def source_hash(file: Path, base_id: str) -> str:
    """Return the hash of a Containerfile, all files beside and below it, and the base; contracts don't count."""
    digest = hashlib.sha256(f"{base_id}\n{file.name}\n".encode())
    for path in sorted(file.parent.rglob("*")):
        if path.name == FILE_NAME or "__pycache__" in path.parts:
            continue
        if path.is_symlink():
            kind, content = "link", str(path.readlink()).encode()
        elif path.is_file():
            kind, content = ("program" if os.access(path, os.X_OK) else "file"), _content(path)
        elif path.is_dir():
            continue
        else:
            raise ImageError(
                f"The file '{path}' among an image's sources is neither a file nor a folder nor a link.",
                hint="Remove it: a socket, FIFO or device can't be copied into an image.",
            )
        digest.update(f"{path.relative_to(file.parent)}\0{kind}\0".encode())
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"The file '{path}' among an image's sources can't be read: {error.strerror}.") from None


def _copy_sources(folder: Path, session: Session, target: str) -> None:
    """Give the session's account sources of its own; the caller's may be the caller's alone to read."""
    copy = session.outside(target)
    shutil.copytree(folder, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or os.access(path, os.X_OK)
            path.chmod(0o755 if executable else 0o644)
        os.chown(path, session.account.uid, session.account.gid, follow_symlinks=False)


@contextlib.contextmanager
def blaming(name: str) -> Iterator[None]:
    """Turn the failure of a command that makes an image into an ImageError with its output."""
    try:
        yield
    except CommandError as error:
        output = (error.stdout + error.stderr).decode(errors="replace")
        known = hint(output)
        raise ImageError(
            f"The image '{name}' can't be built: {error.sentence}",
            hint=known.advice or "Correct its Containerfile; the last lines of the output are above.",
            blame=known.blame,
            evidence={"command": error.evidence["command"], "output": output},
        ) from None
