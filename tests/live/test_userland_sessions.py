"""Userlands in use: sessions never write to them; the command; one made of an image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.capabilities.table import Capabilities
from harness.cli.main import main
from harness.core.cache import FOLDER_VARIABLE
from harness.core.errors import ImageError
from harness.core.userland import Userland
from harness.runtime import leaks
from harness.runtime.runtime import Runtime
from harness.session import factory
from harness.userlands.store import UserlandStore
from tests.helpers.sessions import isolated
from tests.helpers.userlands import distribution, entry, packed

pytestmark = isolated


def files(root: Path) -> dict[Path, tuple[int, int, int]]:
    """Return path -> what changes when a file or a folder is written to."""
    found = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        found[path] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


@pytest.fixture
def trixie(harness_runtime: Runtime) -> Userland:
    """The userland that all runs share."""
    return UserlandStore(harness_runtime.store.folder, harness_runtime.progress).get("trixie")


# -- only read ---------------------------------------------------------------------------------------------------------


@pytest.mark.harness_requires("mmdebstrap")
def test_a_session_does_not_write_to_its_userland(harness_runtime: Runtime, trixie: Userland) -> None:
    """What anybody writes in it, be it root, is in a layer above and goes with the session."""
    harness_runtime.store.ready()
    before = files(trixie.root)
    with factory.open_session(harness_runtime.store.graph, userland=trixie) as session:
        assert "trixie" in session.run(["cat", "/etc/os-release"]).text
        session.run(["podman", "info"])
        session.outside("/etc/written").write_text("by root", encoding="utf-8")
        session.outside("/usr/bin/podman").unlink()
        assert session.run(["cat", "/etc/written"]).text == "by root"

    assert files(trixie.root) == before


@pytest.mark.harness_requires("mmdebstrap")
def test_looking_at_what_it_can_do_does_not_write_to_it(trixie: Userland) -> None:
    """Its programs are run for that."""
    before = files(trixie.root)
    assert Capabilities(userland=trixie).has("podman")
    Capabilities(userland=trixie).all()

    assert files(trixie.root) == before


# -- of an image -------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(harness_runtime: Runtime, tmp_path: Path) -> Iterator[str]:
    """The name of an image with a small distribution, in the store that all tests share."""
    reference = "localhost/harness-tests/userland:small"
    images = harness_runtime.store
    images.prepare()
    owned = entry("./var/owned", uid=4321, gid=1234)
    file = packed(tmp_path / "small.tar", distribution(owned))
    with factory.open_build_session(images.graph) as session:
        archive = f"{session.paths.home}/small.tar"
        session.outside(archive).write_bytes(file.read_bytes())
        session.run(["podman", "import", "--quiet", archive, reference])
    yield reference
    with factory.open_build_session(images.graph) as session:
        session.run(["podman", "rmi", "--force", reference], check=False)
    for record in images.folder.glob("images/userland-small-*.json"):
        record.unlink()


def test_an_image(harness_runtime: Runtime, tmp_path: Path, image: str) -> None:
    """Owners and modes are as in a container of it; neither a container nor a tar is left."""
    userlands = UserlandStore(tmp_path / "cache")
    made = userlands.from_image("small", image, harness_runtime.store)

    owned = made.file("/var/owned").stat()
    assert (owned.st_uid, owned.st_gid) == (4321, 1234)
    assert made.file("/usr/bin/newuidmap").stat().st_mode & 0o4000
    assert userlands.get("small") == made
    (one,) = userlands.unpacked()
    assert (one.how, one.system) == (f"image {image}", "A Small One 1")
    assert sorted(path.name for path in made.root.parent.iterdir()) == ["root", "userland.json"]
    assert not [remnant for remnant in leaks.leaks() if "userland-small" in remnant.what]
    assert userlands.from_image("small", image, harness_runtime.store) == made


def test_an_image_that_is_not_there(harness_runtime: Runtime, tmp_path: Path) -> None:
    """All places were looked at, and nothing is made."""
    userlands = UserlandStore(tmp_path / "cache")
    with pytest.raises(ImageError, match="neither in the harness's store"):
        userlands.from_image("small", "localhost/harness-tests/nothing", harness_runtime.store)
    assert not userlands.folder.exists()


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv(FOLDER_VARIABLE, os.fspath(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_command(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output has the results, one a line; progress goes to standard error."""
    monkeypatch.setattr(leaks, "find", lambda: ())  # other runs of the machine are no matter
    file = packed(tmp_path / "small.tar", distribution())
    assert main(["userland", "list"]) == 0
    assert capsys.readouterr().out == ""

    assert main(["userland", "build", "small", "--from-tar", os.fspath(file)]) == 0
    said = capsys.readouterr()
    name, root = said.out.split()
    assert (name, Path(root).is_dir()) == ("small", True)
    assert f"harness: unpack '{file}'" in said.err

    assert main(["userland", "list"]) == 0
    assert capsys.readouterr().out.split()[:7] == ["small", "A", "Small", "One", "1", "tar", "small.tar"]

    assert main(["userland", "remove", "small"]) == 0
    assert capsys.readouterr().out == "removed: small (A Small One 1)\n"
    assert not Path(root).exists()

    assert main(["userland", "remove", "small"]) == 2
    assert "There is no userland 'small'" in capsys.readouterr().err


def test_none_is_removed_while_sessions_live(
    harness_runtime: Runtime, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them could have it for its root."""
    store = UserlandStore(cache)
    store.from_tar("small", packed(tmp_path / "small.tar", distribution()))
    harness_runtime.store.prepare()
    with factory.open_pristine_session(harness_runtime.store.graph):
        assert main(["userland", "remove", "small"]) == 2

    assert "Sessions may be using the userland." in capsys.readouterr().err
    assert store.get("small").root.is_dir()


@pytest.mark.parametrize(
    "arguments", [[], ["prune"], ["build"], ["build", "x", "--from-tar", "a", "--from-image", "b"], ["remove"]]
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse says what was expected."""
    with pytest.raises(SystemExit) as caught:
        main(["userland", *arguments])
    assert caught.value.code == 2
    assert "usage: python3 -m harness userland" in capsys.readouterr().err
