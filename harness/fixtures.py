"""The fixtures of the plugin; each is made at its first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from harness import measure
from harness.capabilities import Capabilities
from harness.cases import RUNTIMES, Case
from harness.findings import Findings, Subject, find
from harness.gate import Rule
from harness.hosts import SessionBackend
from harness.images import Image
from harness.measure import Plan
from harness.record import Role
from harness.recorder import FINDINGS
from harness.runtime import Runtime
from harness.service import Service, open_service
from harness.session.session import Session


@pytest.fixture(scope="session")
def userland() -> str:
    """Name of the userland that the test runs in; a test which uses anything of the harness's runs once in each."""
    raise pytest.UsageError("The plugin 'harness.plugin' has not parametrised this test.")


@pytest.fixture(scope="session")
def harness_runtime(request: pytest.FixtureRequest, userland: str) -> Runtime:
    """Everything that this process makes once for a userland."""
    return request.config.stash[RUNTIMES][userland]


@pytest.fixture(scope="session")
def capabilities(harness_runtime: Runtime) -> Capabilities:
    """What this machine can do with the userland."""
    return harness_runtime.capabilities


@pytest.fixture(scope="session")
def image_of(harness_runtime: Runtime) -> Callable[[str], Image]:
    """Return the image of a contract by its name, built at its first use."""
    return harness_runtime.image


@pytest.fixture
def user_session(harness_runtime: Runtime) -> Session:
    """The throwaway user session of this process in the userland; tests share it and leave it as they found it."""
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


@pytest.fixture
def findings(request: pytest.FixtureRequest, case: Case, harness_runtime: Runtime) -> Findings:
    """What a measurement of the case's image says, against its baseline where there is one."""
    runtime, name = harness_runtime, case.contract.name
    images: dict[str, Image] = {Role.CANDIDATE: runtime.image(name)}
    if baseline := runtime.baseline(name):
        images[Role.BASELINE] = baseline
    activation = runtime.activations[case.activation]
    subject = Subject(
        case.contract,
        images,
        activation,
        case.transport,
        runtime.lacking,
        runtime.options.timeout_scale,
        runtime.client_images(name),
        runtime.name,
    )
    most = measure.MOST if baseline else measure.MOST_ALONE
    with runtime.quiet_session() as session:
        found = find(
            session,
            subject,
            Plan(runtime.options.gate_limit_s, most),
            Rule(runtime.options.max_slowdown),
            runtime.progress,
        )
    request.node.stash[FINDINGS] = found
    return found
