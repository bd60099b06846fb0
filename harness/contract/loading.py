"""Reading contracts: from a file to a `Contract`, or to all that is wrong with it."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from harness.contract.model import Contract
from harness.contract.probe import Asks, kinds
from harness.contract.sockets import AS_LOADED
from harness.contract.types import Table, shortened
from harness.core.errors import ContractError, UsageError

if TYPE_CHECKING:
    from harness.contract.units import UnitFolder

#: The file's name in an image's folder.
FILE_NAME = "contract.toml"

#: The longest file and the longest line that are read, in characters: a contract is written by a person, and TOML's
#: dotted keys cost the square of their length.
LONGEST_FILE, LONGEST_LINE = 65536, 4096


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
            hint=f"Name a {FILE_NAME} file or a folder that holds one.",
        ) from None
    except UnicodeDecodeError as error:
        raise ContractError(os.fspath(file), [("TOML", str(error))]) from None
    return parse(text, file)


def parse(text: str, file: Path) -> Contract:
    """Return the contract that `text` is, as if it stood in `file`; raise ContractError with every mistake in it."""
    try:
        document, single = _document(text)
    except ValueError as error:
        raise ContractError(os.fspath(file), [("TOML", str(error))]) from None
    except RecursionError:
        raise ContractError(os.fspath(file), [("TOML", "tables and arrays are nested too deeply")]) from None
    return checked(document, os.fspath(file), file.resolve().parent, single=single)


def of_image(reference: str, listen: Sequence[Mapping[str, Any]], probe: Mapping[str, Any]) -> Contract:
    """Return the contract of an image without a file, from its sockets and its probe as in TOML.

    Raises ContractError with every mistake.
    """
    data = {
        "schema": 1,
        "name": name_of(reference),
        "image": {"reference": reference},
        "sockets": list(listen),
        "probe": [dict(probe)],
    }
    return checked(json.dumps(data), f"{reference} (in a test)", Path(), single=True)


def name_of(reference: str) -> str:
    """Return a name for the contract of an image: the last part of its own."""
    last = re.split("[:@]", reference.rpartition("/")[2])[0].lower()
    return re.sub("[^a-z0-9]+", "-", last)[:32].strip("-") or "image"


def checked(document: str, where: str, folder: Path, *, single: bool, units: UnitFolder | None = None) -> Contract:
    """Return the contract that a JSON document is, the first of its selections; raise ContractError.

    `single` says that the file has one table `probe` instead of an array. The sockets of `units` are systemd's.
    """
    _ = kinds()  # an error in another package is none of the contract's
    try:
        contract = Contract.model_validate_json(document, context={AS_LOADED: units is not None})
    except ValidationError as error:
        raise ContractError(where, _mistakes(error, single=single)) from None
    contract._folder, contract._units = folder, units
    return contract.selections[0]


def _document(text: str) -> tuple[str, bool]:
    """Return a TOML text as JSON, and whether it has one table `probe`; raise ValueError or RecursionError.

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
    single = isinstance(probe, dict)
    whole = {**data, "probe": [probe]} if single else data
    return json.dumps(whole, default=lambda value: {"date": str(value)}), single


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
            hint=f"Name a folder with a {FILE_NAME}, or one whose folders hold one each.",
        )
    return found


# -- pydantic's errors as sentences -----------------------------------------------------------------------------------


def _mistakes(error: ValidationError, *, single: bool) -> list[tuple[str, str]]:
    """Return pydantic's errors as (key, text), the key as one would write it in TOML."""
    found = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        text = _sentence(item["type"], item["msg"], item["input"])
        if item["type"] == "extra_forbidden":
            text += f"; known are {', '.join(_known(location[:-1]))}{_elsewhere(location)}"
        found.append((_key(location, single=single) or "(whole file)", text))
    return found


def _key(location: tuple[int | str, ...], *, single: bool) -> str:
    parts = list(location)
    if parts[:1] == ["probe"]:
        # Pydantic puts the kind after the number of a probe.
        if parts[2:3] and parts[2] in kinds():
            del parts[2]
        if single:
            del parts[1:2]
    if parts[:1] == ["promises"] and parts[-1] == "[key]":
        del parts[-1]
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
    table: type[Table] = Contract
    for part in (part for part in location if isinstance(part, str)):
        if table is Asks:
            table = kinds()[part]
        else:
            field = next(field for name, field in table.model_fields.items() if part in (name, field.alias))
            table = next(_tables(field.annotation))
    return [field.alias or name for name, field in table.model_fields.items()]


def _elsewhere(location: tuple[int | str, ...]) -> str:
    """Return for which other kinds of a probe an unknown key is, to go behind the known ones."""
    names = [part for part in location if isinstance(part, str)]
    if len(names) != 3 or names[0] != "probe":
        return ""
    known = [kind for kind, table in kinds().items() if names[2] in table.model_fields]
    return f"; '{names[2]}' is for probes of the kind {' or '.join(map(repr, known))}" if known else ""


def _tables(annotation: Any) -> Iterator[type[Table]]:
    """Yield the tables that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for part in get_args(annotation):
        yield from _tables(part)


def _sentence(kind: str, text: str, value: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "required key is missing"
    if kind == "union_tag_invalid" and isinstance(value, dict):
        return f"unknown kind {shortened(value.get('kind'))}; known are {', '.join(kinds())}"
    text = text.removeprefix("Value error, ")
    # TOML's word for what JSON calls an object.
    text = text.replace("should be an object", "should be a table")
    return text if kind == "value_error" else f"{text}, not {shortened(value)}"
