"""The images that tests name, and the echo server's service for tests that look after it as an administrator."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from harness.activation import Activation
from harness.contract import Contract
from harness.images import Image
from harness.runtime import Runtime
from harness.service import Service, open_service
from harness.session.session import Session
from suites import administration
from suites.handover import NAME, Handover
from suites.watching import DropIn


@pytest.fixture
def echo_image(image_of: Callable[[str], Image]) -> Image:
    """The echo server, in place of the tutorial's ghcr.io/eriksjolund/socket-activate-echo."""
    return image_of("echo")


@pytest.fixture
def httpd_image(image_of: Callable[[str], Image]) -> Image:
    """The Apache HTTP server, in place of the tutorial's localhost/socket-activate-httpd."""
    return image_of("httpd")


@pytest.fixture
def handover(harness_runtime: Runtime, user_session: Session) -> Handover:
    """The image that tells what it was given, in the session."""
    command = harness_runtime.contracts[NAME].image.command
    return Handover(user_session, harness_runtime.image(NAME), command)


@pytest.fixture
def way() -> str:
    """Name of the activation; tests where it matters have the mark `activations`."""
    return "unit"


@pytest.fixture
def activation(way: str, harness_runtime: Runtime) -> Activation:
    """The activation of that name."""
    if way not in harness_runtime.activations:
        pytest.skip(f"--harness-activation leaves out '{way}'")
    return harness_runtime.activations[way]


@pytest.fixture
def echo_contract(harness_runtime: Runtime) -> Contract:
    """The contract of the echo image."""
    return harness_runtime.contracts["echo"]


@pytest.fixture
def options() -> tuple[str, ...]:
    """What is added to the command of the echo image; a test that needs some is parametrised with them."""
    return ()


@pytest.fixture
def command(options: tuple[str, ...], echo_contract: Contract, echo_image: Image, host: Host) -> tuple[str, ...]:
    """What the container of `echo` runs; a test that needs another program is parametrised with it."""
    own = echo_contract.image.command
    if options and not own:
        told = host.check_output(f"podman image inspect --format '{{{{json .Config.Cmd}}}}' {echo_image.reference}")
        own = tuple(json.loads(told))
    return (*own, *options)


@pytest.fixture
def echo(
    activation: Activation,
    command: tuple[str, ...],
    harness_runtime: Runtime,
    echo_contract: Contract,
    echo_image: Image,
) -> Iterator[Service]:
    """The echo server's `echo.socket`, which listens, and `echo.service`, which sleeps."""
    image = echo_contract.image.model_copy(update={"command": command})
    with open_service(
        harness_runtime.session(),
        echo_contract.model_copy(update={"image": image}),
        echo_image,
        activation,
        harness_runtime.lacking,
        harness_runtime.options.timeout_scale,
    ) as service:
        yield service


@pytest.fixture
def drop_in(user_session: Session) -> Iterator[DropIn]:
    """Change a unit for the rest of the test; a second text for the same unit takes the place of the first."""
    with contextlib.ExitStack() as stack:
        yield lambda unit, text: stack.enter_context(administration.drop_in(user_session, unit, text))
