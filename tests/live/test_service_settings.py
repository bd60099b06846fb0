"""The table `service` of a contract: a program that accepts until nobody is left needs sockets that do not block."""

from __future__ import annotations

import pytest

from harness import Activation
from harness.activation import named
from harness.battery.trial import PromiseBroken, Trial
from harness.contract import Contract
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from tests.hostile.test_hostile import hostile

#: Sends back what it gets, once it has accepted all that are there.
PROGRAM = """\
import os, select, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
listener = socket.socket(fileno=3)
while select.select([listener], [], []):
    clients = []
    try:
        while True:
            clients.append(listener.accept()[0])
    except BlockingIOError:
        pass
    for client in clients:
        client.setblocking(True)
        client.sendall(client.recv(65536))
        client.close()
"""


def contract(non_blocking: bool | None) -> Contract:
    """Return the contract of the program, with or without the setting."""
    given = hostile("none")
    image = given.image.model_copy(update={"command": (*given.image.command[:4], "-c", PROGRAM)})
    service = type(given.service).model_validate({} if non_blocking is None else {"NonBlocking": non_blocking})
    limits = given.limits.model_copy(update={"cold_s": 2.0})
    return given.model_copy(update={"image": image, "service": service, "limits": limits})


@pytest.mark.harness_known_bug("podman", "4.3.1", issue="https://github.com/golang/go/issues/43894")
@pytest.mark.harness_activations("generate", "quadlet", "unit")
def test_sockets_that_do_not_block(harness_activation: Activation, harness_runtime: Runtime) -> None:
    """Its first client is answered."""
    answered(harness_runtime, harness_activation)


@pytest.mark.harness_activations("generate", "quadlet", "unit")
def test_in_a_newer_distribution(harness_activation: Activation, harness_runtime: Runtime) -> None:
    """Podman 5 leaves them as systemd hands them over; here by every activation that the machine itself has."""
    answered(harness_runtime.beside("trixie"), harness_activation)


def answered(runtime: Runtime, activation: Activation) -> None:
    """Be a client of the program with the setting."""
    with runtime.service(contract(non_blocking=True), activation) as service:
        Trial(service, Transport.TCP4).wake()


@pytest.mark.parametrize("setting", [None, False])
def test_sockets_that_block(setting: bool | None, harness_runtime: Runtime) -> None:
    """The control: its only client gets nothing, since the program waits for another one."""
    with harness_runtime.service(contract(setting)) as service, pytest.raises(PromiseBroken) as caught:
        Trial(service, Transport.TCP4).wake()
    assert "got nothing" in caught.value.wrong


def test_a_launcher_can_t() -> None:
    """It has no option for it, so that it is left out, and refused where somebody asks for it."""
    said = named("launcher").refusal(contract(non_blocking=True))
    assert said == "systemd-socket-activate(1) has no option for NonBlocking of the contract"
    assert named("launcher").refusal(contract(None)) == ""
