"""The fixture `socket_activated`: a service for a contract, for the path of one, or for an image."""

from __future__ import annotations

import pytest

from harness import Image, SocketActivated, Transport
from harness.contract import load
from harness.core.errors import ContractError, UsageError
from tests.helpers.runs import ECHO

TCP4 = Transport.TCP4


def test_an_image_by_its_reference(socket_activated: SocketActivated, echo_image: Image) -> None:
    """Its sockets and its probe stand in the test."""
    service = socket_activated(
        echo_image.reference,
        listen=[{"transports": ["tcp4"], "port": 3000}],
        probe={"kind": "bytes", "send": "abc\n", "expect": "abc\n"},
    )
    assert service.image.reference == echo_image.reference
    assert not service.is_active(TCP4)
    assert service.ask_cold(TCP4).body == b"abc\n"
    service.wait_active(TCP4)


@pytest.mark.usefixtures("echo_image")
def test_a_contract_and_another_activation(socket_activated: SocketActivated) -> None:
    service = socket_activated(load(ECHO), activation="generate")
    assert service.activation == "generate"
    service.ask_cold(TCP4)
    service.wait_active(TCP4)


def test_mistakes(socket_activated: SocketActivated) -> None:
    """A path that isn't there, and all that is wrong with two tables."""
    with pytest.raises(UsageError, match=r"nowhere\.toml' can't be read"):
        socket_activated("nowhere.toml")
    with pytest.raises(ContractError) as caught:
        socket_activated("localhost/x", listen=[{"transports": ["tcp5"]}], probe={"kind": "bytes", "sent": "a"})
    assert {key.partition(".")[0] for key, _text in caught.value.mistakes} == {"sockets[0]", "probe"}
    assert "localhost/x (in a test)" in str(caught.value)
