"""The contract that unit files make, as a text to go on from; what it can't say stands in it as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import tomli_w

from harness.contract import SCHEMA, Listening, UnitFolder
from harness.contract.sockets import FIRST_PORT
from harness.contract.units import document_of
from harness.core.text import shown
from harness.lint.unitfile import units

#: Settings that a contract says in its own way, or that each unit of the harness has.
_SAID = {
    "Unit": {"Description", "Requires", "After", "Wants", "BindsTo", "Documentation"},
    "Install": {"WantedBy", "RequiredBy", "Also", "DefaultInstance"},
    "Socket": {"ListenStream", "ListenDatagram", "FileDescriptorName", "Service"},
    "Container": {"Image", "ContainerName", "Pull"},
}

#: What is asked where the folder has no probes: something, so that the rest can be read.
_NO_PROBES = '[probe]\nkind = "echo"\n'

#: Moves a port that only root may have.
_UP = 8000


def text(folder: UnitFolder, listening: Sequence[Listening]) -> str:
    """Return a contract.toml; raise UnitsError where the folder's probes are wrong."""
    said, single = document_of(replace(folder, probes=folder.probes or _NO_PROBES), listening)
    sockets = [_socket(table) for table in said["sockets"]]
    probes = [_probe(probe) for probe in said["probe"]]
    image = {"reference": next(iter(folder.images), f"localhost/{folder.name}:latest")}
    head = {"schema": SCHEMA, "name": folder.name, "image": image}
    document = head | said | {"sockets": sockets, "probe": probes[0] if single else probes}
    if not folder.probes:
        del document["probe"]
    unsaid = "\n".join(f"#   {shown(line)}" for line in _unsaid(folder, listening, sockets))
    return f"# What the unit files say, and this contract doesn't:\n{unsaid}\n\n{tomli_w.dumps(document)}"


def _socket(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table of the contract: a free port, a path below the home folder, a name that is one."""
    found = {key: value for key, value in table.items() if (key, value) != ("probed", True) and key != "accept"}
    found["name"] = _name(table["name"])
    if "port" in found and found["port"] < FIRST_PORT:
        found["port"] += _UP
    if "path" in found:
        found["path"] = PurePath(found["path"]).name
    return found


def _probe(probe: dict[str, Any]) -> dict[str, Any]:
    return {**probe, "socket": _name(probe["socket"])} if "socket" in probe else probe


def _name(name: str) -> str:
    """Return a name that a contract takes, of one that is by default the unit's."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name.replace(".socket", ""))


def _unsaid(folder: UnitFolder, listening: Sequence[Listening], sockets: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not folder.probes:
        yield "what clients ask: add a table [probe], see docs/contracts.md"
    asked = iter(sockets)
    for one in listening:
        table = one.table
        if table is None:
            yield f"{one.unit}: {one.line}: no client of the harness asks a socket of that kind or address"
            continue
        if (name := next(asked)["name"]) != one.name:
            yield f"{one.unit}: {one.line}: the program knows it as '{one.name}', and '{name}' stands for that"
        if "port" in table and table["port"] < FIRST_PORT:
            yield f"{one.unit}: {one.line}: port {table['port']} is root's, and {table['port'] + _UP} stands for it"
    for unit in units(folder).values():
        for setting in unit.settings:
            if setting.key not in _SAID.get(setting.section, ()):
                yield f"{setting.file}:{setting.line}: [{setting.section}] {setting.key}={setting.value}"
