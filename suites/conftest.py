"""The images that tests name: the tutorial's two, and the one that tells what it was given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.activation import Activation
from harness.errors import UsageError
from harness.images import Image
from harness.runtime import Runtime
from harness.session.session import Session
from suites.handover import NAME, Handover


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
    if NAME not in harness_runtime.contracts:
        raise UsageError(f"This test is about the contract '{NAME}', which is not among those given.")
    command = harness_runtime.contracts[NAME].image.command
    return Handover(user_session, harness_runtime.image(NAME), command)


@pytest.fixture
def activation(request: pytest.FixtureRequest, harness_runtime: Runtime) -> Activation:
    """The activation that the test's parameter names; the hand-written unit where it names none."""
    name = getattr(request, "param", "unit")
    if name not in harness_runtime.activations:
        pytest.skip(f"--harness-activation leaves out '{name}'")
    return harness_runtime.activations[name]
