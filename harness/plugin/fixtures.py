"""The fixtures of the plugin; each is made at its first use.

Every run of pytest imports this file where the harness is installed: what costs time is imported where it is used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

    from harness.activation import Activation
    from harness.activation.service import Service
    from harness.battery.trial import Trial
    from harness.capabilities.table import Capabilities
    from harness.contract import Contract
    from harness.plugin.parametrize import Case
    from harness.runtime.runtime import Runtime
    from harness.session.session import Session
    from harness.timing.verdict import Verdicts


def contract_fixture(*names: str) -> Any:
    """Return a fixture that gives a test the contract of this name, or each of several.

    A test that uses it, itself or through another fixture, is deselected in a run without that contract.
    """
    from harness.plugin.parametrize import ContractName

    ids = names if len(names) > 1 else [pytest.HIDDEN_PARAM]

    @pytest.fixture(params=[ContractName(name) for name in names], ids=ids)
    def contract(request: pytest.FixtureRequest, harness_runtime: Runtime) -> Contract:
        return harness_runtime.contract(request.param)

    return contract


@pytest.fixture(scope="session")
def harness_userland() -> str:
    """Name of the userland that the test runs in; a test which uses anything of the harness's runs once in each."""
    raise pytest.UsageError(
        "The test asks for a fixture of the harness's while it runs. Hint: name the fixture as an argument of the test."
    )


@pytest.fixture(scope="session")
def harness_runtime(request: pytest.FixtureRequest, harness_userland: str) -> Runtime:
    """Everything that this process makes once for a userland."""
    from harness.plugin.parametrize import RUNTIMES

    return request.config.stash[RUNTIMES][harness_userland]


@pytest.fixture(scope="session")
def harness_capabilities(harness_runtime: Runtime) -> Capabilities:
    """What this machine can do with the userland."""
    return harness_runtime.capabilities


@pytest.fixture
def harness_session(harness_runtime: Runtime) -> Session:
    """The throwaway user session of this process in the userland; tests share it and leave it as they found it."""
    return harness_runtime.session()


@pytest.fixture
def harness_host(harness_session: Session) -> Host:
    """A pytest-testinfra host whose commands run inside the session."""
    from testinfra.host import Host

    from harness.session.testinfra import SessionBackend

    backend = SessionBackend(harness_session)
    host = Host(backend)
    backend.set_host(host)
    return host


@pytest.fixture(scope="session")
def harness_strict(request: pytest.FixtureRequest, harness_userland: str) -> bool:
    """Whether what can't be tested here fails instead of being skipped, see --harness-strict."""
    from harness.plugin.settings import SETTINGS

    return request.config.stash[SETTINGS].strict


@pytest.fixture
def harness_service(request: pytest.FixtureRequest, harness_case: Case, harness_runtime: Runtime) -> Iterator[Service]:
    """The case's image, activated in the case's way, asleep; skips where its first client was not answered before."""
    from harness.plugin.settings import SETTINGS

    key = harness_case.contract.name, harness_case.activation, harness_case.label
    failed = harness_runtime.cold_failures.get(key)
    if failed and not request.config.stash[SETTINGS].exhaustive:
        pytest.skip(f"not run: the cold start failed: {failed}")
    with harness_runtime.service(harness_case.contract, harness_case.activation) as opened:
        yield opened


@pytest.fixture
def harness_trial(harness_service: Service, harness_case: Case) -> Trial:
    """The case's service, for the promise `harness_promise`."""
    from harness.battery.trial import Trial

    return Trial(harness_service, harness_case.transport)


@pytest.fixture
def harness_activation_name() -> str:
    """Name of the activation; tests where it matters have the mark `harness_activations`."""
    return "unit"


@pytest.fixture
def harness_activation(harness_activation_name: str, harness_runtime: Runtime) -> Activation:
    """The activation of the mark `harness_activations`, else `unit`; skips where --harness-activation leaves it out."""
    if harness_activation_name not in harness_runtime.activations:
        pytest.skip(f"--harness-activation leaves out '{harness_activation_name}'")
    return harness_runtime.activations[harness_activation_name]


@pytest.fixture
def harness_drop_in(harness_session: Session) -> Iterator[Callable[[str, str], None]]:
    """Change a unit for the rest of the test; a second text for the same unit takes the place of the first."""
    with contextlib.ExitStack() as stack:
        yield lambda unit, text: stack.enter_context(harness_session.drop_in(unit, text))


class SocketActivated(Protocol):
    """Starts services for a test; they are stopped at its end, the last one first."""

    def __call__(
        self,
        what: Contract | str | os.PathLike[str],
        *,
        listen: Sequence[Mapping[str, Any]] = (),
        probe: Mapping[str, Any] | None = None,
        activation: str = "",
    ) -> Service:
        """Return a service that listens, its container not started.

        `what` is a contract, the path of one relative to the test's file, or, with `listen` and `probe`, the reference
        of an image. Those two are the tables `sockets` and `probe` of a contract. `activation` is by default `unit`, or
        the only one that is for the contract. Raises ContractError, UsageError,
        ImageError, SessionError, CapabilityMissing.
        """


@pytest.fixture
def socket_activated(request: pytest.FixtureRequest, harness_runtime: Runtime) -> Iterator[SocketActivated]:
    """Start a service for a contract, the path of one, or an image: `service = socket_activated("contract.toml")`."""
    from harness.contract import Contract, load, of_image

    with contextlib.ExitStack() as stack:

        def start(
            what: Contract | str | os.PathLike[str],
            *,
            listen: Sequence[Mapping[str, Any]] = (),
            probe: Mapping[str, Any] | None = None,
            activation: str = "",
        ) -> Service:
            if isinstance(what, Contract):
                contract = what
            elif probe is None:
                contract = load(request.path.parent / what)
            else:
                contract = of_image(os.fspath(what), listen, probe)
            return stack.enter_context(harness_runtime.service(contract, activation))

        yield start


@pytest.fixture
def harness_verdicts(request: pytest.FixtureRequest, harness_case: Case, harness_runtime: Runtime) -> Verdicts:
    """What a measurement of the case's image says, against its baseline where there is one."""
    from harness.plugin.recorder import VERDICTS
    from harness.plugin.settings import SETTINGS
    from harness.results.record import Role
    from harness.timing import measure
    from harness.timing.gate import Rule
    from harness.timing.measure import Plan
    from harness.timing.verdict import find

    runtime, contract, settings = harness_runtime, harness_case.contract, request.config.stash[SETTINGS]
    images = runtime.measured(contract)
    plan = Plan(settings.gate_limit_s, measure.MOST if Role.BASELINE in images else measure.MOST_ALONE)
    rule, case = Rule(settings.max_slowdown), harness_case.record(runtime.name)
    with (
        runtime.quiet_session() as session,
        runtime.services(contract, images, harness_case.activation, session) as services,
    ):
        found = find(services, harness_case.transport, case, plan, rule, runtime.progress)
    request.node.stash[VERDICTS] = found
    return found
