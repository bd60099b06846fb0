"""Images that somebody else made: archives, a registry that asks for a login, Docker."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.contract import load
from harness.contract.reference import ImageReference
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, ImageError, UsageError
from harness.core.progress import silent
from harness.core.transports import Listener, Transport
from harness.images import fetching
from harness.images.store import Image, ImageStore
from harness.runtime.runtime import Runtime
from harness.session import factory, sockets
from harness.session.session import Session
from tests.helpers.contracts import BYTES, TCP, written
from tests.helpers.runs import REPOSITORY, run_pytest
from tests.helpers.sessions import opened

LOGIN = "somebody:open sesame"


@pytest.fixture
def archives(harness_session: Session, echo_image: Image, tmp_path: Path) -> Path:
    """Return a folder with the image as archives of both kinds."""
    for kind in ("docker-archive", "oci-archive"):
        inside = f"{harness_session.paths.home}/{kind}.tar"
        harness_session.run(
            ["podman", "save", "--quiet", f"--format={kind}", f"--output={inside}", echo_image.reference]
        )
        (tmp_path / f"{kind}.tar").write_bytes(harness_session.outside(inside).read_bytes())
        harness_session.remove(inside)
    return tmp_path


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_an_archive(kind: str, archives: Path, echo_image: Image, harness_runtime: Runtime) -> None:
    """It is loaded once, and runs under a name of the harness's own."""
    store = harness_runtime.store
    image = store.existing("archived", f"{kind}:{kind}.tar", archives)
    assert image.reference.startswith("localhost/harness/archived:")
    assert image.id == echo_image.id or kind == "oci-archive"
    assert store.existing("archived", f"{kind}:{archives}/{kind}.tar") == image
    contract = load(REPOSITORY / "containers" / "echo").model_copy(update={"name": "archived"})
    with harness_runtime.service(contract, image=image) as service:
        assert service.ask_cold(Transport.TCP4).body == b"hello\n"


def test_an_archive_in_a_contract_is_beside_it(archives: Path, harness_runtime: Runtime) -> None:
    text = f'schema = 1\nname = "beside"\nimage = {{ reference = "oci-archive:oci-archive.tar" }}\n{TCP}{BYTES}'
    image = harness_runtime.image(load(written(archives, text)))
    assert image.reference.startswith("localhost/harness/beside:")


def test_the_name_within_an_archive(archives: Path, echo_image: Image, store: ImageStore) -> None:
    named = f"docker-archive:{archives}/docker-archive.tar:{echo_image.reference}"
    assert store.existing("archived", named).id == echo_image.id
    with pytest.raises(UsageError, match=r"docker-archive\.tar' holds localhost/harness/echo:") as caught:
        store.existing("archived", f"{named}-other")
    assert caught.value.hint.startswith("Name one of them: docker-archive:")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no archive", "is no archive of an image"), (b"", "is no archive"), (None, "can't be read: No")],
)
def test_what_is_no_archive(content: bytes | None, said: str, tmp_path: Path, store: ImageStore) -> None:
    file = tmp_path / "a.tar"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        store.existing("archived", f"oci-archive:{file}")
    assert caught.value.blame is Blame.INPUT


def test_an_archive_that_is_cut_off(archives: Path, store: ImageStore) -> None:
    file = archives / "oci-archive.tar"
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(UsageError, match="is no archive of an image"):
        store.existing("archived", f"oci-archive:{file}")


@pytest.mark.parametrize("way", ["dots", "link"])
def test_an_archive_writes_nowhere_else(way: str, tmp_path: Path) -> None:
    """A layer with `..` in a name, or with a file below a link out of it; tar(1) that is told to does write there."""
    store = ImageStore(tmp_path / "store")
    store.prepare()
    with factory.open_build_session(store.graph) as session:
        home = session.paths.home
        layer = strange_layer(way, home)
        file = tmp_path / "strange.tar"
        file.write_bytes(as_docker_archive(layer))
        with contextlib.suppress(UsageError):
            fetching.fetch("strange", ImageReference.parse(f"docker-archive:{file}"), session, silent)
        assert not session.outside(f"{home}/escaped").exists()

        session.outside(f"{home}/layer.tar").write_bytes(layer)
        session.run(["mkdir", f"{home}/unpacked"])
        session.run(["tar", "-P", "-xf", f"{home}/layer.tar", "-C", f"{home}/unpacked"])
        assert session.outside(f"{home}/escaped").exists()


def strange_layer(way: str, home: str) -> bytes:
    """Return a layer that has the file `escaped` in a folder of the machine's, in a way that naive programs follow."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        name = f"{'../' * 20}{home[1:]}/escaped"
        if way == "link":
            link = tarfile.TarInfo("out")
            link.type, link.linkname = tarfile.SYMTYPE, home
            archive.addfile(link)
            name = "out/escaped"
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return layer.getvalue()


def as_docker_archive(layer: bytes) -> bytes:
    """Return an archive as `docker save` writes it, of an image with one layer."""
    digest = hashlib.sha256(layer).hexdigest()
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    manifest = [{"Config": "config.json", "RepoTags": ["localhost/strange:1"], "Layers": ["layer.tar"]}]
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def test_a_transport_that_nobody_knows(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "suites/test_replies.py", "--harness-image=echo=ftp://example.org/echo")
    assert run.status == pytest.ExitCode.USAGE_ERROR
    assert "the transport 'ftp:' is none that can be read; known are 'docker:'" in run.output


def test_an_image_of_docker(tmp_path: Path, archives: Path, monkeypatch: pytest.MonkeyPatch, store: ImageStore) -> None:
    """Docker's engine can't run here, so a program stands in for its client; what comes out of it is a real archive."""
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(
        f'#!/bin/sh\ncase "$1" in save) cat {archives}/docker-archive.tar;; image) echo id;; *) exit 3;; esac\n',
        encoding="utf-8",
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    assert store.existing("docker", "docker-daemon:echo:latest").id
    client.write_text("#!/bin/sh\necho no daemon >&2; exit 1\n", encoding="utf-8")
    with pytest.raises(ImageError, match="can't be had from Docker") as caught:
        store.existing("docker", "docker-daemon:echo:latest")
    assert "no daemon" in str(caught.value)


# -- a registry that asks for a login ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(harness_runtime: Runtime) -> Iterator[str]:
    """Run a registry that has one image, in a session with the machine's loopback; return the image's name there."""
    runtime = harness_runtime
    server = runtime.store.image(load(REPOSITORY / "tests" / "registry"), runtime.base)
    pushed = runtime.store.image(load(REPOSITORY / "containers" / "echo"), runtime.base)
    runtime.store.ready()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"127.0.0.1:{port}/somebody/echo:1"
    with opened(runtime.store, own_network=False) as session:
        address = f"--env=REGISTRY_HTTP_ADDR=127.0.0.1:{port}"
        run = ["podman", "run", "--network=host", "--pull=never", address, server.reference]
        session.run(["systemd-run", "--user", "--quiet", "--unit=registry", *run])
        wait_until(
            lambda: sockets.of(sockets.listening(session), Listener((Transport.TCP4,), port)),
            bool,
            Deadline.after(20),
            "the registry to listen",
        )
        push = ["podman", "push", "--quiet", "--tls-verify=false", f"--creds={LOGIN}", pushed.reference, name]
        session.run(push, timeout_s=120)
        yield name


@pytest.fixture
def caller(tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the caller a home folder in which the registry is one without TLS; return podman's folder there."""
    folder = tmp_path / ".config" / "containers"
    folder.mkdir(parents=True)
    where = registry.partition("/")[0]
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{where}"\ninsecure = true\n', encoding="utf-8")
    for variable in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def login(registry: str, text: str = LOGIN) -> str:
    """Return what `podman login` writes, with a login of another registry beside."""
    auth = {"auth": base64.b64encode(text.encode()).decode()}
    return json.dumps({"auths": {registry.partition("/")[0]: auth, "other.example": auth}})


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """A store of the test's own, in which nothing is: what is pulled has names of images that others use."""
    return ImageStore(tmp_path / "cache")


def test_the_login_of_the_caller(registry: str, caller: Path, store: ImageStore) -> None:
    """As `podman login` keeps it, in the first place where it does."""
    (caller / "auth.json").write_text(login(registry), encoding="utf-8")
    image = store.existing("from-registry", registry)
    assert image.reference == registry
    assert len(image.id) == 64


def test_a_file_of_logins_that_a_variable_names(
    registry: str, caller: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before all others, as for podman."""
    (caller / "auth.json").write_text(login(registry, "somebody:wrong"), encoding="utf-8")
    named = caller / "named.json"
    named.write_text(login(registry), encoding="utf-8")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert store.existing("from-registry", registry).reference == registry


@pytest.mark.parametrize("text", ["", "{", '{"auths": []}', "null"], ids=["empty", "cut off", "another form", "null"])
def test_without_a_login_the_way_out_is_told(text: str, registry: str, caller: Path, store: ImageStore) -> None:
    (caller / "auth.json").write_text(text, encoding="utf-8")
    with pytest.raises(ImageError, match="does not let you have the image") as caught:
        store.existing("from-registry", registry)
    assert caught.value.blame is Blame.INPUT
    assert f"'podman login {registry.partition('/')[0]}'" in caught.value.hint


def test_nothing_of_a_login_is_left_or_told(registry: str, caller: Path, store: ImageStore) -> None:
    """No other registry's login goes into the session, and afterwards there is none."""
    (caller / "auth.json").write_text(login(registry, "somebody:wrong"), encoding="utf-8")
    reference = ImageReference.parse(registry)
    with store._building() as session:
        file = session.outside(f"{session.paths.home}/.config/containers/auth.json")
        with fetching._as_caller(session, reference):
            assert list(json.loads(file.read_text(encoding="utf-8"))["auths"]) == [registry.partition("/")[0]]
            assert file.stat().st_mode & 0o077 == 0
        assert not file.exists()
        assert session.run(["podman", "info"]).text
    with pytest.raises(ImageError) as caught:
        store.existing("from-registry", registry)
    assert "wrong" not in str(caught.value)
    assert base64.b64encode(b"somebody:wrong").decode() not in str(caught.value)
