"""Reading contracts: from a file to a `Contract`, or to all that is wrong with it."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.contract.image import Handover, ImageTable, OptionsTable, SecretTable, TmpfsTable, VolumeTable
from harness.contract.probe import BytesProbe, ClientImage, ExecProbe, HttpProbe, Probe
from harness.contract.sockets import SocketOptions, SocketTable
from harness.contract.table import Table, shortened
from harness.contract.whole import BudgetsTable, Contract, LimitsTable, contradictions, uncovered
from harness.errors import ContractError, UsageError

T = TypeVar("T")

#: The file's name in an image's folder.
FILE_NAME = "contract.toml"

#: The longest file and the longest line that are read, in characters: a contract is written by a person, and TOML's
#: dotted keys cost the square of their length.
LONGEST_FILE, LONGEST_LINE = 65536, 4096

#: Where pydantic puts a mistake, without numbers -> the table that it is in.
_TABLES: dict[str, type[Table]] = {
    "": Contract,
    "image": ImageTable,
    "image.handover": Handover,
    "image.volumes": VolumeTable,
    "image.tmpfs": TmpfsTable,
    "image.secrets": SecretTable,
    "image.options": OptionsTable,
    "sockets": SocketTable,
    "sockets.options": SocketOptions,
    "probe.bytes": BytesProbe,
    "probe.http": HttpProbe,
    "probe.exec": ExecProbe,
    "probe.exec.image": ClientImage,
    "limits": LimitsTable,
    "budgets": BudgetsTable,
}

_IMAGE, _SOCKET = TypeAdapter(ImageTable), TypeAdapter(SocketTable)
_PROBE: TypeAdapter[Probe] = TypeAdapter(Probe)


def load(path: Path) -> Contract:
    """Read a contract; raise ContractError with every mistake in it, or UsageError when there is no such file."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        if not file.exists() or file.is_file():
            with file.open("rb") as opened:
                data = opened.read(LONGEST_FILE + 1)
        else:
            raise OSError(0, "It is no regular file")
        text = data.decode(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The contract '{file}' can't be read: {error.strerror}.",
            remedy=f"Name a {FILE_NAME} file or a folder that holds one.",
        ) from None
    except UnicodeDecodeError as error:
        raise ContractError(os.fspath(file), [("TOML", str(error))]) from None
    return parse(text, file)


def parse(text: str, file: Path) -> Contract:
    """Return the contract that `text` is, as if it stood in `file`; raise ContractError with every mistake in it."""
    try:
        data, document = _document(text)
    except ValueError as error:
        raise ContractError(os.fspath(file), [("TOML", str(error))]) from None
    except RecursionError:
        raise ContractError(os.fspath(file), [("TOML", "tables and arrays are nested too deeply")]) from None
    mistakes: list[tuple[str, str]] = []
    contract = None
    try:
        contract = Contract.model_validate_json(document)
    except ValidationError as error:
        mistakes = _mistakes(error, single=isinstance(data.get("probe"), dict))
    mistakes += _together(data)
    if mistakes or contract is None:
        raise ContractError(os.fspath(file), mistakes)
    contract._folder = file.resolve().parent
    return contract


def _document(text: str) -> tuple[dict[str, Any], str]:
    """Return a TOML text as a dictionary and as JSON; raise ValueError or RecursionError.

    By way of JSON: there pydantic's strict mode takes an array for a tuple and a text for an enum, and no more. A date
    is no value of a contract; as a table it is refused wherever it stands.
    """
    if len(text) > LONGEST_FILE:
        raise ValueError(f"a contract has {LONGEST_FILE} characters at most")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"a line has {LONGEST_LINE} characters at most (at line {number})")
    data = tomllib.loads(text)
    probe = data.get("probe")
    whole = {**data, "probe": [probe]} if isinstance(probe, dict) else data
    return data, json.dumps(whole, default=lambda value: {"date": str(value)})


def _together(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the mistakes that several keys make together, of those tables that are right by themselves."""
    entries = data.get("sockets")
    found = [_one(_SOCKET, entry) for entry in entries] if isinstance(entries, list) else []
    sockets = [table for table in found if table]
    if entries == []:
        yield "sockets", "at least one is needed"
    given = data.get("probe")
    asked = given if isinstance(given, list) else [given] if isinstance(given, dict) else []
    right = [(number, _one(_PROBE, entry)) for number, entry in enumerate(asked)]
    single = isinstance(given, dict)
    probes = [("probe" if single else f"probe[{number}]", probe) for number, probe in right if probe]
    yield from contradictions(sockets, probes, _one(_IMAGE, data.get("image", {})))
    # What a wrong table may be for nobody knows.
    if sockets and probes and len(sockets) == len(found) and len(probes) == len(asked):
        used = frozenset(transport for table in sockets if table.probed for transport in table.transports)
        if lacking := uncovered(used, [probe for _key, probe in probes]):
            yield "probe", f"none is for {', '.join(lacking)}"


def _one(adapter: TypeAdapter[T], entry: object) -> T | None:
    """Return one table of a file, or None where it has mistakes of its own, which are told elsewhere."""
    try:
        return adapter.validate_json(json.dumps(entry, default=lambda value: {"date": str(value)}))
    except ValidationError:
        return None


def load_all(paths: list[Path]) -> tuple[Contract, ...]:
    """Read contracts, each path a file, an image's folder or a folder of such folders; sorted by name.

    All mistakes of all files come in one ContractError each, the first file's raised with the others' appended.
    """
    contracts: dict[str, Contract] = {}
    mistakes: list[tuple[str, str]] = []
    files = [file for path in paths for file in _files(path)]
    for file in files:
        try:
            contract = load(file)
        except ContractError as error:
            mistakes.extend((f"{error.file}: {key}", text) for key, text in error.mistakes)
            continue
        if contract.name in contracts:
            mistakes.append((f"{file}: name", f"'{contract.name}' is taken by another contract"))
        contracts[contract.name] = contract
    if mistakes:
        raise ContractError(", ".join(os.fspath(path) for path in paths), mistakes)
    return tuple(contracts[name] for name in sorted(contracts))


def _files(path: Path) -> list[Path]:
    if not path.is_dir() or (path / FILE_NAME).exists():
        return [path]
    found = sorted(path.glob(f"*/{FILE_NAME}"))
    if not found:
        raise UsageError(
            f"The folder '{path}' holds no contract.",
            remedy=f"Name a folder with a {FILE_NAME}, or one whose folders hold one each.",
        )
    return found


# -- pydantic's errors as sentences -----------------------------------------------------------------------------------

#: The names of discriminated models, which pydantic puts behind the number of a probe.
_KINDS = ("bytes", "http", "exec")


def _mistakes(error: ValidationError, *, single: bool) -> list[tuple[str, str]]:
    """Return pydantic's errors as (key, text), the key as one would write it in TOML.

    `single` says that the file has one table `probe` instead of an array.
    """
    found = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        text = _sentence(item["type"], item["msg"], item["input"])
        if item["type"] == "extra_forbidden":
            text += f"; known are {', '.join(_known(location[:-1]))}"
        found.append((_key(location, single=single) or "(whole file)", text))
    return found


def _key(location: tuple[int | str, ...], *, single: bool) -> str:
    parts = list(location)
    if parts[:1] == ["probe"]:
        if parts[2:3] and parts[2] in _KINDS:
            del parts[2]
        if single:
            del parts[1:2]
    key = ""
    for part in parts:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            # A key may be any text, which TOML then has in quotes.
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else shortened(part)
            key += f".{name}" if key else name
    return key


def _known(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the table at `location`."""
    table = _TABLES[".".join(part for part in location if isinstance(part, str))]
    return [field.alias or name for name, field in table.model_fields.items()]


def _sentence(kind: str, text: str, value: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "required key is missing"
    text = text.removeprefix("Value error, ")
    # TOML's word for what JSON calls an object.
    text = text.replace("should be an object", "should be a table")
    return text if kind == "value_error" else f"{text}, not {shortened(value)}"
