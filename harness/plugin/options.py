"""The plugin's options, their twins in the ini file, and what they are once read.

Every run of pytest imports this file where the harness is installed: what costs time is imported where it is used.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.core.errors import HarnessError

if TYPE_CHECKING:
    from harness.core.transports import Transport
    from harness.plugin.settings import RunSettings

#: Where the choices are, by pkgutil.resolve_name().
_BUILD_NETWORKS = "harness.images.store:BuildNetwork"
_BASES = "harness.images.bases:Base"
_ENGINES = "harness.guest.engines.base:EngineName"
_KEEP = "harness.plugin.settings:Keep"
#: The processes that a session takes itself, and some.
_FEWEST = 64

_MODES = "harness.guest.engines.base:Mode"


@dataclass(frozen=True, slots=True)
class Setting:
    """An option with a value, and its twin in the ini file: `--harness-NAME` and `harness_NAME`, `-` as `_`."""

    name: str
    metavar: str
    #: Returns the value of a text, or raises argparse.ArgumentTypeError.
    parse: Callable[[str], Any]
    #: The text where neither is given.
    default: str
    #: One sentence in the imperative, the default at its end, no full stop.
    help: str

    @property
    def key(self) -> str:
        """Its name in the ini file, and that of the option's value."""
        return f"harness_{self.name.replace('-', '_')}"

    def checked(self, text: str) -> str:
        """Return the text of the command line as it is, which xdist hands on to its workers, once it has a value."""
        self.parse(text)
        return text

    def read(self, config: pytest.Config) -> Any:
        """Return the value, that of the command line before that of the ini file; raise pytest.UsageError."""
        given = getattr(config.option, self.key)
        try:
            return self.parse(str(config.getini(self.key)) if given is None else given)
        except argparse.ArgumentTypeError as error:
            raise pytest.UsageError(f"In the ini file: {self.key}: {error}") from None


def settings() -> dict[str, Setting]:
    """Return key -> setting; a new one is a row here and a field of `RunSettings`."""
    rows = (
        Setting("max-slowdown", "RATIO", _within(1, 100), "1.10",
                "allow this ratio of candidate to baseline (default: 1.10)"),
        Setting("gate-limit", "SECONDS", _within(0, 3600), "60",
                "compare two images over one transport for no longer than this (default: 60)"),
        Setting("transports", "LIST", _transports, "", "probe only by these, such as tcp4,udp6 (default: all)"),
        Setting("activation", "LIST", _activations, "",
                "activate only by these, such as unit,quadlet (default: all that the userland is capable of)"),
        Setting("base", "BASE", _one_of(_BASES, "auto"), "auto",
                "build images on auto, fedora or debian (default: auto, fedora where a registry answers)"),
        Setting("build-network", "NETWORK", _one_of(_BUILD_NETWORKS), "host",
                "let the steps of a Containerfile have this network: host, the machine's; or none (default: host)"),
        Setting("keep", "WHEN", _one_of(_KEEP), "never",
                "keep the session of a test after it: never, on-failure or always (default: never)"),
        Setting("timeout-scale", "FACTOR", _within(0, 1000), "1",
                "multiply every time limit of the contracts (default: 1)"),
        Setting("session-memory", "SIZE", _size("64m"), "2g",
                "let the processes of a session use this much memory, such as 512m (default: 2g)"),
        Setting("session-processes", "NUMBER", _count, "1024",
                "let a session have this many processes and threads (default: 1024)"),
        Setting("session-descriptors", "NUMBER", _count, "65536",
                "let each process of a session open this many files and sockets (default: 65536)"),
        Setting("session-disk", "SIZE", _size("64m"), "1g",
                "let the containers of a session write this much (default: 1g)"),
        Setting("session-output", "SIZE", _size("16k"), "1m",
                "keep this much of what a unit prints, its beginning and its end (default: 1m)"),
        Setting("guest", "WHEN", _one_of(_MODES), "auto",
                "run tests in a guest kernel: auto, those that need one; never; or always (default: auto)"),
        Setting("guest-engine", "ENGINE", _one_of(_ENGINES, "auto"), "auto",
                "boot the guest by auto, uml or virtme (default: auto, the first that works)"),
        Setting("guest-kernel", "KERNEL", str, "",
                "boot this kernel, a release or an image, by the engine virtme (default: the newest installed)"),
    )  # fmt: skip
    return {row.key: row for row in rows}


def add_options(parser: pytest.Parser) -> None:
    """Add every option and, where it makes sense, its ini twin."""
    group = parser.getgroup("harness", "socket-activated containers")
    for row in settings().values():
        group.addoption(f"--harness-{row.name}", metavar=row.metavar, type=row.checked, default=None, help=row.help)
        parser.addini(row.key, f"as --harness-{row.name}", default=row.default)
    group.addoption(
        "--harness-contract", action="append", default=[], metavar="PATH",
        help="test this contract, or the contracts in this folder; repeatable (default: ini harness_contracts)",
    )  # fmt: skip
    group.addoption(
        "--harness-units", action="append", default=[], metavar="DIR",
        help="test the unit files in this folder as they are; repeatable",
    )  # fmt: skip
    group.addoption(
        "--harness-instance", action="append", default=[], metavar="NAME@INSTANCE",
        help="test this instance of a template among the unit files; repeatable",
    )  # fmt: skip
    group.addoption(
        "--harness-allow-bind", action="append", default=[], metavar="PATH", type=_folder,
        help="let containers of the unit files see, and only read, this folder of the machine; repeatable",
    )  # fmt: skip
    group.addoption(
        "--harness-image", action="append", default=[], metavar="NAME=IMAGE", type=_image,
        help="test IMAGE under the contract NAME instead of building one; repeatable",
    )  # fmt: skip
    group.addoption(
        "--harness-baseline", action="append", default=[], metavar="NAME=IMAGE", type=_image,
        help="fail where the image under the contract NAME wakes or answers more slowly than IMAGE; repeatable",
    )  # fmt: skip
    group.addoption(
        "--harness-userland", action="append", default=[], metavar="NAME", type=_name,
        help="run in this userland: host, or an unpacked distribution such as trixie; repeatable (default: ini "
        "harness_userlands, or host)",
    )  # fmt: skip
    group.addoption(
        "--harness-measure", action="store_true", default=False,
        help="measure images without a baseline, too, for the report",
    )  # fmt: skip
    group.addoption(
        "--harness-exhaustive", action="store_true", default=False,
        help="run all tests of an image over a socket whose first client was not answered",
    )  # fmt: skip
    group.addoption(
        "--harness-results", metavar="FILE", default=None,
        help="write the results there (default: results.json in the folder of --harness-artifacts-dir)",
    )  # fmt: skip
    group.addoption(
        "--harness-artifacts-dir", metavar="DIR", default=None,
        help="write failure bundles below this folder (default: harness-artifacts)",
    )  # fmt: skip
    group.addoption(
        "--harness-strict", action=argparse.BooleanOptionalAction, default=None,
        help="fail where a capability is missing instead of skipping (default: yes when CI is set)",
    )  # fmt: skip
    group.addoption(
        "--harness-bisect", action=argparse.BooleanOptionalAction, default=None,
        help="find out which layer loses the socket when a probe fails (default: yes)",
    )  # fmt: skip
    parser.addini("harness_contracts", "folders of contracts, relative to the ini file", type="paths", default=[])
    parser.addini("harness_userlands", "names of userlands, as --harness-userland", type="args", default=[])
    parser.addini("harness_artifacts_dir", "as --harness-artifacts-dir", default="harness-artifacts")
    parser.addini("harness_strict", "as --harness-strict: true or false; empty for the default", default="")
    parser.addini("harness_bisect", "as --harness-bisect: true or false", type="bool", default=True)


def asked(config: pytest.Config) -> bool:
    """Whether a run asks for the harness: it has an option of ours, or contracts by its ini file."""
    given = (value for name, value in vars(config.option).items() if name.startswith("harness_"))
    return any(value not in (None, False, []) for value in given) or bool(config.getini("harness_contracts"))


def read(config: pytest.Config) -> RunSettings:
    """Return the options, the command line before the ini file; raise pytest.UsageError."""
    from harness.core.userland import HOST
    from harness.plugin.settings import RunSettings
    from harness.results import record
    from harness.session.bounds import Bounds

    given = config.option
    found = {key: row.read(config) for key, row in settings().items()}
    artifacts = Path(
        given.harness_artifacts_dir or config.rootpath / str(config.getini("harness_artifacts_dir"))
    ).absolute()
    return RunSettings(
        contracts=tuple(Path(path).absolute() for path in given.harness_contract)
        or tuple(Path(path) for path in config.getini("harness_contracts") if not given.harness_units),
        units=tuple(Path(path).absolute() for path in given.harness_units),
        instances=tuple(given.harness_instance),
        binds=tuple(given.harness_allow_bind),
        images=dict(given.harness_image),
        baselines=dict(given.harness_baseline),
        max_slowdown=found["harness_max_slowdown"],
        gate_limit_s=found["harness_gate_limit"],
        measure=given.harness_measure,
        exhaustive=given.harness_exhaustive,
        results=Path(given.harness_results or artifacts / record.FILE_NAME).absolute(),
        results_asked=given.harness_results is not None,
        transports=found["harness_transports"],
        activations=found["harness_activation"],
        userlands=tuple(dict.fromkeys(given.harness_userland or config.getini("harness_userlands") or [HOST.name])),
        base=found["harness_base"],
        build_network=found["harness_build_network"],
        strict=_strict(str(config.getini("harness_strict"))) if given.harness_strict is None else given.harness_strict,
        keep=found["harness_keep"],
        bisect=bool(config.getini("harness_bisect")) if given.harness_bisect is None else given.harness_bisect,
        artifacts=artifacts,
        timeout_scale=found["harness_timeout_scale"],
        bounds=Bounds(
            memory=found["harness_session_memory"],
            pids=found["harness_session_processes"],
            descriptors=found["harness_session_descriptors"],
            disk=found["harness_session_disk"],
            output=found["harness_session_output"] // 2,
        ),
        guest=found["harness_guest"],
        guest_engine=found["harness_guest_engine"],
        guest_kernel=found["harness_guest_kernel"],
    )


def _strict(text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text:
        raise pytest.UsageError(f"In the ini file: harness_strict: '{text}' is none of 'true', 'false'")
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _image(text: str) -> tuple[str, str]:
    from harness.contract.reference import ImageReference

    name, equals, image = text.partition("=")
    if not (name and equals and image):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=IMAGE, such as echo=localhost/my-echo")
    try:
        ImageReference.parse(image)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"in '{text}', {error}") from None
    return name, image


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no name of small letters, digits, '.', '_' and '-'")
    return text


def _transports(text: str) -> tuple[Transport, ...]:
    from harness.core.transports import Transport

    return tuple(Transport(name) for name in _listed(text, tuple(Transport)))


def _activations(text: str) -> tuple[str, ...]:
    """Return the names in a list; none where it is empty, since what is possible depends on the userland."""
    from harness.activation import activations

    if not text.strip():
        return ()
    try:
        return _listed(text, tuple(activations()))
    except HarnessError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _listed(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the names in a comma-separated list, all known ones where it is empty, in the known order."""
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names.difference(known)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    return tuple(str(name) for name in known if not names or name in names)


def _folder(text: str) -> Path:
    """Return a folder of the machine by its absolute path; a session has those of the first level by itself."""
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
        raise argparse.ArgumentTypeError(f"expected the absolute path of a folder below another, got '{text}'")
    return path


def _one_of(where: str, *others: str) -> Callable[[str], StrEnum | None]:
    """Return what makes a text a member of the enumeration that is there, and one of the `others` None."""

    def parse(text: str) -> StrEnum | None:
        kind: type[StrEnum] = pkgutil.resolve_name(where)
        if text in others:
            return None
        if text not in tuple(kind):
            raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(map(repr, (*others, *map(str, kind))))}")
        return kind(text)

    return parse


def _size(least: str) -> Callable[[str], int]:
    """Return what makes a text such as 512m a number of bytes, of at least what a session itself takes."""

    def parse(text: str) -> int:
        found = re.fullmatch(r"([0-9]{1,9})([kmg])", text.lower())
        size = int(found[1]) << {"k": 10, "m": 20, "g": 30}[found[2]] if found else 0
        if text != least and size < parse(least):
            raise argparse.ArgumentTypeError(
                f"expected a number with 'k', 'm' or 'g', from {least} on, such as 512m, got '{text[:80]}'"
            )
        return size

    return parse


def _count(text: str) -> int:
    """Return a number of processes; at least what a session itself takes."""
    if not re.fullmatch("[0-9]{1,7}", text) or int(text) < _FEWEST:
        raise argparse.ArgumentTypeError(f"expected a number from {_FEWEST} on, got '{text[:80]}'")
    return int(text)


def _within(above: float, up_to: float) -> Callable[[str], float]:
    """Return what makes a text a number between two others."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = above
        if not above < number <= up_to:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number above {above} and up to {up_to}")
        return number

    return parse
