"""A folder of unit files as somebody ships them: what is in it, and the contract that it makes with its probes.

What listens is asked of systemd, which has loaded the files, see `harness.activation.shipped`; nothing of
systemd.socket(5) is parsed here.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contract import beside
from harness.contract.loading import checked, name_of
from harness.contract.model import SCHEMA, Contract
from harness.contract.probe import TCP_AND_UNIX
from harness.core.errors import UnitsError
from harness.core.transports import Transport

#: What systemd reads, and what Podman's generator makes units of, see podman-systemd.unit(5).
PLAIN = (".socket", ".service")
QUADLETS = (".container", ".pod", ".kube", ".network", ".volume", ".image", ".build")

#: Beside the units: what clients ask, and folders with the Containerfiles of images that the units name.
PROBES, IMAGES = "probes.toml", "images"

#: What of a contract stands in `probes.toml`.
FOR_UNITS = ("probe", "limits", "budgets", "promises", "description")

#: The longest file, in characters, and the most files.
_LONGEST, _MOST = 2**18, 200

#: A unit's name without its ending, see systemd.unit(5).
_UNIT = r"[A-Za-z0-9:_.\\-]{1,200}(@[A-Za-z0-9:_.\\-]{0,200})?"

#: A folder of the machine's that a container would see.
_BIND = re.compile(
    r"^\s*(?:Volume\s*=|Mount\s*=.*?(?:source|src)=|.*?\s(?:-v|--volume)[ =])\s*(/[^:,\s]*)", re.MULTILINE
)

#: Sorts of sockets of systemd.socket(5), as its D-Bus interface calls them.
_STREAM, _DATAGRAM = "Stream", "Datagram"


@dataclass(frozen=True, slots=True)
class UnitFolder:
    """Unit files, each with its text."""

    path: Path
    #: What reports call it: the folder's name.
    name: str
    #: Name -> text; a drop-in's name has its folder before it, such as `web.socket.d/10-port.conf`.
    files: Mapping[str, str]
    #: The instances of its templates, such as `echo@demo`.
    instances: tuple[str, ...] = ()
    #: The text of `probes.toml`.
    probes: str = ""

    @property
    def sockets(self) -> tuple[str, ...]:
        """The socket units that an administrator starts, those of templates with their instances."""
        found = []
        for name in self._named(".socket"):
            before, at, _ = name.removesuffix(".socket").partition("@")
            if at and name == f"{before}@.socket":
                found += [f"{one}.socket" for one in self.instances if one.startswith(f"{before}@")]
            else:
                found.append(name)
        return tuple(dict.fromkeys(found))

    @property
    def templates(self) -> tuple[str, ...]:
        """The services, such as `echo@.service`, of which systemd may start an instance for a client."""
        kinds = (".service", ".container", ".kube")
        names = (name.removesuffix(".socket") for name in self._named(".socket") if "@" not in name)
        return tuple(f"{name}@.service" for name in names if any(f"{name}@{kind}" in self.files for kind in kinds))

    @property
    def generated(self) -> tuple[str, ...]:
        """The services that Podman's generator makes, see podman-systemd.unit(5); templates are left out."""
        found = []
        for ending in QUADLETS:
            middle = "" if ending in (".container", ".kube") else ending.replace(".", "-")
            found += [f"{name.removesuffix(ending)}{middle}.service" for name in self._named(ending)]
        return tuple(name for name in found if "@." not in name)

    @property
    def images(self) -> dict[str, str]:
        """Each image that the units name -> its folder below `images`, "" where it has none there."""
        folders = sorted(path.name for path in (self.path / IMAGES).glob("*/") if path.is_dir())
        found: dict[str, str] = {}
        for name, written in self.files.items():
            text = re.sub(r"\\\n", " ", written)  # a line that goes on, see systemd.syntax(7)
            if name.endswith(".container") or ".container.d/" in name:
                named = re.findall(r"^\s*Image\s*=\s*(\S+)\s*$", text, re.MULTILINE)
                found |= {one: "" for one in named if not one.endswith((".image", ".build"))}
            for folder in folders:
                pattern = rf"(?<![\w./:-])(?:[\w.-]+(?::\d+)?/)*{re.escape(folder)}(?::[\w.-]+)?(?![\w./:-])"
                lines = [line for line in text.splitlines() if re.match(r"\s*(Image|Exec\w+)\s*=", line)]
                found |= {one: folder for line in lines for one in re.findall(pattern, line)}
        return found

    @property
    def secrets(self) -> dict[str, str]:
        """The name of each secret that lies beside the units -> its text; what is no UTF-8 is escaped, see PEP 383."""
        return {name: text.decode(errors="surrogateescape") for name, text in beside.secrets(self.path).items()}

    @property
    def at_home(self) -> bytes:
        """A tar archive of the files that containers find below the home folder."""
        return beside.at_home(self.path)

    @property
    def at_unit(self) -> bytes:
        """A tar archive of the files that Quadlet files name by a path beside them."""
        return beside.at_unit(self.path, self.files)

    def images_with(self, given: Iterable[str]) -> dict[str, str]:
        """Return the same with names that were given, where a line has them: of podman's options nothing is parsed."""
        return self.images | {name: "" for name in given if name not in self.images and self._has(name)}

    def _has(self, word: str) -> bool:
        alone = re.compile(rf"(?<!\S){re.escape(word)}(?!\S)")
        return any(alone.search(text) for text in self.files.values())

    def _named(self, ending: str) -> list[str]:
        return sorted(name for name in self.files if name.endswith(ending) and "/" not in name)


def is_unit_folder(path: Path) -> bool:
    """Whether a folder has a socket unit."""
    return path.is_dir() and any(path.glob("*.socket"))


def read(path: Path, instances: Sequence[str] = (), allowed: Sequence[Path] = ()) -> UnitFolder:
    """Return the unit files in a folder; raise UnitsError with every mistake that shows before systemd sees them.

    `allowed` are folders of the machine that containers may see.
    """
    found, mistakes = collect(path, instances, allowed)
    if mistakes := [*mistakes, *beside.mistakes(path, found.files)]:
        raise UnitsError(str(path), mistakes)
    return found


def collect(
    path: Path, instances: Sequence[str] = (), allowed: Sequence[Path] = ()
) -> tuple[UnitFolder, Sequence[tuple[str, str]]]:
    """Return the unit files that can be read in a folder, and every mistake, each with its file."""
    mistakes: list[tuple[str, str]] = []
    files: dict[str, str] = {}
    there = _unit_files(path)
    if len(there) > _MOST:
        mistakes.append(("(all files)", f"the folder has {len(there)} unit files, and may have {_MOST}"))
    for file in there[:_MOST]:
        name = str(file.relative_to(path))
        text = _text(path, file, mistakes)
        if text is not None:
            files[name] = text
            mistakes += [(name, what) for what in _beyond(text, allowed)]
    found = UnitFolder(path, name_of(path.resolve().name), files, tuple(dict.fromkeys(instances)))
    probes = path / PROBES
    if probes.is_file():
        text = _text(path, probes, mistakes) or ""
        found = UnitFolder(path, found.name, files, found.instances, text)
    return found, [*mistakes, *_of_the_whole(found)]


def _unit_files(path: Path) -> list[Path]:
    """Return the unit files and their drop-ins."""
    endings = (*PLAIN, *QUADLETS)
    found = [file for file in sorted(path.iterdir()) if file.suffix in endings and not file.is_dir()]
    for folder in sorted(path.glob("*.d")):
        if Path(folder.stem).suffix in endings and folder.is_dir():
            found += sorted(folder.glob("*.conf"))
    return found


def _text(path: Path, file: Path, mistakes: list[tuple[str, str]]) -> str | None:
    """Return the text of a file, or None and a mistake."""
    name = str(file.relative_to(path))
    if not file.resolve().is_relative_to(path.resolve()):
        mistakes.append((name, "it is a link that leads out of the folder"))
    elif not file.is_file():
        mistakes.append((name, "it is no regular file"))
    elif not re.fullmatch(_UNIT, file.stem) and file.name != PROBES:
        mistakes.append((name, "systemd takes no unit of that name, see systemd.unit(5)"))
    else:
        try:
            with file.open(encoding="utf-8") as opened:
                text = opened.read(_LONGEST + 1)
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append((name, f"it can't be read: {error}"))
            return None
        if len(text) <= _LONGEST:
            return text
        mistakes.append((name, f"it has more than {_LONGEST} characters"))
    return None


def _beyond(text: str, allowed: Sequence[Path]) -> list[str]:
    """Return what a container of the unit would see of the machine."""
    return [
        f"a container would see '{bound}' of the machine: use a volume, or a folder below '%h', from 'home' beside it"
        for bound in dict.fromkeys(_BIND.findall(text))
        if not any(Path(bound).is_relative_to(folder) for folder in allowed)
    ]


def _of_the_whole(folder: UnitFolder) -> Iterator[tuple[str, str]]:
    named = [name for name in folder.files if "/" not in name]
    if not any(name.endswith(".socket") for name in named):
        yield "(the folder)", "there is no socket unit in it"
    for name in named:
        before, at, after = name.partition("@")
        # Those of 'Accept=yes' get their instances from systemd, which alone knows that it is said.
        given = any(one.startswith(f"{before}@") for one in folder.instances)
        if at and after.startswith(".") and not given and f"{before}@.service" not in folder.templates:
            yield name, f"it is a template: say '--instance {before}@NAME'"
    templates = {name.partition("@")[0] for name in named if "@." in name}
    for one in folder.instances:
        if one.partition("@")[0] not in templates or not re.fullmatch(_UNIT, one):
            yield "--instance", f"'{one[:80]}' is no instance of a template in the folder"
    stems: dict[str, str] = {}
    for name in named:
        made = name.replace(".container", ".service").replace(".kube", ".service")
        if made.endswith(".service") and stems.setdefault(made, name) != name:
            yield name, f"'{stems[made]}' would make the same unit, and systemd takes one of them only"


# -- what systemd has loaded ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listening:
    """One line of a socket unit as systemd has loaded it."""

    unit: str
    #: FileDescriptorName=, by default the unit's name.
    name: str
    #: `Stream`, `Datagram`, `SequentialPacket` ...
    kind: str
    address: str
    #: Whether an IPv6 socket takes no IPv4 clients, see BindIPv6Only=.
    ipv6_only: bool = False
    #: Whether systemd accepts the clients, each for an instance of the service, see Accept=.
    accept: bool = False

    @property
    def line(self) -> str:
        """The line of the file, as far as systemd remembers it."""
        return f"Listen{self.kind}={self.address}"

    @property
    def table(self) -> dict[str, Any] | None:
        """What stands for it in a contract; None for what no client of the harness can ask."""
        if self.kind not in (_STREAM, _DATAGRAM):
            return None
        stream = self.kind == _STREAM
        if self.address.startswith("/"):
            return {"transports": [Transport.UNIX], "path": self.address} if stream else None
        if found := re.fullmatch(r"vsock:(\d*):(\d+)", self.address):
            return {"transports": [Transport.VSOCK], "port": int(found[2])} if stream else None
        found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[0-9.]+):(\d+)", self.address)
        if not found or found[1] not in ("0.0.0.0", "127.0.0.1", "[::]", "[::1]"):  # noqa: S104 - what others listen on
            return None
        fourth, sixth = (Transport.TCP4, Transport.TCP6) if stream else (Transport.UDP4, Transport.UDP6)
        if found[1].startswith("["):
            both = found[1] == "[::]" and not self.ipv6_only
            return {"transports": [fourth, sixth] if both else [sixth], "port": int(found[2])}
        return {"transports": [fourth], "port": int(found[2])}


def contract_of(folder: UnitFolder, listening: Sequence[Listening]) -> Contract:
    """Return the contract that the units and their probes make; raise ContractError with every mistake."""
    document, single = document_of(folder, listening)
    where = str(folder.path / PROBES)
    return checked(json.dumps(document), where, folder.path, single=single, units=folder)


def document_of(folder: UnitFolder, listening: Sequence[Listening]) -> tuple[dict[str, Any], bool]:
    """Return what such a contract's file would say, and whether its probe is a single table; raise UnitsError."""
    given, single = _probes(folder)
    names = _names(listening)
    tables = [
        one.table | {"name": names[one]} | ({"accept": True} if one.accept else {}) for one in listening if one.table
    ]
    aliases: dict[str, list[str]] = {}
    for one in (one for one in listening if one.table):
        for alias in dict.fromkeys((names[one], one.name, one.unit, one.line, one.address)):
            aliases.setdefault(alias, []).append(names[one])
    probes: list[dict[str, Any]] = []
    mistakes = [*_twice(listening)]
    for number, probe in enumerate(given.pop("probe") or _accepted(tables)):
        meant = probe.get("socket")
        if meant is None:
            probes.append(probe)
        elif meant in aliases:
            probes += [probe | {"socket": name} for name in aliases[meant]]
        else:
            known = ", ".join(sorted({names[one] for one in listening if one.table})) or "none"
            mistakes.append(
                (f"{PROBES}: probe[{number}].socket", f"no socket is called {meant!r:.80}; known are {known}")
            )
    if not probes and not mistakes:
        said = "there is no '[[probe]]', and no stream over TCP or a Unix socket: nobody knows what clients ask"
        mistakes.append((PROBES, said))
    if mistakes:
        raise UnitsError(str(folder.path), mistakes)
    asked = {probe["socket"] for probe in probes if "socket" in probe}
    everything = any("socket" not in probe and "transports" not in probe for probe in probes)
    wanted = {transport for probe in probes for transport in probe.get("transports", ())}
    sockets = [
        table | {"probed": everything or table["name"] in asked or bool(wanted & set(table["transports"]))}
        for table in tables
    ]
    return {"schema": SCHEMA, "name": folder.name, "sockets": sockets, "probe": probes, **given}, single


def _twice(listening: Sequence[Listening]) -> Iterator[tuple[str, str]]:
    """Yield each line that two sockets have; drop-ins add lines to those of the file."""
    seen: dict[str, Listening] = {}
    for one in listening:
        if seen.setdefault(one.line, one) is not one:
            yield one.unit, f"'{one.line}' stands twice, the other time in '{seen[one.line].unit}'"


def _names(listening: Sequence[Listening]) -> dict[Listening, str]:
    """Return a name of its own for each socket: that of systemd.socket(5), with a number where several have it."""
    found: dict[Listening, str] = {}
    for one in listening:
        count = sum(other.name == one.name for other in found)
        found[one] = f"{one.name}.{count + 1}" if count else one.name
    return found


def _accepted(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the probe of units of which nobody says what clients ask: streams are to accept their connections."""
    there = {transport for table in tables for transport in table["transports"]}
    streams = [transport for transport in Transport if transport in there & TCP_AND_UNIX]
    return [{"kind": "connect", "transports": streams}] if streams else []


def _probes(folder: UnitFolder) -> tuple[dict[str, Any], bool]:
    """Return the tables of `probes.toml`, the probes as a list, and whether there is one table of them."""
    try:
        data = tomllib.loads(folder.probes)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnitsError(str(folder.path), [(PROBES, str(error))]) from None
    known = ", ".join(f"'{key}'" for key in FOR_UNITS)
    mistakes = [(f"{PROBES}: {key}", f"only {known} are for units") for key in sorted(set(data) - {*FOR_UNITS})]
    probe = data.get("probe", [])
    probes = [probe] if isinstance(probe, dict) else probe
    if not isinstance(probes, list) or not all(isinstance(one, dict) for one in probes):
        mistakes.append((f"{PROBES}: probe", "expected a table, or an array of tables"))
    if mistakes:
        raise UnitsError(str(folder.path), mistakes)
    return {**data, "probe": probes}, isinstance(probe, dict)
