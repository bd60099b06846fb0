"""The contract of an image: what it listens on, how to talk to it, what it must reply, what that may cost.

A contract is a TOML file beside the image's Containerfile. `load` reports every mistake of a file at once.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from harness.errors import ContractError, UsageError
from harness.transports import CID_ANY, CID_LOCAL, DUAL_STACK, Listener, Transport

#: The version of the format that this harness reads.
SCHEMA = 1

#: The file's name in an image's folder.
FILE_NAME = "contract.toml"

#: Ports below 1024 are for root, see ip_unprivileged_port_start in ip(7).
FIRST_PORT = 1024

_NAME = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
_PATH = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}$"


class Table(BaseModel):
    """A TOML table: unknown keys are refused, values don't change after loading and are never converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImageTable(Table):
    """Where the image comes from: a Containerfile below the contract's folder, or the name of an existing image."""

    #: File name; `Containerfile.BASE` is preferred where it exists.
    containerfile: str = "Containerfile"
    #: Name of an image that exists already or can be pulled; the Containerfile is then not used.
    reference: str = ""
    #: What the container runs instead of the image's own CMD.
    command: tuple[str, ...] = ()

    @field_validator("containerfile")
    @classmethod
    def _below_the_folder(cls, value: str) -> str:
        if value.startswith("/") or ".." in Path(value).parts[1:]:
            raise ValueError("allowed is a file in the contract's folder or beside that folder ('../Containerfile')")
        return value

    @field_validator("reference")
    @classmethod
    def _image_name(cls, value: str) -> str:
        if value.startswith("-") or re.search(r"\s", value):
            raise ValueError("allowed is the name of an image, such as 'localhost/echo:latest'")
        return value


class SocketTable(Table):
    """One socket that systemd listens on and hands over, in the order of the file."""

    transports: tuple[Transport, ...]
    port: Annotated[int, Field(ge=FIRST_PORT, le=65535)] | None = None
    #: Name of a Unix socket in the session's home folder.
    path: Annotated[str, Field(pattern=_PATH)] | None = None
    #: Whether the program in the image looks for the socket by its port.
    fixed_port: bool = False
    #: Whom a vsock socket listens to: every machine's clients, or those of the machine itself.
    cid: Literal["any", "local"] = "any"

    @model_validator(mode="after")
    def _address_fits(self) -> Self:
        unix = Transport.UNIX in self.transports
        if len(self.transports) != 1 and (len(self.transports) != 2 or frozenset(self.transports) not in DUAL_STACK):
            raise ValueError("one socket serves one transport, or 'tcp4' with 'tcp6', or 'udp4' with 'udp6'")
        if unix and (self.path is None or self.port is not None):
            raise ValueError("a 'unix' socket takes 'path' and no 'port'")
        if self.fixed_port and (unix or Transport.VSOCK in self.transports):
            raise ValueError("'fixed_port' is for IP sockets")
        if self.cid != "any" and self.transports != (Transport.VSOCK,):
            raise ValueError("'cid' is for 'vsock' sockets")
        if not unix and (self.port is None or self.path is not None):
            raise ValueError(f"a '{self.transports[0]}' socket takes 'port' and no 'path'")
        return self

    @property
    def listener(self) -> Listener:
        """The socket as the contract numbers it; a session may have to place it elsewhere."""
        cid = CID_LOCAL if self.cid == "local" else CID_ANY
        return Listener(self.transports, self.port or 0, self.path or "", self.fixed_port, cid)


class BytesProbe(Table):
    """A client that sends bytes and compares all that comes back."""

    kind: Literal["bytes"]
    send: Annotated[str, Field(min_length=1, max_length=1024)]
    expect: Annotated[str, Field(min_length=1)]


class HttpProbe(Table):
    """A client that fetches a page; the status must be one of those named, and the body must contain a text."""

    kind: Literal["http"]
    path: Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$")] = "/"
    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Field(min_length=1)] = (200,)
    contains: Annotated[str, Field(min_length=1)]


Probe = Annotated[BytesProbe | HttpProbe, Field(discriminator="kind")]

Seconds = Annotated[float, Field(gt=0, le=600)]


class LimitsTable(Table):
    """How long each step may take at the most, in seconds, before the image counts as broken."""

    cold_s: Seconds = 15.0
    warm_s: Seconds = 5.0
    stop_s: Seconds = 10.0


Milliseconds = Annotated[float, Field(gt=0, le=600_000)]


class BudgetsTable(Table):
    """What the median of many talks may cost, in milliseconds; the gate judges it where the image is measured."""

    cold_ms: Milliseconds | None = None
    warm_ms: Milliseconds | None = None

    @property
    def any(self) -> bool:
        """Whether there is a budget at all."""
        return self.cold_ms is not None or self.warm_ms is not None


class Contract(Table):
    """What an image promises."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=_NAME)]
    description: str = ""
    image: ImageTable = ImageTable()
    sockets: tuple[SocketTable, ...]
    probe: Probe
    limits: LimitsTable = LimitsTable()
    budgets: BudgetsTable = BudgetsTable()

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """Where the file is that this was loaded from; the image's sources are there."""
        return self._folder

    @property
    def transports(self) -> tuple[Transport, ...]:
        """Every transport that a client can use, in the table's order."""
        used = {transport for table in self.sockets for transport in table.transports}
        return tuple(transport for transport in Transport if transport in used)


def load(path: Path) -> Contract:
    """Read a contract; raise ContractError with every mistake in it, or UsageError when there is no such file."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The contract '{file}' can't be read: {error.strerror}.",
            remedy=f"Name a {FILE_NAME} file or a folder that holds one.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(os.fspath(file), [("TOML", str(error))]) from None
    mistakes: list[tuple[str, str]] = []
    # By way of JSON: there pydantic's strict mode takes an array for a tuple and a text for an enum, and no more. A
    # date is no value of a contract; as a table it is refused wherever it stands.
    text = json.dumps(data, default=lambda value: {"date": str(value)})
    try:
        contract = Contract.model_validate_json(text)
    except ValidationError as error:
        mistakes = _mistakes(error)
    if wrong := "; ".join(_whole_file(data)):
        mistakes.append(("(whole file)", wrong))
    if mistakes:
        raise ContractError(os.fspath(file), mistakes)
    contract._folder = file.resolve().parent
    return contract


def _whole_file(data: dict[str, Any]) -> Iterator[str]:
    """Yield the mistakes that several keys make together, of those keys that are right by themselves."""
    sockets = data.get("sockets")
    if sockets == []:
        yield "sockets: at least one is needed"
    tables = [table for entry in sockets if (table := _socket(entry))] if isinstance(sockets, list) else []
    first: dict[Transport, Listener] = {}
    for listener in (table.listener for table in tables):
        for transport in listener.transports:
            other = first.setdefault(transport, listener)
            if other is not listener:
                same = other.line == listener.line
                yield (
                    f"sockets: the same address stands twice: {listener.line}"
                    if same
                    else f"sockets: the transport '{transport}' stands twice, and a client could reach only one of them"
                )
    probe = data.get("probe")
    wrong = sorted({str(transport) for transport in first} - {"tcp4", "tcp6", "unix"})
    if isinstance(probe, dict) and probe.get("kind") == "http" and wrong:
        yield f"probe.kind: 'http' goes over tcp4, tcp6 and unix, not over {', '.join(wrong)}"


def _socket(entry: object) -> SocketTable | None:
    """Return one socket of a file, or None where it has mistakes of its own, which are told elsewhere."""
    try:
        return SocketTable.model_validate_json(json.dumps(entry, default=str))
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


def _mistakes(error: ValidationError) -> list[tuple[str, str]]:
    """Return pydantic's errors as (key, text), the key as one would write it in TOML."""
    found = []
    for item in error.errors():
        key = ""
        for part in item["loc"]:
            key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
        text = _sentence(item["type"], item["msg"], item["input"])
        if item["type"] == "extra_forbidden":
            text += f"; known are {', '.join(_known(item['loc'][:-1]))}"
        found.append((_without_tag(key) or "(whole file)", text))
    return found


#: The last name in pydantic's location of a key -> the table that the key is in.
_TABLES: dict[str, type[Table]] = {
    "image": ImageTable,
    "sockets": SocketTable,
    "bytes": BytesProbe,
    "http": HttpProbe,
    "limits": LimitsTable,
    "budgets": BudgetsTable,
}


def _known(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the table at `location`."""
    names = [part for part in location if isinstance(part, str)]
    table = _TABLES[names[-1]] if names else Contract
    return [field.alias or name for name, field in table.model_fields.items()]


def _without_tag(key: str) -> str:
    """Drop the name of the discriminated model that pydantic puts behind 'probe'."""
    return re.sub(r"^probe\.(bytes|http)\b", "probe", key)


def _sentence(kind: str, text: str, value: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "required key is missing"
    text = text.removeprefix("Value error, ")
    return text if kind == "value_error" else f"{text}, not {value!r}"
