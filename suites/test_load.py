"""Many clients: at once on a socket that sleeps, and thousands on a service that runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from testinfra.host import Host

from harness import Client, Runtime, Service, Transport, wait_until
from suites.clients import crowd
from suites.watching import limit, run_of

#: Clients that come at once; systemd's Backlog= is 4096, or what net.core.somaxconn allows.
AT_ONCE = 200

#: Requests to one run of the service.
MANY = 10_000

#: Requests outstanding at any time: so few datagrams fit into any receive buffer.
WINDOW = 16

#: What a process may grow by over the second half of the requests, in kB.
GROWTH_KB = 1024


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process has of the machine."""

    descriptors: int
    resident_kb: int


@pytest.mark.harness_verifies(
    "Clients that connect before the container runs wait in the socket, and all are answered."
)
@pytest.mark.parametrize("transport", [Transport.TCP4, Transport.UNIX])
def test_a_crowd_on_a_cold_socket(echo: Service, transport: Transport) -> None:
    """200 clients at once wake one container, and all are answered."""
    assert not echo.is_active(transport)
    tally = crowd(echo, transport, AT_ONCE, AT_ONCE)
    assert tally.answered == AT_ONCE, f"{transport}: {tally}"
    assert len(run_of(echo).containers) == 1


@pytest.mark.parametrize("transport", [Transport.TCP4, Transport.UNIX, Transport.UDP4])
def test_thousands_of_requests(
    echo: Service,
    harness_host: Host,
    transport: Transport,
    harness_runtime: Runtime,
) -> None:
    """Every one of 10 000 requests is answered, and neither the service nor its clients' process grows by them."""
    echo.ask_cold(transport)
    echo.wait_active(transport)
    # What is opened once, with the first client and the first line of progress, does not count.
    echo.ask_warm(transport, Client.NATIVE)
    harness_runtime.progress(f"load over {transport}: {MANY} requests, {WINDOW} at a time")
    before = (of_the_container(harness_host), of_the_clients())
    halves = []
    for _half in range(2):
        tally = crowd(echo, transport, MANY // 2, WINDOW)
        assert tally.answered == MANY // 2, f"{transport}, {WINDOW} at a time: {tally}"
        halves.append((of_the_container(harness_host), of_the_clients()))
        harness_runtime.progress(f"load over {transport}: {tally}; container, clients: {halves[-1]}")

    # The last connection may be closed a moment after its client has seen the end.
    wait_until(
        lambda: of_the_container(harness_host).descriptors,
        lambda number: number <= before[0].descriptors,
        limit(echo, 5),
        f"the container to have {before[0].descriptors} open descriptors again, as before {MANY} requests",
    )
    now, once = of_the_clients().descriptors, before[1].descriptors
    assert now <= once, f"the clients have {now} open descriptors, and had {once} before {MANY} requests"
    for who, first, second in zip(("container", "clients"), *halves, strict=True):
        grown = second.resident_kb - first.resident_kb
        assert grown < GROWTH_KB, f"the {who} grew by {grown} kB over the last {MANY // 2} requests"


def of_the_container(host: Host) -> Footprint:
    """Return the footprint of the container's first process."""
    pid = host.check_output("podman inspect --format '{{.State.Pid}}' echo")
    # Only in podman's user namespace may the session's account see the descriptors of the container's own.
    descriptors = host.check_output(f"podman unshare ls /proc/{pid}/fd").split()
    return Footprint(len(descriptors), _resident_kb(host.check_output(f"cat /proc/{pid}/status")))


def of_the_clients() -> Footprint:
    """Return the footprint of this process, which all clients are threads of."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return Footprint(len(list(Path("/proc/self/fd").iterdir())), _resident_kb(status))


def _resident_kb(status: str) -> int:
    """Return VmRSS of proc_pid_status(5)."""
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])
