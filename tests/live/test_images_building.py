"""Making images, with the real store: builds that fail, names of nothing, the lock; nothing of it stays behind."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.contract import Contract, load
from harness.core.errors import SHOWN_LINES, Blame, CommandError, ImageError, LockBusy
from harness.images import store as image_store
from harness.images.bases import Base
from harness.images.store import BuildNetwork, Image, ImageStore
from harness.runtime.runtime import Runtime
from harness.session import factory
from harness.session.spec import store_locks
from tests.helpers.contracts import GOOD, written
from tests.helpers.sessions import isolated


@pytest.fixture
def said() -> list[str]:
    """The progress of the store below."""
    return []


@pytest.fixture
def store(harness_runtime: Runtime, said: list[str]) -> ImageStore:
    """The store that all tests share, its progress kept."""
    return ImageStore(harness_runtime.store.folder, said.append)


# -- builds that fail -------------------------------------------------------------------------------------------------


@pytest.fixture
def base(harness_runtime: Runtime) -> Image:
    """The base of the builds below, made before."""
    return harness_runtime.store.base(harness_runtime.base)


LONG = f"RUN echo first words; seq {SHOWN_LINES * 2}; echo last words >&2; false"

FAILING = {
    # what is wrong: the steps, what the error shows, its way out, who has to act
    "a step": (LONG, "last words", "Containerfile", Blame.IMAGE),
    "an instruction": ("RUM true", "RUM", "Containerfile", Blame.IMAGE),
    "a file": ("COPY nothing-there /", "nothing-there", "Containerfile", Blame.IMAGE),
    "another image": ("FROM localhost/harness-tests/nothing", "harness-tests/nothing", "Containerfile", Blame.IMAGE),
    "a name server": ("RUN echo Could not resolve host: x; false", "not resolve", "network and proxy", Blame.MACHINE),
}


def sources(folder: Path, name: str, steps: str) -> Contract:
    """Return a contract beside a Containerfile with some steps on the base."""
    text = f"ARG BASE\nFROM ${{BASE}}\n{steps}\n"
    return load(written(folder, GOOD.replace("echo", name), Containerfile=text))


@pytest.mark.parametrize("what", FAILING)
def test_a_build_that_fails(base: Image, store: ImageStore, said: list[str], tmp_path: Path, what: str) -> None:
    """The image is named, the output is shown, with a way out and who has to act; nothing is kept of it."""
    steps, shown, hint, blame = FAILING[what]
    name = f"lacks-{what.replace(' ', '-')}"
    with pytest.raises(ImageError) as caught:
        store.image(sources(tmp_path / "image", name, steps), Base(base.base))

    assert caught.value.sentence.startswith(f"The image '{name}' can't be built: ")
    assert shown in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.blame is blame
    assert "podman build" in caught.value.evidence["command"]
    assert [line for line in said if not line.startswith("wait")] == [
        f"build the image '{name}' from Containerfile on {base.name}"
    ]
    assert not list(store.folder.glob(f"images/{name}*"))


@pytest.mark.parametrize("network", BuildNetwork)
def test_what_a_build_sees_of_the_machine(
    base: Image, harness_runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: BuildNetwork
) -> None:
    """A step reaches a port of the machine's and knows its proxy, unless the network is taken away; no secret ever."""
    monkeypatch.setenv("no_proxy", "the-proxy's")
    monkeypatch.setenv("CI_TOKEN", "a-secret")
    store = ImageStore(harness_runtime.store.folder, network=network)
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach = f"bash -c ': </dev/tcp/127.0.0.1/{server.getsockname()[1]}' && echo was reached"
        with pytest.raises(ImageError) as caught:
            store.image(sources(tmp_path / "image", "lacks-network", f"RUN env; {reach}; false"), Base(base.base))

    said = caught.value.evidence["output"]
    with_network = network is BuildNetwork.HOST
    assert ("was reached" in said.splitlines()) == with_network
    assert ("Connection refused" in said) != with_network
    assert ("the-proxy's" in said) == with_network
    assert "a-secret" not in said


def test_long_output_is_cut_where_it_is_shown(base: Image, store: ImageStore, tmp_path: Path) -> None:
    """The error shows the last lines and holds all of them."""
    with pytest.raises(ImageError) as caught:
        store.image(sources(tmp_path / "image", "lacks-words", LONG), Base(base.base))

    shown = [line.strip() for line in str(caught.value).splitlines()]
    assert "first words" in caught.value.evidence["output"].splitlines()
    assert "first words" not in shown
    assert [line for line in shown if line.endswith("lines left out]")]


def test_sources_that_only_their_owner_reads(base: Image, store: ImageStore, tmp_path: Path) -> None:
    """A clone made under umask 077, say: the image is the same, and its own user can read what was copied."""
    contract = sources(tmp_path / "image", "lacks-words", "COPY . /copied\nRUN stat -c %a,%n /copied/[ab]*; false")
    for name, mode in (("a", 0o600), ("b", 0o700)):
        (contract.folder / name).write_text(name, encoding="utf-8")
        (contract.folder / name).chmod(mode)
    contract.folder.chmod(0o700)
    with pytest.raises(ImageError) as caught:
        store.image(contract, Base(base.base))

    assert {"644,/copied/a", "755,/copied/b"} <= set(caught.value.evidence["output"].splitlines())


def test_sources_with_a_link_to_nothing(base: Image, store: ImageStore, tmp_path: Path) -> None:
    """An editor's lock file, say: podman would copy the link as it is."""
    contract = sources(tmp_path / "image", "lacks-words", "COPY . /\nRUN readlink .#lock; false")
    (contract.folder / ".#lock").symlink_to("somebody@somewhere.1")
    with pytest.raises(ImageError) as caught:
        store.image(contract, Base(base.base))

    assert "somebody@somewhere.1" in caught.value.evidence["output"].splitlines()


# -- images of somebody else's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registry", "pulled"), [("localhost", False), ("127.0.0.1:9", True)], ids=["podman's own", "a registry's"]
)
def test_a_name_of_nothing(store: ImageStore, said: list[str], registry: str, pulled: bool) -> None:
    """All places were looked at, and podman's own words are there; names of podman's own no registry is asked for."""
    reference = f"{registry}/harness-tests/nothing:none"
    with pytest.raises(ImageError) as caught:
        store.existing("echo", reference)

    assert caught.value.sentence == (
        f"The image '{reference}' for 'echo' is neither in the harness's store, nor in your own podman, "
        "nor can it be pulled."
    )
    assert (reference in caught.value.evidence["podman pull"]) is pulled
    assert (f"pull the image '{reference}'" in said) is pulled
    assert "podman build" in caught.value.hint


def test_an_image_that_is_in_the_store_already(base: Image, store: ImageStore) -> None:
    """It is found by its name as podman knows it, under the name that the caller gives it."""
    found = store.existing("given-by-name", base.reference)
    with contextlib.ExitStack() as stack:
        for file in store.folder.glob("images/given-by-name-*.json"):
            stack.callback(file.unlink)

        assert (found.name, found.reference, found.id, found.base) == ("given-by-name", base.reference, base.id, "")
        assert store.find("given-by-name", found.source) == found


def test_an_image_is_built_once(
    harness_runtime: Runtime, store: ImageStore, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there costs neither a lock nor a session nor a word."""
    contract = harness_runtime.contracts["echo"]
    first = harness_runtime.image("echo")
    monkeypatch.setattr(image_store, "held", None)
    monkeypatch.setattr(factory, "open_build_session", None)

    assert store.image(contract, harness_runtime.base) == first
    assert said == []


# -- the lock ---------------------------------------------------------------------------------------------------------

#: Lets go when it is told to, or by itself, so that a store that can't wait hangs no test.
HOLDER = """
import fcntl, select, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    select.select([sys.stdin], [], [], 20)
"""


@contextmanager
def held(store: ImageStore) -> Iterator[subprocess.Popen[bytes]]:
    """Hold the store's lock in another process, until its standard input is closed."""
    command = [sys.executable, "-c", HOLDER, str(store.folder / "build.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process


def test_a_second_run_waits_and_says_so(tmp_path: Path) -> None:
    """It goes on as soon as the first has ended, and tells a person meanwhile what it is waiting for."""
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        assert holder.stdin is not None
        holder.stdin.close()

    store = ImageStore(tmp_path, tell)
    store.prepare()
    started = time.monotonic()
    with held(store) as holder:
        assert store.prune() == ()

    assert said == ["wait for another run that builds images (all images, 2 s)"]
    assert 2 <= time.monotonic() - started < 8


def test_a_lock_that_never_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the store is named, and nothing was touched."""
    monkeypatch.setattr(image_store, "BUILD_LIMIT_S", 1)
    store = ImageStore(tmp_path)
    store.prepare()
    with held(store), pytest.raises(LockBusy, match=f"The store '{tmp_path}' has been locked by another run"):
        store.prune()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """A run that was killed keeps nobody waiting."""
    said: list[str] = []
    store = ImageStore(tmp_path, said.append)
    store.prepare()
    with held(store) as holder:
        holder.kill()
        holder.wait()

        assert store.prune() == ()
    assert said == []


@isolated
def test_sessions_do_not_wait_for_who_builds(tmp_path: Path) -> None:
    """With the store's own locks podman 4.3 could wait for ever; here a build holds both of them."""
    store = ImageStore(tmp_path)
    store.ready()
    listing = ["podman", "images", "--quiet"]
    with factory.open_build_session(store.graph) as writing, contextlib.ExitStack() as held:
        for file in map(Path, store_locks(str(store.graph))):
            fcntl.lockf(held.enter_context(file.open("r+b")), fcntl.LOCK_EX)
        with factory.open_session(store.graph) as session:
            assert session.run(listing, timeout_s=10).text == ""
            # A last writer is in them: where nobody is, as in this store, podman takes three times as long.
            said = session.run(["cat", *store_locks(factory.STORE)]).stdout
            assert len(said) == 2 * 64
        # Who shares the locks does wait: otherwise the above would say nothing.
        with pytest.raises(CommandError, match="did not end within"):
            writing.run(listing, timeout_s=3)
