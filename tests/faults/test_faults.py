"""The proof that the battery can fail: each fault is found by its own test, and named; a sound server passes all."""

from __future__ import annotations

import re

import pytest

from harness.activation import Activation
from harness.battery.promises import ROWS_OF
from harness.battery.trial import PromiseBroken, Trial
from harness.contract import Promise
from harness.core.errors import Blame
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from tests.faults.table import FAULTS, Fault, contract_of

#: A launcher's sockets go with each run, so that these can't be asked of it.
OF_UNITS_ONLY = {Promise.NO_REPLY_LOST, Promise.READY}

every_way = pytest.mark.harness_activations("generate", "launcher", "quadlet", "unit")


def names(fault: Fault) -> str:
    """Return the name of a test."""
    return f"{fault.name}-{fault.promise}-{fault.transport}"


def found(fault: Fault, activation: Activation, runtime: Runtime) -> PromiseBroken:
    """Return how the battery names a fault."""
    contract = contract_of(fault.name, fault.promise)
    with runtime.service(contract, activation) as service, pytest.raises(PromiseBroken) as caught:
        ROWS_OF[fault.promise].try_(Trial(service, fault.transport))
    return caught.value


@pytest.mark.parametrize("fault", FAULTS, ids=names)
def test_a_fault_is_found_and_named(fault: Fault, harness_activation: Activation, harness_runtime: Runtime) -> None:
    """The sentence says what is wrong before all evidence, and who has to act."""
    error = found(fault, harness_activation, harness_runtime)
    assert re.search(fault.said, error.wrong), error.wrong
    assert str(error).startswith("The service 'faults' (unit) broke a promise: ")
    assert error.blame is Blame.IMAGE


@every_way
@pytest.mark.parametrize("promise", Promise)
def test_a_sound_server_keeps_every_promise(
    promise: Promise, harness_activation: Activation, harness_runtime: Runtime
) -> None:
    """The control: the same server, with no fault."""
    if not harness_activation.keeps_sockets and promise in OF_UNITS_ONLY:
        pytest.skip("a launcher's sockets go with each run")
    with harness_runtime.service(contract_of("none", promise), harness_activation) as service:
        ROWS_OF[promise].try_(Trial(service, Transport.TCP4))


def test_each_promise_has_a_fault() -> None:
    assert {fault.promise for fault in FAULTS} == set(Promise)
