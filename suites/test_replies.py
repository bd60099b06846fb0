"""Every image, by every activation, over every transport: the first client is answered, and so are the next."""

from __future__ import annotations

import pytest

from harness.cases import Case
from harness.probes import clients
from harness.service import Service


@pytest.mark.claim("An image that supports socket activation answers its first client and the next, by any activation.")
def test_reply(service: Service, case: Case) -> None:
    """The cold probe and then warm ones get what the contract promises, within the times it promises."""
    service.ask_cold(case.transport)
    service.wait_awake(case.transport)
    for client in clients(case.contract.probe(case.transport)):
        service.ask_warm(case.transport, client)


@pytest.mark.claim("A service that was stopped is started again by the next client.")
def test_reply_again(service: Service, case: Case) -> None:
    """After the service was stopped, the next client wakes it again."""
    service.ask_cold(case.transport)
    service.wait_awake(case.transport)
    service.rearm()
    service.ask_cold(case.transport)
