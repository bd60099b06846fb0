"""What goes wrong around a running service, and what the next client sees of it."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from harness import Service, Transport
from suites.watching import LIMIT_S, DropIn, complaint, run_of, wait_for, wait_for_another_run, wait_for_the_end

TCP4, UNIX = Transport.TCP4, Transport.UNIX

#: Ends the container's first process as a crash does, and conmon as the kernel does when memory is short.
KILLS = {
    "container": "podman kill --signal=KILL echo",
    "conmon": "kill -KILL $(systemctl --user show --property=MainPID --value echo.service)",
}

#: What systemd calls these ends: the container's status 137 is what conmon ends with.
RESULTS = {"container": "exit-code", "conmon": "signal"}

killed = pytest.mark.parametrize("what", list(KILLS))


# -- processes --------------------------------------------------------------------------------------------------------


@killed
def test_the_next_client_starts_a_killed_service(echo: Service, harness_host: Host, what: str) -> None:
    """Without Restart= the service has failed, no container is left, the socket listens: a client makes a new run."""
    echo.ask_cold(TCP4)
    echo.wait_active(TCP4)
    first = run_of(echo)
    harness_host.check_output(KILLS[what])
    assert wait_for(echo, "echo.service", ActiveState="failed")["Result"] == RESULTS[what]
    assert run_of(echo).containers == (), "the service ended, but its container runs"
    assert wait_for(echo, "echo.socket", SubState="listening")["Result"] == "success"

    echo.ask(TCP4)
    wait_for_another_run(echo, first.invocation)


def test_a_killed_container_takes_its_client_with_it(echo: Service, harness_host: Host) -> None:
    """The client that is being served loses its connection: it was the program's, and no longer systemd's."""
    endpoint = echo.activated.workload.endpoints[TCP4]
    echo.ask_cold(TCP4)
    echo.wait_active(TCP4)
    with echo.session.socket(endpoint.row.family, endpoint.row.kind) as client:
        client.settimeout(LIMIT_S)
        client.connect(endpoint.native)
        client.sendall(b"hello")
        assert client.recv(100) == b"hello", "the client is accepted"
        harness_host.check_output(KILLS["container"])
        assert client.recv(100) == b"", "the connection outlived the process that had it"
    echo.ask(TCP4)


@pytest.mark.harness_verifies("Depending on Restart=, a service whose container ended is started again.")
@killed
@pytest.mark.parametrize("restart", ["on-failure", "always"])
@pytest.mark.harness_activations("quadlet", "unit")
def test_restart_needs_no_client(
    echo: Service, harness_host: Host, harness_drop_in: DropIn, what: str, restart: str
) -> None:
    """With Restart=, the service is active again before any client."""
    harness_drop_in("echo.service", f"[Service]\nRestart={restart}\n")
    assert_restarted(echo, harness_host, what)


@killed
@pytest.mark.harness_activations("generate")
def test_a_generated_service_restarts(echo: Service, harness_host: Host, what: str) -> None:
    """`podman generate systemd` writes Restart=on-failure."""
    assert_restarted(echo, harness_host, what)


def assert_restarted(echo: Service, host: Host, what: str) -> None:
    """Kill a process of the running service, and see another run before the next client, who meets that one."""
    echo.ask_cold(TCP4)
    echo.wait_active(TCP4)
    first = run_of(echo)
    host.check_output(KILLS[what])
    wait_for_another_run(echo, first.invocation)
    second = run_of(echo)
    assert second.containers != first.containers

    echo.ask(TCP4)
    assert run_of(echo) == second, "the client met another run than the one that was started without it"


def test_podman_restart_ends_the_run(echo: Service, harness_host: Host) -> None:
    """`podman restart echo` has no sockets to hand on: systemd's run is over, with or without an error; a client helps.

    What it starts instead goes with the run that it was not part of, if podman comes that far.
    """
    echo.ask_cold(TCP4)
    echo.wait_active(TCP4)
    first = run_of(echo)
    harness_host.run("podman restart --time 2 echo")
    wait_for_the_end(echo)
    wait_for(echo, "echo.socket", SubState="listening")

    echo.ask(TCP4)
    wait_for_another_run(echo, first.invocation)
    (container,) = run_of(echo).containers
    assert container not in first.containers


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_unix_socket_that_was_unlinked(echo: Service, harness_host: Host) -> None:
    """Its clients find no file, while systemd listens to what has no name any more; a restart of the socket repairs."""
    (listener,) = [item for item in echo.activated.workload.listeners if item.path]
    harness_host.check_output(f"rm {listener.path}")
    seen = complaint(echo, UNIX)
    assert seen == "No such file or directory", f"the socket's file is gone, but its client {seen or 'was answered'}"
    assert wait_for(echo, "echo.socket", ActiveState="active")["SubState"] == "listening"
    echo.ask_cold(TCP4)

    harness_host.check_output("systemctl --user restart echo.socket")
    echo.ask(UNIX)
