"""The daemons that the tutorial names, in the tutorial's ways: each takes its sockets from systemd."""

from __future__ import annotations

import pytest

from harness import Activation, Contract, Runtime, contract_fixture

#: The contracts of the tutorial's list, in its order.
daemon = contract_fixture("httpd", "mariadb", "dbus-daemon", "pipewire-daemon", "gunicorn", "cups")


@pytest.mark.harness_verifies(
    "Apache HTTP server, MariaDB, D-Bus, PipeWire, Gunicorn and CUPS all support socket activation."
)
@pytest.mark.harness_activations("generate", "quadlet")
def test_a_daemon_supports_socket_activation(
    harness_runtime: Runtime, harness_activation: Activation, daemon: Contract
) -> None:
    """Its own client is the first one over one of its sockets, and is answered over each of the others."""
    first, *others = (item for item in daemon.transports if item not in harness_runtime.lacking)
    with harness_runtime.service(daemon, harness_activation) as service:
        service.ask_cold(first)
        service.wait_active(first)
        for transport in others:
            service.ask_warm(transport)
