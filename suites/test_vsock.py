"""Vsock beyond the tutorial: a socket for clients of the machine itself only, VMADDR_CID_LOCAL of vsock(7)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.activation import Activation
from harness.contract import Contract, SocketTable
from harness.runtime import Runtime
from harness.service import Service, open_service
from harness.transports import CID_LOCAL, Transport

pytestmark = [
    pytest.mark.about("echo"),
    pytest.mark.activations("launcher", "unit"),
    pytest.mark.requires("vsock_loopback"),
]


@pytest.fixture
def local_echo(echo_contract: Contract) -> Contract:
    """The contract of the echo image with one socket, which takes clients of CID 1 only."""
    socket = SocketTable(transports=(Transport.VSOCK,), port=3000, cid="local")
    return echo_contract.model_copy(update={"sockets": (socket,)})


@pytest.fixture
def local_service(activation: Activation, harness_runtime: Runtime, local_echo: Contract) -> Iterator[Service]:
    """The echo image behind that socket: systemd listens, or systemd-socket-activate does."""
    with open_service(
        harness_runtime.session(),
        local_echo,
        harness_runtime.image("echo"),
        activation,
        harness_runtime.lacking,
        harness_runtime.options.timeout_scale,
    ) as service:
        yield service


@pytest.mark.claim("A vsock socket is activated like the others: socat reaches it as VSOCK-CONNECT:1:3000.")
def test_a_local_socket_answers(local_service: Service) -> None:
    """`ListenStream=vsock:1:PORT` answers the first client and the next."""
    (listener,) = local_service.activated.workload.listeners
    assert listener.address == f"vsock:{CID_LOCAL}:{listener.port}"
    local_service.ask_cold(Transport.VSOCK)
    local_service.wait_awake(Transport.VSOCK)
    local_service.ask_warm(Transport.VSOCK)
