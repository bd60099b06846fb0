"""The fixtures of the plugin; each is made at its first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from harness.capabilities import Capabilities
from harness.hosts import SessionBackend
from harness.images import Image
from harness.plugin import RUNTIME, Case
from harness.runtime import Runtime
from harness.service import Service, open_service
from harness.session.session import Session


@pytest.fixture(scope="session")
def harness_runtime(request: pytest.FixtureRequest) -> Runtime:
    """Everything that this process makes once."""
    return request.config.stash[RUNTIME]


@pytest.fixture(scope="session")
def capabilities(harness_runtime: Runtime) -> Capabilities:
    """What this machine can do."""
    return harness_runtime.capabilities


@pytest.fixture(scope="session")
def image_of(harness_runtime: Runtime) -> Callable[[str], Image]:
    """Return the image of a contract by its name, built at its first use."""
    return harness_runtime.image


@pytest.fixture
def user_session(harness_runtime: Runtime) -> Session:
    """The throwaway user session of this process; tests share it and leave it as they found it."""
    return harness_runtime.session()


@pytest.fixture
def host(user_session: Session) -> Host:
    """A pytest-testinfra host whose commands run inside the session."""
    backend = SessionBackend(user_session)
    host = Host(backend)
    backend.set_host(host)
    return host


@pytest.fixture
def service(case: Case, harness_runtime: Runtime) -> Iterator[Service]:
    """The case's image, activated in the case's way, asleep."""
    image = harness_runtime.image(case.contract.name)
    activation = harness_runtime.activations[case.activation]
    with open_service(
        harness_runtime.session(),
        case.contract,
        image,
        activation,
        harness_runtime.lacking,
        harness_runtime.options.timeout_scale,
        harness_runtime.client_images(case.contract.name),
    ) as opened:
        yield opened
