"""Two sockets of one transport: each is asked, by its name, in one activation."""

from __future__ import annotations

import re

import pytest

from harness.activation import Activation
from harness.battery.promises import PROMISES
from harness.battery.trial import PromiseBroken, Trial
from harness.contract import Contract, Promise, load
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from tests.faults.table import FOLDER

every_way = pytest.mark.harness_activations("generate", "launcher", "quadlet", "unit")


def contract_of(fault: str) -> Contract:
    """Return the contract of the server with a fault."""
    contract = load(FOLDER / "named")
    image = contract.image.model_copy(update={"command": (*contract.image.command[:-1], fault)})
    return contract.model_copy(update={"image": image})


def every_socket(fault: str, activation: Activation, runtime: Runtime) -> None:
    """Try the promise."""
    with runtime.service(contract_of(fault), activation) as service:
        PROMISES[Promise.EVERY_SOCKET].attempt(Trial(service, Transport.TCP4))


@every_way
def test_each_of_two_sockets_of_a_transport_answers(harness_activation: Activation, harness_runtime: Runtime) -> None:
    every_socket("names", harness_activation, harness_runtime)


@every_way
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("names-exchanged", r"over tcp4@web, expected 'web: who\\n', got 'admin: who\\n'"),
        ("names-one-unserved", r"over tcp4@admin, the program accepts nothing on the socket 'admin' \(tcp4\)"),
    ],
)
def test_a_socket_that_is_served_wrong_is_named(
    fault: str, said: str, harness_activation: Activation, harness_runtime: Runtime
) -> None:
    """The control: one server takes the sockets for each other, one forgets the second."""
    with pytest.raises(PromiseBroken) as caught:
        every_socket(fault, harness_activation, harness_runtime)
    assert re.search(said, caught.value.wrong), caught.value.wrong
