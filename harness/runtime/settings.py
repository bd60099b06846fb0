"""What a `Runtime` needs to know, with the defaults of a run that asks for nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.core.userland import HOST
from harness.guest.engines.base import EngineName, Mode
from harness.images.bases import Base
from harness.images.store import BuildNetwork
from harness.session.bounds import TESTS, Bounds


@dataclass(frozen=True)
class Settings:
    """Which contracts, images, activations and userlands are meant, and where the rest is found."""

    contracts: tuple[Path, ...] = ()
    #: Folders of unit files, and the instances of their templates.
    units: tuple[Path, ...] = ()
    instances: tuple[str, ...] = ()
    #: Folders of the machine that containers of unit files may see, and not write to.
    binds: tuple[Path, ...] = ()
    #: Name of a contract, or an image as unit files name it -> the image to test instead of the one it builds.
    images: dict[str, str] = field(default_factory=dict)
    #: Name of a contract -> the image that the tested one must not be slower than.
    baselines: dict[str, str] = field(default_factory=dict)
    #: Empty: all that a userland is capable of.
    activations: tuple[str, ...] = ()
    #: Names of the userlands that the suites run in, one after the other.
    userlands: tuple[str, ...] = (HOST.name,)
    #: None: chosen by whether a registry answers.
    base: Base | None = None
    build_network: BuildNetwork = BuildNetwork.HOST
    timeout_scale: float = 1.0
    #: What each session may take of the machine.
    bounds: Bounds = TESTS
    guest: Mode = Mode.AUTO
    #: None: the first that can be used.
    guest_engine: EngineName | None = None
    #: The kernel that the engine `virtme` boots: a release or an image; empty for the engine's choice.
    guest_kernel: str = ""
