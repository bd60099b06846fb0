"""The proof that the battery can fail: each fault is found by its own test, and named; a sound server passes all.

The faults are activated by `unit`, or by the first of --harness-activation, so that a run can have them by others, too.
"""

from __future__ import annotations

import re

import pytest

from harness.activation import Activation
from harness.battery.promises import PROMISES
from harness.battery.trial import PromiseBroken, Trial
from harness.contract import Promise
from harness.core.errors import Blame
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from tests.faults.table import FAULTS, Fault, contract_of

#: A launcher's sockets go with each run, so that these can't be asked of it.
OF_UNITS_ONLY = {Promise.NO_REPLY_LOST, Promise.READY}

#: What an image promises whose sockets it accepts clients of; tests/live/test_instances.py has the other promise.
PROMISED = [promise for promise in Promise if promise is not Promise.INSTANCES]

#: Faults that show where a container has several sockets, or outlive their run: a launcher's are of one kind, and go.
NOT_BY_A_LAUNCHER = {"first-only", "closes-second", "waits-in-accept", "shuts-down"}

every_way = pytest.mark.harness_activations("generate", "launcher", "quadlet", "unit")


def names(fault: Fault) -> str:
    """Return the name of a test."""
    return f"{fault.name}-{fault.promise}-{fault.transport}"


def found(fault: Fault, activation: Activation, runtime: Runtime) -> PromiseBroken:
    """Return how the battery names a fault."""
    contract = contract_of(fault.name, fault.promise)
    with runtime.service(contract, activation) as service, pytest.raises(PromiseBroken) as caught:
        PROMISES[fault.promise].attempt(Trial(service, fault.transport))
    return caught.value


@pytest.fixture
def activation(harness_runtime: Runtime) -> Activation:
    """The activation of the faults."""
    chosen = harness_runtime.activations
    return chosen["unit"] if "unit" in chosen else next(iter(chosen.values()))


@pytest.mark.parametrize("fault", FAULTS, ids=names)
def test_a_fault_is_found_and_named(fault: Fault, activation: Activation, harness_runtime: Runtime) -> None:
    """The sentence says what is wrong before all evidence, and who has to act."""
    if not activation.keeps_sockets and (fault.name in NOT_BY_A_LAUNCHER or fault.promise in OF_UNITS_ONLY):
        pytest.skip("a launcher has one kind of sockets, which go with each run")
    error = found(fault, activation, harness_runtime)
    said = fault.said if activation.keeps_sockets else fault.said.replace(r"fd 4 \(udp4\)", r"fd 3 \(udp4\)")
    assert re.search(said, error.wrong), error.wrong
    assert str(error).startswith(f"The service 'faults' ({activation.name}) broke a promise: ")
    assert error.blame is Blame.IMAGE


@every_way
@pytest.mark.parametrize("promise", PROMISED)
def test_a_sound_server_keeps_every_promise(
    promise: Promise, harness_activation: Activation, harness_runtime: Runtime
) -> None:
    """The control: the same server, with no fault."""
    if not harness_activation.keeps_sockets and promise in OF_UNITS_ONLY:
        pytest.skip("a launcher's sockets go with each run")
    with harness_runtime.service(contract_of("none", promise), harness_activation) as service:
        PROMISES[promise].attempt(Trial(service, Transport.TCP4))


def test_each_promise_has_a_fault() -> None:
    assert {fault.promise for fault in FAULTS} == {*PROMISED}
