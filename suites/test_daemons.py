"""The daemons that the tutorial names, in the tutorial's ways: each takes its sockets from systemd."""

from __future__ import annotations

import pytest

from harness.activation import Activation
from harness.runtime import Runtime
from harness.service import open_service

#: The contracts of the tutorial's list, in its order.
DAEMONS = ("httpd", "mariadb", "dbus-daemon", "pipewire-daemon", "gunicorn", "cups")


@pytest.mark.claim("Apache HTTP server, MariaDB, D-Bus, PipeWire, Gunicorn and CUPS all support socket activation.")
@pytest.mark.activations("generate", "quadlet")
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.about(name)) for name in DAEMONS])
def test_a_daemon_supports_socket_activation(harness_runtime: Runtime, activation: Activation, name: str) -> None:
    """Its own client is the first one over one of its sockets, and is answered over each of the others."""
    contract = harness_runtime.contracts[name]
    first, *others = (item for item in contract.transports if item not in harness_runtime.lacking)
    with open_service(
        harness_runtime.session(),
        contract,
        harness_runtime.image(name),
        activation,
        harness_runtime.lacking,
        harness_runtime.options.timeout_scale,
        harness_runtime.client_images(name),
    ) as service:
        service.ask_cold(first)
        service.wait_awake(first)
        for transport in others:
            service.ask_warm(transport)
