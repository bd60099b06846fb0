"""Every image, by every activation, over every transport: the first client is answered, and so are the next."""

from __future__ import annotations

from harness.cases import Case
from harness.probes import clients
from harness.service import Service


def test_reply(service: Service, case: Case) -> None:
    """The cold probe and then warm ones get what the contract promises, within the times it promises."""
    service.ask_cold(case.transport)
    service.wait_awake(case.transport)
    for client in clients(case.contract.probe(case.transport)):
        service.ask_warm(case.transport, client)


def test_reply_again(service: Service, case: Case) -> None:
    """After the service was stopped, the next client wakes it again."""
    service.ask_cold(case.transport)
    service.wait_awake(case.transport)
    service.rearm()
    service.ask_cold(case.transport)
