"""Contracts: what is read, from which files, and what becomes of files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import contract
from harness.contract import FILE_NAME, BytesProbe, HttpProbe, load, load_all
from harness.core.errors import ContractError, UsageError
from harness.core.transports import Listener, Transport
from tests.helpers.contracts import GOOD, written
from tests.helpers.runs import REPOSITORY

SHIPPED = REPOSITORY / "containers"


# -- good ones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(SHIPPED.glob(f"*/{FILE_NAME}")), ids=lambda file: file.parent.name)
def test_shipped_contracts_load(file: Path) -> None:
    """Each is named like its folder, which is how a person finds it, and promises something over some transport."""
    loaded = load(file)

    assert loaded.name == file.parent.name
    assert loaded.folder == file.parent
    assert loaded.transports
    assert load(file.parent) == loaded


def test_all_shipped_contracts_load_together() -> None:
    """By name; `echo` is there over every transport that there is."""
    loaded = {item.name: item for item in load_all([SHIPPED])}

    assert list(loaded) == sorted(file.parent.name for file in SHIPPED.glob(f"*/{FILE_NAME}"))
    assert loaded["echo"].transports == tuple(Transport)


def test_a_short_contract_has_defaults(tmp_path: Path) -> None:
    """What is not said has a value that works for most images."""
    loaded = load(written(tmp_path, GOOD))

    assert (loaded.schema_version, loaded.name, loaded.description) == (1, "echo", "")
    assert (loaded.image.containerfile, loaded.image.reference, loaded.image.command) == ("Containerfile", "", ())
    assert (loaded.limits.cold_s, loaded.limits.warm_s, loaded.limits.stop_s) == (15, 5, 10)
    assert loaded.probe(Transport.TCP4) == BytesProbe(kind="bytes", send="a", expect="a")
    assert [table.listener for table in loaded.sockets] == [Listener((Transport.TCP4,), 3000)]
    assert loaded.folder == tmp_path


def test_a_long_contract_keeps_all_of_it(tmp_path: Path) -> None:
    """Every key is read; the sockets stay in the file's order, which is the order of the descriptors."""
    text = """
        schema = 1
        name = "a-1"
        description = "a page"
        [image]
        containerfile = "../Containerfile"
        reference = "localhost/a:1"
        command = ["/bin/a", "-b"]
        [[sockets]]
        transports = ["unix"]
        path = "a.sock"
        [[sockets]]
        transports = ["tcp4", "tcp6"]
        port = 8080
        fixed_port = true
        [probe]
        kind = "http"
        path = "/a?b=%20"
        status = [404, 410]
        contains = "é"
        [limits]
        cold_s = 1
        warm_s = 0.5
        stop_s = 600
    """
    loaded = load(written(tmp_path, text))

    assert loaded.image == contract.ImageTable(
        containerfile="../Containerfile", reference="localhost/a:1", command=("/bin/a", "-b")
    )
    assert [table.listener for table in loaded.sockets] == [
        Listener((Transport.UNIX,), path="a.sock"),
        Listener((Transport.TCP4, Transport.TCP6), 8080, fixed_port=True),
    ]
    assert loaded.transports == (Transport.TCP4, Transport.TCP6, Transport.UNIX)
    assert loaded.probe(Transport.TCP4) == HttpProbe(kind="http", path="/a?b=%20", status=(404, 410), contains="é")
    assert (loaded.limits.cold_s, loaded.limits.warm_s, loaded.limits.stop_s) == (1, 0.5, 600)


def test_a_contract_does_not_change(tmp_path: Path) -> None:
    """Tests share one object per contract."""
    loaded = load(written(tmp_path, GOOD))
    with pytest.raises(ValueError, match="frozen"):
        loaded.name = "other"


@pytest.mark.parametrize("name", ["a", "0-9", "a" * 32])
def test_names_that_are_allowed(tmp_path: Path, name: str) -> None:
    """Up to 32 lower-case letters, digits and hyphens."""
    assert load(written(tmp_path, GOOD.replace("echo", name))).name == name


@pytest.mark.parametrize("port", [1024, 65535])
def test_ports_that_are_allowed(tmp_path: Path, port: int) -> None:
    """From the first port for everybody to the last one."""
    assert load(written(tmp_path, GOOD.replace("3000", str(port)))).sockets[0].port == port


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"schema = ", "end of document"),
        (b"schema = 1\nname = ]\n", "line 2"),
        (b"schema = 1\nschema = 1\n", "overwrite"),
        (b"name = '\xff'\n", "utf-8"),
    ],
)
def test_what_is_no_toml(tmp_path: Path, data: bytes, told: str) -> None:
    """The place in the file, where there is one."""
    file = tmp_path / FILE_NAME
    file.write_bytes(data)
    with pytest.raises(ContractError) as caught:
        load(file)

    assert (caught.value.file, [key for key, _text in caught.value.mistakes]) == (os.fspath(file), ["TOML"])
    assert told in str(caught.value)


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_file_that_is_not_there(tmp_path: Path, where: str) -> None:
    """It is named, with the reason and the way out."""
    path = tmp_path / "nowhere" / FILE_NAME if where == "file" else tmp_path
    with pytest.raises(UsageError) as caught:
        load(path)

    assert (
        caught.value.sentence
        == f"The contract '{path if where == 'file' else path / FILE_NAME}' can't be read: "
        + ("No such file or directory.")
    )
    assert FILE_NAME in caught.value.hint


def test_an_empty_folder(tmp_path: Path) -> None:
    """A folder without contracts is a mistake and not a run without tests."""
    with pytest.raises(UsageError, match="holds no contract") as caught:
        load_all([tmp_path])
    assert os.fspath(tmp_path) in caught.value.sentence


def test_files_and_folders_together(tmp_path: Path) -> None:
    """A file, an image's folder, a folder of such folders; one may stand for all, sorted by name."""
    for name in "dcba":
        written(tmp_path / "all" / name, GOOD.replace("echo", name))
    written(tmp_path / "one", GOOD.replace("echo", "m"))
    (tmp_path / "all" / "none").mkdir()
    file = written(tmp_path / "other", GOOD.replace("echo", "x")).rename(tmp_path / "x.toml")

    assert [item.name for item in load_all([file, tmp_path / "one", tmp_path / "all"])] == list("abcdmx")
    assert load_all([]) == ()


def test_two_files_with_one_name(tmp_path: Path) -> None:
    """The second one is named: units, containers and images are called after the contract."""
    for folder in ("a", "b"):
        written(tmp_path / folder, GOOD)
    with pytest.raises(ContractError) as caught:
        load_all([tmp_path])

    assert caught.value.mistakes == ((f"{tmp_path}/b/{FILE_NAME}: name", "'echo' is taken by another contract"),)


def test_mistakes_of_several_files_at_once(tmp_path: Path) -> None:
    """Each with its own file; good files don't hide bad ones, nor the other way round."""
    a = written(tmp_path / "a", GOOD.replace("3000", "1"))
    written(tmp_path / "b", GOOD)
    c = written(tmp_path / "c", "x")
    d = written(tmp_path / "d", GOOD)
    with pytest.raises(ContractError) as caught:
        load_all([tmp_path])

    assert [key for key, _text in caught.value.mistakes] == [f"{a}: sockets[0].port", f"{c}: TOML", f"{d}: name"]
    assert caught.value.file == os.fspath(tmp_path)
