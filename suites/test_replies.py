"""Every image, by every activation, over every transport: the first client is answered, and so are the next."""

from __future__ import annotations

import pytest

from harness import Case, Service

#: How often each client asks a service that is awake: with the cold one, a program that ends after every third client
#: is met, whoever asks.
ROUNDS = 3


@pytest.mark.harness_verifies(
    "An image that supports socket activation answers its first client and the next, by any activation."
)
def test_reply(harness_service: Service, harness_case: Case) -> None:
    """The cold probe and then warm ones get what the contract promises, of one run, within the times it promises."""
    harness_service.ask_cold(harness_case.transport)
    harness_service.wait_active(harness_case.transport)
    for client in harness_service.clients(harness_case.transport) * ROUNDS:
        harness_service.ask_warm(harness_case.transport, client)


@pytest.mark.harness_verifies("A service that was stopped is started again by the next client.")
def test_reply_again(harness_service: Service, harness_case: Case) -> None:
    """After the service was stopped, the next client wakes it again."""
    harness_service.ask_cold(harness_case.transport)
    harness_service.wait_active(harness_case.transport)
    harness_service.stop_service()
    harness_service.ask_cold(harness_case.transport)
