"""The contract that unit files make: it loads, and what it can't say is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.from_units import text
from harness.contract import FILE_NAME, Contract, HttpProbe, Listening, UnitFolder, load
from harness.core.errors import UnitsError
from harness.core.transports import Transport

SOCKET = "[Unit]\nDescription=x\n[Socket]\nListenStream=80\nBacklog=7\nFileDescriptorName=web\n"
CONTAINER = "[Container]\nImage=quay.io/example/web:1\nVolume=web.volume:/data\n"
PROBES = '[[probe]]\nsocket = "web"\nkind = "http"\npath = "/"\ncontains = "x"\n[limits]\nstop_s = 3.0\n'
WEB = Listening("a.socket", "web", "Stream", "[::]:80")


def folder(tmp_path: Path, probes: str = PROBES) -> UnitFolder:
    """Return unit files that are nowhere."""
    return UnitFolder(tmp_path / "a", "a", {"a.socket": SOCKET, "a.container": CONTAINER}, probes=probes)


def loaded(tmp_path: Path, written: str) -> Contract:
    """Return the contract that a text is."""
    (tmp_path / FILE_NAME).write_text(written, encoding="utf-8")
    return load(tmp_path)


def comments(written: str) -> list[str]:
    """Return what is said not to be said."""
    return [line.removeprefix("#   ") for line in written.splitlines() if line.startswith("#   ")]


def test_a_folder_makes_a_contract(tmp_path: Path) -> None:
    """With its image, its sockets and its clients; a port of root's is another one, and that is told."""
    written = text(folder(tmp_path), [WEB])
    made = loaded(tmp_path, written)
    assert (made.name, made.image.reference) == ("a", "quay.io/example/web:1")
    assert [(table.name, table.port, table.transports) for table in made.sockets] == [
        ("web", 8080, (Transport.TCP4, Transport.TCP6))
    ]
    assert isinstance(made.probe(Transport.TCP4), HttpProbe)
    assert made.limits.stop_s == 3.0
    assert comments(written) == [
        "a.socket: ListenStream=[::]:80: port 80 is root's, and 8080 stands for it",
        "a.socket:5: [Socket] Backlog=7",
        "a.container:3: [Container] Volume=web.volume:/data",
    ]


def test_two_sockets_of_one_name_and_one_that_nobody_asks(tmp_path: Path) -> None:
    """A contract's names are each socket's own."""
    second = Listening("a.socket", "web", "Stream", "/run/user/1000/web.sock")
    written = text(folder(tmp_path), [WEB, second, Listening("a.socket", "web", "FIFO", "/run/x")])
    made = loaded(tmp_path, written)
    assert [(table.name, table.path) for table in made.sockets] == [("web", None), ("web.2", "web.sock")]
    said = comments(written)
    assert (
        "a.socket: ListenStream=/run/user/1000/web.sock: the program knows it as 'web', and 'web.2' stands for that"
        in said
    )
    assert "a.socket: ListenFIFO=/run/x: no client of the harness asks a socket of that kind or address" in said


def test_names_of_instances_are_names_of_a_contract(tmp_path: Path) -> None:
    """By default a socket has the name of its unit."""
    one = Listening("a@x.socket", "a@x.socket", "Stream", "127.0.0.1:8001")
    other = Listening("a@x.socket", "a@x.socket", "Stream", "127.0.0.1:8002")
    probes = PROBES.replace('"web"', '"a@x.socket"')
    assert [table.name for table in loaded(tmp_path, text(folder(tmp_path, probes), [one, other])).sockets] == [
        "a-x", "a-x.2",
    ]  # fmt: skip


def test_without_probes_they_are_asked_for(tmp_path: Path) -> None:
    """And wrong ones are the mistakes of the folder."""
    written = text(folder(tmp_path, ""), [WEB])
    assert comments(written)[0].startswith("what clients ask: add a table [probe]")
    assert "probe" not in "".join(line for line in written.splitlines() if not line.startswith("#"))
    with pytest.raises(UnitsError, match="no socket is called 'other'"):
        text(folder(tmp_path, PROBES.replace('"web"', '"other"')), [WEB])


def test_a_comment_stays_one(tmp_path: Path) -> None:
    """Whatever a unit says."""
    strange = folder(tmp_path)
    files = {**strange.files, "a.socket": SOCKET + "Symlinks=\x1b[2J\x85[image]\n"}
    written = text(UnitFolder(strange.path, "a", files, probes=PROBES), [WEB])
    assert "\x1b" not in written
    assert loaded(tmp_path, written).image.reference == "quay.io/example/web:1"
