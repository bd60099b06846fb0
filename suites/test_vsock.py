"""Vsock beyond the tutorial: a socket for clients of the machine itself only, VMADDR_CID_LOCAL of vsock(7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import Activation, Contract, Image, Runtime, Service, Transport

pytestmark = [
    pytest.mark.harness_activations("launcher", "unit"),
    pytest.mark.harness_requires("vsock_loopback"),
]


@pytest.fixture
def local_echo(echo_contract: Contract) -> Contract:
    """The contract of the echo image with one socket, which takes clients of CID 1 only."""
    socket = next(table for table in echo_contract.sockets if Transport.VSOCK in table.transports)
    return echo_contract.model_copy(update={"sockets": (socket.model_copy(update={"cid": "local"}),)})


@pytest.fixture
def local_service(
    harness_activation: Activation, harness_runtime: Runtime, local_echo: Contract, echo_image: Image
) -> Iterator[Service]:
    """The echo image behind that socket: systemd listens, or systemd-socket-activate does."""
    with harness_runtime.service(local_echo, harness_activation, echo_image) as service:
        yield service


@pytest.mark.harness_verifies("A vsock socket is activated like the others: socat reaches it as VSOCK-CONNECT:1:3000.")
def test_a_local_socket_answers(local_service: Service) -> None:
    """`ListenStream=vsock:1:PORT` answers the first client and the next."""
    (listener,) = local_service.activated.workload.listeners
    assert listener.address == f"vsock:1:{listener.port}"
    local_service.ask_cold(Transport.VSOCK)
    local_service.wait_active(Transport.VSOCK)
    local_service.ask_warm(Transport.VSOCK)
