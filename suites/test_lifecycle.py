"""Starting, stopping and idling: a service whose socket is there from its first client to its last."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from harness import Service, Transport, wait_until
from suites.watching import DropIn, invocation, limit, run_of, wait_for, wait_for_another_run

TCP4, UNIX = Transport.TCP4, Transport.UNIX

by_each_way = pytest.mark.harness_activations("generate", "quadlet", "unit")

#: The program ends after half a second without a client.
that_idles = pytest.mark.parametrize("options", [("--idle-exit=0.5",)], ids=["idle"])


# -- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.harness_verifies("A service may be started explicitly, and its first client then finds it running.")
@by_each_way
def test_an_explicit_start_comes_before_the_first_client(echo: Service, harness_host: Host) -> None:
    """`systemctl --user start echo.service`: the container runs, and the first client is answered by that very run."""
    harness_host.check_output("systemctl --user start echo.service")
    assert harness_host.run("systemctl --user is-active echo.service").stdout == "active\n"
    started = run_of(echo)
    assert len(started.containers) == 1, "the service is active, but its container does not run"

    echo.ask_warm(TCP4)
    assert run_of(echo) == started, "the client met another run than the one that was started"


def test_a_service_that_requires_its_socket_starts_it(echo: Service, harness_host: Host) -> None:
    """`Requires=echo.socket`: started while its socket is stopped, the service has the socket started before it."""
    harness_host.check_output("systemctl --user stop echo.socket")
    harness_host.check_output("systemctl --user start echo.service")
    wait_for(echo, "echo.socket", ActiveState="active")
    echo.ask_warm(TCP4)


@pytest.mark.harness_activations("generate")
def test_a_generated_service_does_not_start_its_socket(echo: Service, harness_host: Host) -> None:
    """`podman generate systemd` knows of no socket unit: started while that is stopped, the service gets no sockets."""
    harness_host.check_output("systemctl --user stop echo.socket")
    harness_host.run("systemctl --user start echo.service")
    wait_until(
        lambda: echo.session.output("echo.service"),
        lambda text: "no sockets were passed" in text,
        limit(echo),
        "the program to say that it has no sockets",
    )
    wait_for(echo, "echo.socket", ActiveState="inactive")


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.harness_verifies("A service that was stopped is started again by the next client.")
@by_each_way
def test_the_next_client_starts_a_stopped_service(echo: Service, harness_host: Host) -> None:
    """`systemctl --user stop echo.service`: no container any more, the socket listens; a client makes a new run."""
    echo.ask_cold(TCP4)
    echo.wait_active(TCP4)
    first = run_of(echo)
    harness_host.check_output("systemctl --user stop echo.service")
    assert run_of(echo).containers == (), "the service was stopped, but its container runs"
    wait_for(echo, "echo.socket", SubState="listening")

    echo.ask_cold(TCP4)
    wait_for_another_run(echo, first.invocation)


@pytest.mark.harness_verifies(
    "A service may end by itself after some time of inactivity, and the next client starts it again."
)
@by_each_way
@that_idles
def test_a_service_that_exits_when_idle(echo: Service) -> None:
    """Nobody comes for a while: inactive, a success, the socket listens; the next client makes a new run."""
    echo.ask_cold(TCP4)
    first = invocation(echo)
    wait_for(echo, "echo.service", ActiveState="inactive", Result="success")
    wait_for(echo, "echo.socket", SubState="listening")

    echo.ask_cold(TCP4)
    wait_for_another_run(echo, first)


@pytest.mark.harness_verifies("Whether a service that ended by itself stays stopped depends on its directive Restart=.")
@that_idles
def test_restart_always_wakes_an_idle_service_without_a_client(echo: Service, harness_drop_in: DropIn) -> None:
    """`Restart=always`: the service that exits when idle is started again although nobody came."""
    harness_drop_in("echo.service", "[Service]\nRestart=always\n")
    echo.ask_cold(TCP4)
    first = invocation(echo)
    wait_for_another_run(echo, first)


# -- while it runs ----------------------------------------------------------------------------------------------------


def test_reloading_the_manager_leaves_the_service_alone(echo: Service, harness_host: Host) -> None:
    """`systemctl --user daemon-reload`: the same run goes on and answers, and so does the socket after it."""
    echo.ask_cold(TCP4)
    echo.wait_active(TCP4)
    harness_host.check_output("systemctl --user daemon-reload")
    echo.ask_warm(TCP4)  # takes no reply of another run

    echo.stop_service()
    echo.ask_cold(TCP4)
