"""A contract as a whole, and the mistakes that several of its tables make together."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from harness.contract import placeholders
from harness.contract.image import ImageTable, Ready
from harness.contract.probe import ClientImage, EchoProbe, ExecProbe, Probe
from harness.contract.promises import Promise, Waivers
from harness.contract.sockets import SocketTable
from harness.contract.types import Some, Table
from harness.core.transports import ROWS, Listener, Transport

if TYPE_CHECKING:
    from harness.contract.units import UnitFolder

#: The version of the format that this harness reads.
SCHEMA = 1

_NAME = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"

Seconds = Annotated[float, Field(gt=0, le=600)]

Milliseconds = Annotated[float, Field(gt=0, le=600_000)]


class ServiceTable(Table):
    """Settings of the service that systemd.service(5) and systemd.exec(5) have for sockets."""

    non_blocking: Annotated[bool | None, Field(alias="NonBlocking")] = None

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """Each setting that was given, with its value as systemd.syntax(7) writes it."""
        given = self.model_dump(by_alias=True, exclude_none=True)
        return tuple((name, "yes" if value else "no") for name, value in given.items())


class LimitsTable(Table):
    """How long each step may take at the most, in seconds, before the image counts as broken."""

    cold_s: Seconds = 15.0
    warm_s: Seconds = 5.0
    stop_s: Seconds = 10.0
    #: The first start of all, with fresh volumes; as any other cold one where there is none.
    first_s: Seconds | None = None
    #: After how long without a client the program ends by itself; None where it stays.
    idle_exit_s: Seconds | None = None
    #: The most that one start may print, in KiB.
    output_kib: Annotated[int, Field(ge=1, le=2**20)] = 64

    @property
    def first_start_s(self) -> float:
        """Longest first start, in seconds."""
        return self.cold_s if self.first_s is None else self.first_s

    @model_validator(mode="after")
    def _first_is_longest(self) -> Self:
        if self.first_start_s < self.cold_s:
            raise ValueError(
                f"'first_s' is {self.first_s:g} and shorter than 'cold_s', which is {self.cold_s:g}: "
                "a first start may take as long as any other"
            )
        return self


class BudgetsTable(Table):
    """What the median of many requests may cost, in milliseconds; the gate judges it where the image is measured."""

    cold_ms: Milliseconds | None = None
    warm_ms: Milliseconds | None = None

    @property
    def any(self) -> bool:
        """Whether there is a budget at all."""
        return self.cold_ms is not None or self.warm_ms is not None


class Contract(Table):
    """What an image promises."""

    # Built at the first contract: by then what other packages bring can be imported.
    model_config = ConfigDict(defer_build=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=_NAME)]
    description: str = ""
    image: ImageTable = ImageTable()
    sockets: tuple[SocketTable, ...]
    service: ServiceTable = ServiceTable()
    #: In the file one table or several.
    probes: Annotated[tuple[Probe, ...], Field(alias="probe"), Some]
    limits: LimitsTable = LimitsTable()
    budgets: BudgetsTable = BudgetsTable()
    #: The promises that the image does not make, each with the reason.
    promises: Waivers = {}  # noqa: RUF012 - pydantic copies it

    _folder: Path = PrivateAttr(default=Path())
    #: The unit files that it is about; None where the harness writes them.
    _units: UnitFolder | None = PrivateAttr(default=None)
    #: What this is a selection of; None for the whole.
    _whole: Contract | None = PrivateAttr(default=None)

    @field_validator("sockets")
    @classmethod
    def _sockets_fit(cls, sockets: tuple[SocketTable, ...], given: ValidationInfo) -> tuple[SocketTable, ...]:
        found = [*_among_sockets([table.listener for table in sockets])]
        if "image" in given.data:
            found += [*_beyond_a_proxy(given.data["image"], sockets), *_misplaced(given.data["image"], sockets)]
        _refuse(found)
        return sockets

    @field_validator("service")
    @classmethod
    def _service_fits(cls, service: ServiceTable, given: ValidationInfo) -> ServiceTable:
        if service.settings and "image" in given.data and given.data["image"].backend:
            raise ValueError("the sockets are the proxy's, which sets them as it needs them")
        return service

    @field_validator("probes")
    @classmethod
    def _probes_fit(cls, probes: tuple[Probe, ...], given: ValidationInfo) -> tuple[Probe, ...]:
        # What is wrong by itself is not given here.
        found = [*_among_probes(given.data["sockets"], probes)] if "sockets" in given.data else []
        found += _unknown_secrets(given.data["image"], probes) if "image" in given.data else []
        _refuse(found)
        return probes

    @field_validator("promises")
    @classmethod
    def _waivers_fit(cls, waivers: Waivers, given: ValidationInfo) -> Waivers:
        _refuse(_among_waivers(waivers, given.data))
        return waivers

    @property
    def folder(self) -> Path:
        """Where the file is that this was loaded from; the image's sources are there."""
        return self._folder

    @property
    def units(self) -> UnitFolder | None:
        """The unit files that are activated as they are; None where activations write their own."""
        return self._units

    @property
    def transports(self) -> tuple[Transport, ...]:
        """Every transport that a client uses, in the table's order."""
        used = _asked(self.sockets)
        return tuple(transport for transport in Transport if transport in used)

    @property
    def selections(self) -> tuple[Contract, ...]:
        """The contract as often as a transport has sockets: in each of them clients ask one socket of a transport."""
        whole = self._whole or self
        groups = _groups(whole.sockets)
        return tuple(whole._selected(group) for group in groups) if len(groups) > 1 else (whole,)

    def _selected(self, group: Sequence[SocketTable]) -> Contract:
        """Return the same contract, where clients ask these sockets only."""
        sockets = [table.model_copy(update={"probed": table in group}) for table in self.sockets]
        selected = self.model_copy(update={"sockets": tuple(sockets)})
        selected._whole = self
        return selected

    def socket(self, transport: Transport) -> SocketTable:
        """Return the socket that clients of a transport ask."""
        return next(table for table in self.sockets if table.probed and transport in table.transports)

    def label(self, transport: Transport) -> str:
        """Return how tests and reports name a socket: its transport, and its name where the transport has several."""
        several = sum(table.probed and transport in table.transports for table in (self._whole or self).sockets) > 1
        return f"{transport}@{self.socket(transport).name}" if several else transport

    def probe(self, transport: Transport) -> Probe:
        """Return what a client asks over a transport of the contract's."""
        table = self.socket(transport)
        return next(probe for probe in self.probes if _is_for(probe, table, transport))

    @property
    def clients(self) -> tuple[ClientImage, ...]:
        """The images that client programs run in, each once."""
        images = (probe.image for probe in self.probes if isinstance(probe, ExecProbe))
        return tuple(dict.fromkeys(image for image in images if image))


#: Where a mistake is below a field of the contract, and what it is.
_Mistake = tuple[tuple[int | str, ...], str]


def _refuse(mistakes: Iterable[_Mistake]) -> None:
    """Raise an error with all mistakes of a field, which pydantic then tells beside those of the others."""
    errors = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=place, input=None)
        for place, text in mistakes
    ]
    if errors:
        raise ValidationError.from_exception_data("contract", errors)


def _asked(sockets: Iterable[SocketTable]) -> frozenset[Transport]:
    """Return the transports that clients use."""
    return frozenset(transport for table in sockets if table.probed for transport in table.transports)


def _groups(sockets: Iterable[SocketTable]) -> list[list[SocketTable]]:
    """Return the sockets that clients ask, in groups that have each transport once."""
    groups: list[list[SocketTable]] = []
    for table in (table for table in sockets if table.probed):
        taken = set(table.transports)
        free = (group for group in groups if not any(taken & set(other.transports) for other in group))
        if (group := next(free, None)) is None:
            groups.append(group := [])
        group.append(table)
    return groups


def _is_for(probe: Probe, table: SocketTable, transport: Transport) -> bool:
    """Whether a client that asks a socket over a transport is the one of this probe."""
    if probe.socket is not None:
        return probe.socket == table.name
    return probe.transports is None or transport in probe.transports


def _among_sockets(listeners: Sequence[Listener]) -> Iterator[_Mistake]:
    asked: dict[Transport, list[str]] = {}
    bound: dict[Transport, dict[str, Listener]] = {transport: {} for transport in Transport}
    for listener in listeners:
        for transport in listener.transports:
            where = listener.path or str(listener.port)
            if (other := bound[transport].setdefault(where, listener)) is not listener:
                same = listener.line if listener.line == other.line else f"{other.line} and {listener.line}"
                yield (), f"the same address stands twice: {same}"
            elif listener.probed:
                asked.setdefault(transport, []).append(listener.name)
    for transport, names in asked.items():
        if len(names) > 1 and ("" in names or len(set(names)) < len(names)):
            yield (
                (),
                f"the transport '{transport}' stands {len(names)} times, and nothing tells its sockets apart: give "
                "each a 'name' of its own, or set 'probed = false' for all but one",
            )
    if not listeners:
        yield (), "at least one is needed"
    elif not asked:
        yield (), "none is probed: at least one must not say 'probed = false'"


def _misplaced(image: ImageTable, sockets: Sequence[SocketTable]) -> Iterator[_Mistake]:
    listeners = [table.listener for table in sockets]
    for key, text in image.texts.items():
        yield from (((), f"{key}: {what}") for what in placeholders.mistakes(text, listeners))


def _beyond_a_proxy(image: ImageTable, sockets: Sequence[SocketTable]) -> Iterator[_Mistake]:
    for number, table in enumerate(sockets if image.backend else ()):
        if strange := [transport for transport in table.transports if ROWS[transport].kind == socket.SOCK_DGRAM]:
            yield (
                (number, "transports"),
                f"systemd-socket-proxyd(8) passes streams on, not {', '.join(strange)}",
            )


def _among_probes(sockets: Sequence[SocketTable], probes: Sequence[Probe]) -> Iterator[_Mistake]:
    places = [(table, transport) for table in sockets if table.probed for transport in table.transports]
    owners: dict[int, int] = {}
    for number, probe in enumerate(probes):
        if len(probes) > 1 and probe.transports is None and probe.socket is None:
            yield (number,), "required key 'transports' or 'socket' is missing: there are several probes"
            continue
        if probe.transports is not None and probe.socket is not None:
            yield (number, "socket"), "'transports' says already which sockets are meant; leave one of them out"
            continue
        meant = [place for place, (table, transport) in enumerate(places) if _is_for(probe, table, transport)]
        if probe.socket is not None and not meant:
            yield (number, "socket"), f"no socket that is probed has the name '{probe.socket[:80]}'"
        if strange := sorted(set(probe.transports or ()) - {transport for _table, transport in places}):
            yield (number, "transports"), f"no socket that is probed has {', '.join(strange)}"
        for place in meant:
            if owners.setdefault(place, number) != number:
                key = "transports" if probe.socket is None else "socket"
                yield (number, key), f"'{places[place][1]}' has a probe already: probe[{owners[place]}]"
        for text in probe.wrong_transports(frozenset(places[place][1] for place in meant)):
            key, _colon, told = text.partition(": ")
            yield (number, key.removeprefix(".")), told
    lacking = sorted({transport for place, (_table, transport) in enumerate(places) if place not in owners})
    if lacking and all(probe.transports or probe.socket for probe in probes):
        yield (), f"none is for {', '.join(lacking)}"


def _among_waivers(waivers: Waivers, given: Mapping[str, Any]) -> Iterator[_Mistake]:
    """Yield what is waived and promised by no other key, or by one that says the contrary."""
    if "probes" in given and not any(isinstance(probe, EchoProbe) for probe in given["probes"]):
        yield from _nothing_to_waive(waivers, Promise.SIZES, "a probe of the kind 'echo'")
    if "image" in given and given["image"].ready is not Ready.CONTAINER:
        yield from _nothing_to_waive(waivers, Promise.READY, "'image.ready = \"container\"'")
    if "limits" in given and given["limits"].idle_exit_s is None:
        yield from _nothing_to_waive(waivers, Promise.IDLE, "'limits.idle_exit_s'")
    elif "limits" in given and Promise.IDLE in waivers:
        yield (Promise.IDLE,), "it is waived here and promised by 'limits.idle_exit_s'; leave one of them out"


def _nothing_to_waive(waivers: Waivers, promise: Promise, by: str) -> Iterator[_Mistake]:
    if promise in waivers:
        yield (promise,), f"there is nothing to waive: only {by} promises it"


def _unknown_secrets(image: ImageTable, probes: Sequence[Probe]) -> Iterator[_Mistake]:
    known = {secret.name for secret in image.secrets}
    for number, probe in enumerate(probes):
        for name in sorted(set(probe.secrets) - known) if isinstance(probe, ExecProbe) else ():
            yield (number, "stdin"), f"there is no secret '{name[:80]}' in image.secrets"
