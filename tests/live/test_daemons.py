"""The daemons below containers/: what they keep, what their contracts had to say for them to work, and their limits.

A limit is an xfail, and strict, so that the version without it is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from harness.activation.service import Service
from harness.contract import BytesProbe, Contract, ExecProbe, SocketTable, load
from harness.core.errors import Blame, ProbeFailed
from harness.core.transports import Transport
from harness.images.store import Image
from harness.probes import Client
from harness.runtime.runtime import Runtime
from tests.helpers.runs import REPOSITORY

Open = Callable[[Contract], AbstractContextManager[Service]]

#: For replies that never come, in seconds.
SOON_S = 3.0


@pytest.fixture
def opened(harness_runtime: Runtime, built: Callable[[str], Image]) -> Open:
    """Open the service of a contract for one of the images, by a service unit."""

    @contextmanager
    def opening(contract: Contract) -> Iterator[Service]:
        image = built(f"containers/{contract.name}")
        with harness_runtime.service(contract, "unit", image) as service:
            yield replace(service, timeout_scale=2.0)

    return opening


def daemon(name: str) -> Contract:
    """Return the contract of a daemon."""
    return load(REPOSITORY / "containers" / name)


def impatient(contract: Contract, **changes: Any) -> Contract:
    """Return the contract, changed, with a client that soon gives up."""
    limits = contract.limits.model_copy(update={"cold_s": SOON_S})
    return contract.model_copy(update={"limits": limits, **changes})


def asking(contract: Contract, transport: Transport, **changes: Any) -> Contract:
    """Return the contract with another client for one transport."""
    probe = contract.probe(transport)
    assert isinstance(probe, ExecProbe)
    others = tuple(item for item in contract.probes if item is not probe)
    return contract.model_copy(update={"probes": (probe.model_copy(update=changes), *others)})


# -- MariaDB ----------------------------------------------------------------------------------------------------------


def test_mariadb_keeps_its_data(opened: Open) -> None:
    """What one activation has written, the next one reads, whichever way the client comes."""
    with opened(daemon("mariadb")) as service:
        first = service.ask_cold(Transport.TCP4)
        service.wait_active(Transport.TCP4)
        service.stop_service()
        second = service.ask_cold(Transport.UNIX)
    assert (first.body, second.body) == (b"1\tharness@127.0.0.1\n", b"2\tharness@localhost\n")


def test_a_wrong_row_is_told(opened: Open) -> None:
    """A query whose result is another one fails its probe, with the row, and without the password."""
    contract = asking(daemon("mariadb"), Transport.TCP4, pattern=r"^nobody came$")
    with opened(contract) as service, pytest.raises(ProbeFailed) as caught:
        service.ask_cold(Transport.TCP4)
    assert caught.value.blame is Blame.IMAGE
    assert r"expected an output that matches '^nobody came$', got '1\tharness@127.0.0.1\n'" in str(caught.value)
    assert "password={secret:password}" in str(caught.value)
    assert service.supplies.secrets["password"] not in str(caught.value)


def test_a_wrong_password_is_told(opened: Open) -> None:
    """The account has the contract's secret as its password, and no other."""
    contract = asking(daemon("mariadb"), Transport.TCP4, stdin="[client]\npassword=guessed\n")
    with (
        opened(contract) as service,
        pytest.raises(ProbeFailed, match=r"expected the exit status 0, got 1 .*Access denied"),
    ):
        service.ask_cold(Transport.TCP4)


# -- D-Bus ------------------------------------------------------------------------------------------------------------


def test_dbus_lets_in_its_own_user_alone(opened: Open) -> None:
    """Whoever has the session is root in the container, so a daemon of another user there turns him away."""
    contract = daemon("dbus-daemon")
    nobodys = contract.model_copy(update={"image": contract.image.model_copy(update={"user": "nobody"})})
    with (
        opened(nobodys) as service,
        pytest.raises(ProbeFailed, match=r"expected the exit status 0, got 1 .*not connected"),
    ):
        service.ask_cold(Transport.UNIX)


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "transport",
    [
        Transport.TCP4,
        pytest.param(
            Transport.TCP6,
            marks=pytest.mark.xfail(
                raises=ProbeFailed,
                strict=True,
                reason="httpd knows its sockets by their ports alone, and serves the first of two with one port",
            ),
        ),
    ],
)
def test_httpd_serves_two_addresses_of_one_port(opened: Open, transport: Transport) -> None:
    """127.0.0.1:8080 and [::1]:8080 as two sockets, where the contract has one for both."""
    sockets = tuple(
        SocketTable(transports=(family,), port=8080, fixed_port=True) for family in (Transport.TCP4, Transport.TCP6)
    )
    with opened(impatient(daemon("httpd"), sockets=sockets)) as service:
        service.ask_cold(transport)


@pytest.mark.parametrize(
    "half_close",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.xfail(
                raises=ProbeFailed,
                strict=True,
                reason="systemd-socket-proxyd(8) ends with the client's side, replies or not",
            ),
        ),
    ],
    ids=["open", "half-close"],
)
@pytest.mark.parametrize("transport", [Transport.TCP4, Transport.UNIX])
def test_a_proxied_daemon_answers_while_its_client_stays(opened: Open, transport: Transport, half_close: bool) -> None:
    """A reply that takes its time gets to a client that keeps its side open, and is lost for one that half-closes."""
    busy = 'EVAL "local n = 0 for i = 1, 1e7 do n = n + i end return n" 0\r\n'
    probe = BytesProbe(kind="bytes", send=busy, half_close=half_close, expect=":50000005000000\r\n")
    with opened(daemon("redis").model_copy(update={"probes": (probe,)})) as service:
        service.ask_cold(transport)
        service.wait_active(transport)
        service.ask_warm(transport, Client.NATIVE)


@pytest.mark.xfail(
    raises=ProbeFailed, strict=True, reason="PipeWire's module-access waits for a client whose process it can't see"
)
def test_pipewire_in_a_process_namespace_of_its_own(opened: Open) -> None:
    """PipeWire answers without the session's processes in sight."""
    contract = daemon("pipewire-daemon")
    options = contract.image.options.model_copy(update={"pid": None})
    image = contract.image.model_copy(update={"options": options})
    with opened(impatient(contract, image=image)) as service:
        service.ask_cold(Transport.UNIX)
