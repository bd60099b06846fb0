"""No client is left without its reply, however often the service is stopped, restarted or idle while clients come.

Who is not accepted yet waits in systemd's socket, also for the next run; who is accepted is the program's to finish.
"""

from __future__ import annotations

from itertools import cycle, islice

import pytest
from testinfra.host import Host

from harness import Runtime, Service, Transport, wait_until
from suites.clients import STEADY, Steady, steady_clients
from suites.watching import DropIn, invocation, limit, wait_for_another_run

#: How often the service ends, and is started again by its clients.
CYCLES = 100

TRANSPORTS = (Transport.TCP4, Transport.UNIX, Transport.UDP4)


@pytest.mark.harness_verifies("The service will be started again when the next client connects, and no client notices.")
@pytest.mark.parametrize("options", [("--idle-exit=0.2",)], ids=["idle"])
def test_no_reply_is_lost(echo: Service, harness_host: Host, harness_drop_in: DropIn, harness_runtime: Runtime) -> None:
    """As many replies as requests over 100 ends of the service: by `stop`, by `restart`, by itself when idle."""
    harness_drop_in("echo.service", "[Unit]\nStartLimitBurst=1000\n")
    done = 0
    with steady_clients(echo, *TRANSPORTS) as steady:
        for end in islice(cycle((stop, restart, idle)), CYCLES):
            wait_until_answered(echo, steady)
            if steady.lost:
                break
            before = invocation(echo)
            end(echo, harness_host, steady)
            wait_for_another_run(echo, before)
            done += 1
            if done % 10 == 0:
                harness_runtime.progress(f"no reply lost: the service ended {done} times of {CYCLES}; {counts(steady)}")
        wait_until_answered(echo, steady)
    assert not steady.lost, f"a client lost its reply; the service ended {done} times; {counts(steady)}"
    assert done == CYCLES


def stop(echo: Service, _host: Host, _steady: Steady) -> None:
    """Stop the service while clients come."""
    echo.session.manager.stop("echo.service", limit(echo))


def restart(_echo: Service, host: Host, _steady: Steady) -> None:
    """Restart the service while clients come."""
    host.check_output("systemctl --user restart echo.service")


def idle(echo: Service, _host: Host, steady: Steady) -> None:
    """Keep the clients away until the service ends, and let them come again while it does."""
    steady.come.clear()
    wait_until(
        lambda: echo.activated.state("echo.service")["ActiveState"],
        lambda state: state != "active",
        limit(echo),
        "the service to end since nobody comes",
    )
    steady.come.set()


def wait_until_answered(echo: Service, steady: Steady) -> None:
    """Wait until every client has got a reply of the current run, or one has lost its own.

    The run's first reply also says that its program has its handler for SIGTERM: systemd calls the service active
    before that, and a first process without a handler ignores the signal.
    """
    before = steady.answered
    wait_until(
        lambda: steady.answered,
        lambda now: steady.lost or all(now[transport] >= before[transport] + 2 * STEADY for transport in now),
        limit(echo),
        f"two more replies to each client than {before}",
    )


def counts(steady: Steady) -> str:
    """Return what was sent and answered over each transport."""
    return ", ".join(f"{transport}: {tally}" for transport, tally in steady.tallies.items())
