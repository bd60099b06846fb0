"""The plugin's options, their twins in the ini file, and what they are once read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import pytest

from harness import record
from harness.activation import activations
from harness.bases import Base
from harness.guest.engine import EngineName, Mode
from harness.transports import Transport

T = TypeVar("T")


class Keep(StrEnum):
    """When a session outlives its test."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    contracts: tuple[Path, ...]
    #: Name of a contract -> the image to test instead of the one it builds.
    images: dict[str, str]
    #: Name of a contract -> the image that the tested one must not be slower than.
    baselines: dict[str, str]
    #: Ratio of the medians that is allowed.
    max_slowdown: float
    #: Longest comparison of two images over one transport, in seconds.
    gate_limit_s: float
    #: Whether images without a baseline are measured, too.
    measure: bool
    #: Where results.json goes, and whether somebody asked for it there.
    results: Path
    results_asked: bool
    transports: tuple[Transport, ...]
    activations: tuple[str, ...]
    #: None: chosen by whether a registry answers.
    base: Base | None
    #: A missing capability fails instead of skipping.
    strict: bool
    keep: Keep
    #: Find out which layer loses the socket when a probe fails.
    bisect: bool
    artifacts: Path
    timeout_scale: float
    guest: Mode
    #: None: the first that can be used.
    guest_engine: EngineName | None
    #: The kernel that the engine `virtme` boots: a release or an image; empty for the engine's choice.
    guest_kernel: str

    def arguments(self, *, strict: bool, base: Base, artifacts: Path, timeout_scale: float) -> list[str]:
        """Return the options for a run of the same inside a guest, which has no guest and keeps no session."""
        return [
            *(f"--harness-contract={path}" for path in self.contracts),
            *(f"--harness-image={name}={image}" for name, image in self.images.items()),
            f"--harness-transports={','.join(self.transports)}",
            f"--harness-activation={','.join(self.activations)}",
            f"--harness-base={base}",
            "--harness-strict" if strict else "--no-harness-strict",
            f"--harness-artifacts-dir={artifacts}",
            f"--harness-timeout-scale={timeout_scale:g}",
            f"--harness-keep={Keep.NEVER}",
            f"--harness-guest={Mode.NEVER}",
        ]


# Help texts: one sentence in the imperative, the default at its end, no full stop.
def add_options(parser: pytest.Parser) -> None:
    """Add every option and, where it makes sense, its ini twin (`harness_contracts` for `--harness-contract` ...)."""
    group = parser.getgroup("harness", "socket-activated containers")
    ways, kinds = ",".join(activations()), ",".join(Transport)
    group.addoption(
        "--harness-contract", action="append", default=[], metavar="PATH",
        help="test this contract, or the contracts in this folder; repeatable (default: ini harness_contracts)",
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
        "--harness-max-slowdown", metavar="RATIO", type=_slowdown, default=None,
        help="allow this ratio of candidate to baseline (default: 1.10)",
    )  # fmt: skip
    group.addoption(
        "--harness-gate-limit", metavar="SECONDS", type=_seconds, default=None,
        help="compare two images over one transport for no longer than this (default: 60)",
    )  # fmt: skip
    group.addoption(
        "--harness-measure", action="store_true", default=False,
        help="measure images without a baseline, too, for the report",
    )  # fmt: skip
    group.addoption(
        "--harness-results", metavar="FILE", default=None,
        help="write the results there (default: results.json in the folder of --harness-artifacts-dir)",
    )  # fmt: skip
    group.addoption(
        "--harness-transports", metavar="LIST", type=_transports, help=f"probe only these of {kinds} (default: all)"
    )
    group.addoption(
        "--harness-activation",
        metavar="LIST",
        type=_activations,
        help=f"activate only by these of {ways} (default: all)",
    )
    group.addoption(
        "--harness-base", choices=("auto", *map(str, Base)), default=None,
        help="build images on this distribution (default: auto, fedora where a registry answers)",
    )  # fmt: skip
    group.addoption(
        "--harness-strict", action=argparse.BooleanOptionalAction, default=None,
        help="fail where a capability is missing instead of skipping (default: yes when CI is set)",
    )  # fmt: skip
    group.addoption(
        "--harness-keep", choices=tuple(map(str, Keep)), default=None,
        help="keep the session of a test alive after it (default: never)",
    )  # fmt: skip
    group.addoption(
        "--harness-bisect", action=argparse.BooleanOptionalAction, default=None,
        help="find out which layer loses the socket when a probe fails (default: yes)",
    )  # fmt: skip
    group.addoption(
        "--harness-artifacts-dir", metavar="DIR", default=None,
        help="write failure bundles below this folder (default: harness-artifacts)",
    )  # fmt: skip
    group.addoption(
        "--harness-timeout-scale", metavar="FACTOR", type=_factor, default=None,
        help="multiply every time limit of the contracts (default: 1)",
    )  # fmt: skip
    group.addoption(
        "--harness-guest", choices=tuple(map(str, Mode)), default=None,
        help="run tests in a guest kernel: those that need one, none, or all (default: auto)",
    )  # fmt: skip
    group.addoption(
        "--harness-guest-engine", choices=("auto", *map(str, EngineName)), default=None,
        help="boot the guest by this engine (default: auto, the first that works)",
    )  # fmt: skip
    group.addoption(
        "--harness-guest-kernel", metavar="KERNEL", default=None,
        help="boot this kernel, a release or an image, by the engine virtme (default: the newest installed)",
    )  # fmt: skip
    parser.addini("harness_contracts", "folders of contracts, relative to the ini file", type="paths", default=[])
    parser.addini("harness_max_slowdown", "as --harness-max-slowdown", default="1.10")
    parser.addini("harness_gate_limit", "as --harness-gate-limit", default="60")
    parser.addini("harness_transports", "as --harness-transports", default="")
    parser.addini("harness_activation", "as --harness-activation", default="")
    parser.addini("harness_base", "as --harness-base", default="auto")
    parser.addini("harness_strict", "as --harness-strict: true or false; empty for the default", default="")
    parser.addini("harness_keep", "as --harness-keep", default=Keep.NEVER)
    parser.addini("harness_bisect", "as --harness-bisect: true or false", type="bool", default=True)
    parser.addini("harness_artifacts_dir", "as --harness-artifacts-dir", default="harness-artifacts")
    parser.addini("harness_timeout_scale", "as --harness-timeout-scale", default="1")
    parser.addini("harness_guest", "as --harness-guest", default=Mode.AUTO)
    parser.addini("harness_guest_engine", "as --harness-guest-engine", default="auto")
    parser.addini("harness_guest_kernel", "as --harness-guest-kernel", default="")


def read(config: pytest.Config) -> Options:
    """Return the options, the command line before the ini file; raise pytest.UsageError."""
    given = config.option

    def ini(key: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(str(config.getini(key)))
        except argparse.ArgumentTypeError as error:
            raise pytest.UsageError(f"In the ini file: {key}: {error}") from None

    def base(text: str) -> str:
        return _one_of(("auto", *Base), text)

    def engine(text: str) -> str:
        return _one_of(("auto", *EngineName), text)

    guest_engine = given.harness_guest_engine or ini("harness_guest_engine", engine)
    chosen = given.harness_base or ini("harness_base", base)
    artifacts = Path(
        given.harness_artifacts_dir or config.rootpath / str(config.getini("harness_artifacts_dir"))
    ).absolute()
    return Options(
        contracts=tuple(Path(path).absolute() for path in given.harness_contract)
        or tuple(Path(path) for path in config.getini("harness_contracts")),
        images=dict(given.harness_image),
        baselines=dict(given.harness_baseline),
        max_slowdown=given.harness_max_slowdown or ini("harness_max_slowdown", _slowdown),
        gate_limit_s=given.harness_gate_limit or ini("harness_gate_limit", _seconds),
        measure=given.harness_measure,
        results=Path(given.harness_results or artifacts / record.FILE_NAME).absolute(),
        results_asked=given.harness_results is not None,
        transports=given.harness_transports or ini("harness_transports", _transports),
        activations=given.harness_activation or ini("harness_activation", _activations),
        base=None if chosen == "auto" else Base(chosen),
        strict=ini("harness_strict", _strict) if given.harness_strict is None else given.harness_strict,
        keep=Keep(given.harness_keep or ini("harness_keep", lambda text: _one_of(tuple(Keep), text))),
        bisect=bool(config.getini("harness_bisect")) if given.harness_bisect is None else given.harness_bisect,
        artifacts=artifacts,
        timeout_scale=given.harness_timeout_scale or ini("harness_timeout_scale", _factor),
        guest=Mode(given.harness_guest or ini("harness_guest", lambda text: _one_of(tuple(Mode), text))),
        guest_engine=None if guest_engine == "auto" else EngineName(guest_engine),
        guest_kernel=given.harness_guest_kernel or str(config.getini("harness_guest_kernel")),
    )


def _strict(text: str) -> bool:
    if text:
        return _one_of(("true", "false"), text.lower()) == "true"
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _image(text: str) -> tuple[str, str]:
    name, equals, image = text.partition("=")
    if not (name and equals and image) or image.startswith("-"):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=IMAGE, such as echo=localhost/my-echo")
    return name, image


def _transports(text: str) -> tuple[Transport, ...]:
    return tuple(Transport(name) for name in _listed(text, tuple(Transport)))


def _activations(text: str) -> tuple[str, ...]:
    return _listed(text, tuple(activations()))


def _listed(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the names in a comma-separated list, all known ones where it is empty, in the known order."""
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names.difference(known)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    return tuple(str(name) for name in known if not names or name in names)


def _one_of(known: Sequence[str], text: str) -> str:
    if text not in known:
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(known)}")
    return text


def _factor(text: str) -> float:
    return _number(text, above=0, up_to=1000)


def _slowdown(text: str) -> float:
    return _number(text, above=1, up_to=100)


def _seconds(text: str) -> float:
    return _number(text, above=0, up_to=3600)


def _number(text: str, *, above: float, up_to: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = above
    if not above < number <= up_to:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above {above} and up to {up_to}")
    return number
