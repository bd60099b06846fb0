"""A client that says nothing: who accepts it keeps the promise, and who lets it wait does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.contract import ConnectProbe, Contract, load
from harness.contract.units import PROBES
from harness.core.errors import ProbeFailed
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from tests.faults.table import FOLDER as FAULTS
from tests.helpers.runs import ECHO, REPOSITORY
from tests.helpers.units import every_socket

STREAMS = (Transport.TCP4, Transport.TCP6, Transport.UNIX)


def asked(contract: Contract) -> Contract:
    """Return a contract whose streams are to accept their clients, and whose other sockets nobody asks."""
    sockets = tuple(
        table.model_copy(update={"probed": not set(table.transports) - {*STREAMS}}) for table in contract.sockets
    )
    return contract.model_copy(update={"sockets": sockets, "probes": (ConnectProbe(kind="connect"),)})


def test_a_connection_that_is_accepted(harness_runtime: Runtime) -> None:
    """Over every kind of stream; the container was woken by it."""
    contract = asked(load(ECHO))
    for transport in contract.transports:
        with harness_runtime.service(contract) as service:
            reply = service.ask_cold(transport)
            assert (reply.body, reply.complaint) == (b"", "")
            assert reply.times.first_byte is not None
            service.ask_warm(transport)


def test_a_connection_that_waits(harness_runtime: Runtime) -> None:
    """The kernel has taken it, and the program has not: red by the words of the diagnosis."""
    whole = asked(load(FAULTS))
    command = (*whole.image.command[:-1], "accepts-nothing")
    changed = whole.model_copy(update={"image": whole.image.model_copy(update={"command": command})})
    with harness_runtime.service(changed) as service, pytest.raises(ProbeFailed) as caught:
        service.ask_cold(Transport.TCP4)
    assert "the program accepts nothing on fd 3 (tcp4): a client waits in its queue" in caught.value.sentence
    assert "; expected to be accepted, and was not: timed out after " in caught.value.sentence


def test_units_that_say_nothing_of_their_clients(tmp_path: Path, harness_runtime: Runtime) -> None:
    """Each of their streams is to accept a connection; a service that does not is red."""
    folder = tmp_path / "shop"
    shutil.copytree(REPOSITORY / "examples" / "echo-two-sockets", folder)
    (folder / PROBES).unlink()
    assert every_socket(folder, harness_runtime) == {"tcp4@web", "tcp6", "tcp4@admin", "unix"}
