"""The images that tests name, and the echo server's service for tests that look after it as an administrator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from harness import Activation, Contract, Image, Runtime, Service, Session, contract_fixture
from suites.handover import NAME, Handover

#: The contracts that tests name.
echo_contract = contract_fixture("echo")
httpd_contract = contract_fixture("httpd")
handover_contract = contract_fixture(NAME)


@pytest.fixture
def echo_image(echo_contract: Contract, harness_runtime: Runtime) -> Image:
    """The echo server, in place of the tutorial's ghcr.io/eriksjolund/socket-activate-echo."""
    return harness_runtime.image(echo_contract.name)


@pytest.fixture
def httpd_image(httpd_contract: Contract, harness_runtime: Runtime) -> Image:
    """The Apache HTTP server, in place of the tutorial's localhost/socket-activate-httpd."""
    return harness_runtime.image(httpd_contract.name)


@pytest.fixture
def handover(handover_contract: Contract, harness_runtime: Runtime, harness_session: Session) -> Handover:
    """The image that tells what it was given, in the session."""
    image = harness_runtime.image(handover_contract.name)
    return Handover(harness_session, image, handover_contract.image.command)


@pytest.fixture
def options() -> tuple[str, ...]:
    """What is added to the command of the echo image; a test that needs some is parametrised with them."""
    return ()


@pytest.fixture
def command(
    options: tuple[str, ...], echo_contract: Contract, echo_image: Image, harness_host: Host
) -> tuple[str, ...]:
    """What the container of `echo` runs; a test that needs another program is parametrised with it."""
    own = echo_contract.image.command
    if options and not own:
        told = harness_host.check_output(
            f"podman image inspect --format '{{{{json .Config.Cmd}}}}' {echo_image.reference}"
        )
        own = tuple(json.loads(told))
    return (*own, *options)


@pytest.fixture
def echo(
    harness_activation: Activation,
    command: tuple[str, ...],
    harness_runtime: Runtime,
    echo_contract: Contract,
    echo_image: Image,
) -> Iterator[Service]:
    """The echo server's `echo.socket`, which listens, and `echo.service`, which sleeps."""
    image = echo_contract.image.model_copy(update={"command": command})
    changed = echo_contract.model_copy(update={"image": image})
    with harness_runtime.service(changed, harness_activation, echo_image) as service:
        yield service
