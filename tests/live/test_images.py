"""The store of images: where it is, what an image is found by, what counts as there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.contract import Contract, load
from harness.core.cache import default_folder
from harness.core.errors import Blame, ImageError
from harness.images.bases import Base
from harness.images.store import Image, ImageStore, containerfile, source_hash
from harness.session import factory
from tests.helpers.contracts import GOOD, written

SOURCE = "5" * 64
IMAGE = Image("echo", "localhost/harness/echo:5", "a" * 64, "debian", SOURCE, 1.5)


def contract_in(folder: Path, *containerfiles: str, text: str = GOOD) -> Contract:
    """Return a contract whose folder has these Containerfiles."""
    return load(written(folder, text, **dict.fromkeys(containerfiles, "FROM x\n")))


# -- what an image is found by ----------------------------------------------------------------------------------------


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An image's sources; the Containerfile of them."""
    file = written(tmp_path / "image", GOOD, Containerfile="FROM x\n", **{"a.py": "a", "b.py": "b"})
    (file.parent / "sub").mkdir()
    (file.parent / "sub" / "c.py").write_text("c", encoding="utf-8")
    return file.with_name("Containerfile")


def rewrite(file: Path, text: str) -> None:
    """Write a file, with the folders above it."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def swap(file: Path) -> None:
    """Give each of two files the other's content."""
    rewrite(file.with_name("a.py"), "b")
    rewrite(file.with_name("b.py"), "a")


CHANGES: dict[str, Callable[[Path], object]] = {
    "the Containerfile": lambda file: rewrite(file, "FROM y\n"),
    "a file": lambda file: rewrite(file.with_name("a.py"), "A"),
    "an empty file": lambda file: rewrite(file.with_name("a.py"), ""),
    "a file below": lambda file: rewrite(file.parent / "sub/c.py", "C"),
    "a new file": lambda file: rewrite(file.with_name("d.py"), ""),
    "a hidden file": lambda file: rewrite(file.with_name(".containerignore"), "a.py"),
    "a file gone": lambda file: file.with_name("b.py").unlink(),
    "another name": lambda file: file.with_name("a.py").rename(file.with_name("z.py")),
    "another folder": lambda file: (file.parent / "sub").rename(file.parent / "suc"),
    "made executable": lambda file: file.with_name("a.py").chmod(0o755),
    "two files swapped": swap,
    "another Containerfile": lambda file: rewrite(file.with_name("Containerfile.debian"), "FROM x\n"),
}

NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "the contract": lambda file: rewrite(file.with_name("contract.toml"), "other"),
    "compiled Python": lambda file: rewrite(file.parent / "__pycache__/a.pyc", "x"),
    "an empty folder": lambda file: (file.parent / "empty").mkdir(),
    "another time": lambda file: rewrite(file.with_name("a.py"), "a"),
    "a file beside the folder": lambda file: rewrite(file.parent.parent / "x", "x"),
    "who may read": lambda file: file.with_name("a.py").chmod(0o600),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_image_is_built_from_counts(context: Path, change: str) -> None:
    """A change of anything that the build sees makes another image."""
    before = source_hash(context, "base")
    CHANGES[change](context)

    assert source_hash(context, "base") != before


@pytest.mark.parametrize(("before", "after"), [("a.py", "same.py"), ("nothing", "nobody")])
def test_where_a_link_leads_to_counts(context: Path, before: str, after: str) -> None:
    """The build sees the link itself, whether or not there is something at its end."""
    link = context.with_name("link")
    context.with_name("same.py").write_bytes(context.with_name("a.py").read_bytes())
    hashes = set()
    for target in (before, after):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        hashes.add(source_hash(context, "base"))

    assert len(hashes) == 2


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_a_build_does_not_see_does_not_count(context: Path, change: str) -> None:
    """An image is not built anew for a limit in the contract, nor for what a test run leaves behind."""
    before = source_hash(context, "base")
    NO_CHANGES[change](context)

    assert source_hash(context, "base") == before


def test_the_base_and_the_choice_of_containerfile_count(context: Path) -> None:
    """The same folder on another base, or built by another of its Containerfiles, is another image."""
    other = context.with_name("Containerfile.debian")
    other.write_bytes(context.read_bytes())

    assert len({source_hash(context, "base"), source_hash(context, "base2"), source_hash(other, "base")}) == 3


def test_the_same_sources_elsewhere_are_the_same_image(context: Path, tmp_path: Path) -> None:
    """Two clones of a repository share their images."""
    before = source_hash(context, "base")
    copy = context.parent.rename(tmp_path / "elsewhere")

    assert source_hash(copy / "Containerfile", "base") == before
    assert len(before) == 64


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_can_not_be_in_an_image(context: Path, kind: str) -> None:
    """It is named before anything is copied: a FIFO would be waited for, and no image has a socket."""
    odd = context.parent / "odd"
    if kind == "fifo":
        os.mkfifo(odd)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(odd))

    with pytest.raises(ImageError, match=f"'{odd}' among an image's sources is neither a file nor a folder") as caught:
        source_hash(context, "base")
    assert "Remove it" in caught.value.hint


# -- the Containerfile ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "base", "chosen"),
    [
        (["Containerfile"], Base.DEBIAN, "Containerfile"),
        (["Containerfile", "Containerfile.debian"], Base.DEBIAN, "Containerfile.debian"),
        (["Containerfile", "Containerfile.debian"], Base.FEDORA, "Containerfile"),
        (["Containerfile.debian"], Base.DEBIAN, "Containerfile.debian"),
    ],
)
def test_the_containerfile_of_the_base_is_preferred(tmp_path: Path, there: list[str], base: Base, chosen: str) -> None:
    """Its ending is the base's name; one without an ending is for every base."""
    assert containerfile(contract_in(tmp_path, *there), base) == tmp_path.resolve() / chosen


def test_a_containerfile_may_stand_beside_the_folder(tmp_path: Path) -> None:
    """Several contracts can share one image's sources; the path is the real one."""
    text = f'{GOOD}[image]\ncontainerfile = "../Shared"\n'
    contract = contract_in(tmp_path / "a", text=text)
    (tmp_path / "Shared.fedora").write_text("FROM x\n", encoding="utf-8")

    assert containerfile(contract, Base.FEDORA) == (tmp_path / "Shared.fedora").resolve()


@pytest.mark.parametrize("there", [[], ["Containerfile.debian"], ["containerfile"]], ids=["none", "other", "spelling"])
def test_no_containerfile(tmp_path: Path, there: list[str]) -> None:
    """Both names are told that would do."""
    with pytest.raises(ImageError) as caught:
        containerfile(contract_in(tmp_path, *there), Base.FEDORA)

    assert f"'{tmp_path}/Containerfile.fedora' nor '{tmp_path}/Containerfile'" in caught.value.sentence
    assert "image.reference" in caught.value.hint
    assert caught.value.blame is Blame.IMAGE


# -- what counts as there ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    """An empty store."""
    store = ImageStore(tmp_path / "store")
    store.prepare()
    return store


def put(store: ImageStore, image: Image = IMAGE, *, stored: bool = True) -> Path:
    """Write an image's record, and what podman would have of it."""
    if stored:
        (store.graph / "overlay-images" / image.id).mkdir(parents=True)
    file = store.folder / "images" / f"{image.name}-{image.source[:12]}.json"
    file.write_text(json.dumps(asdict(image)), encoding="utf-8")
    return file


def test_an_image_is_found_by_name_and_source(store: ImageStore) -> None:
    """Both must fit."""
    put(store)

    assert store.find("echo", SOURCE) == IMAGE
    assert store.find("echo", "6" * 64) is None
    assert store.find("httpd", SOURCE) is None
    assert store.images() == (IMAGE,)


def test_an_image_must_be_in_the_graph_root_too(store: ImageStore) -> None:
    """A record alone is not enough: podman may have removed the image."""
    put(store, stored=False)

    assert store.find("echo", SOURCE) is None
    assert store.images() == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"name": "echo"}', "\udcff", '"x"'])
def test_a_record_that_is_cut_off_is_ignored(store: ImageStore, text: str) -> None:
    """As if it was not there; the others still count."""
    put(store).write_bytes(text.encode(errors="surrogateescape"))
    other = Image("httpd", "localhost/harness/httpd:5", "b" * 64, "debian", SOURCE, 1.5)
    put(store, other)

    assert store.find("echo", SOURCE) is None
    assert store.images() == (other,)


def test_a_record_cut_anywhere_is_ignored(store: ImageStore) -> None:
    """No part of a record passes for a whole one."""
    file = put(store)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert store.find("echo", SOURCE) is None
    file.write_bytes(whole)
    assert store.find("echo", SOURCE) == IMAGE


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    """Looking makes no folders."""
    store = ImageStore(tmp_path / "none")

    assert (store.images(), store.find("echo", SOURCE), store.known_base()) == ((), None, None)
    assert not store.folder.exists()


@pytest.mark.parametrize(
    ("there", "base"),
    [(["debian"], Base.DEBIAN), (["fedora"], Base.FEDORA), (["debian", "fedora"], Base.FEDORA), ([], None)],
)
def test_the_base_that_was_used_before(store: ImageStore, there: list[str], base: Base | None) -> None:
    """So that a run without a network decides as the last one did."""
    put(store)
    for number, name in enumerate(there):
        put(store, Image(f"base-{name}", "x", str(number) * 64, name, SOURCE, 1))

    assert store.known_base() == base


def test_the_folders_are_closed_to_others(store: ImageStore) -> None:
    """Neither records nor layers are for other people of the machine to change."""
    assert {folder.name: folder.stat().st_mode & 0o777 for folder in store.folder.iterdir()} == {
        "images": 0o700,
        "store": 0o700,
    }


# -- where it is ------------------------------------------------------------------------------------------------------

FOLDER = "socket-activation-harness"


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HARNESS_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"HARNESS_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, f"/b/{FOLDER}"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, f"/b/{FOLDER}"),
        ({"XDG_CACHE_HOME": "b", "HOME": "/c"}, f"/c/.cache/{FOLDER}"),
        ({"XDG_CACHE_HOME": "", "HOME": "/c"}, f"/c/.cache/{FOLDER}"),
        ({"HOME": "/c"}, f"/c/.cache/{FOLDER}"),
    ],
)
def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str) -> None:
    """Ours, then the XDG base directory specification's, which calls relative paths invalid, then the home's."""
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert default_folder() == Path(folder)


def test_a_relative_folder_of_ours_stays_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is looked up once, where the command was started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", "cache")

    assert default_folder() == tmp_path / "cache"


def test_a_session_on_a_store_without_images(tmp_path: Path) -> None:
    """A test may ask for its session before its image is built: podman finds the store's locks, and no image."""
    store = ImageStore(tmp_path)
    store.ready()
    with factory.open_session(store.graph) as session:
        assert session.run(["podman", "images", "--quiet"]).text == ""
    store.ready()
