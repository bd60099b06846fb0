"""The limits that end a service which can't start: what its clients see, what systemd says, and the way out."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from harness import Service, Transport
from suites.watching import DropIn, complaint, wait_for

TCP4, UDP4, UNIX = Transport.TCP4, Transport.UDP4, Transport.UNIX

#: What a client complains about when systemd closes the stream socket in which it waits: whichever of its recv(2),
#: send(2) and shutdown(2) meets the reset.
RESET = ("Connection reset by peer", "Broken pipe", "Transport endpoint is not connected")

#: What the next client complains about.
REFUSED = "Connection refused"

#: How long a client of a datagram socket listens to a service that has ended for good, in seconds.
SILENCE_S = 0.5

#: The result of a unit that was started too often.
LIMIT_HIT = "start-limit-hit"

#: Counts the starts of an hour instead of those of 10 seconds, which five starts on a busy machine may outlast.
LONG_INTERVAL = "[Unit]\nStartLimitIntervalSec=1h\n"

#: A condition that is not met: systemd skips each start, and asks at once again since the client still waits.
IMPOSSIBLE = "[Unit]\nConditionPathExists=/nowhere\n"

#: systemd 255 and newer stop listening for a while before the trigger limit is reached; older ones skip the line.
NO_PAUSE = "[Socket]\nPollLimitBurst=1000\n"

#: The program of the container ends at once, with an error.
that_fails = pytest.mark.parametrize("command", [("/bin/false",)], ids=["fails"])


def test_the_limits_by_default(echo: Service) -> None:
    """Five starts in 10 seconds, twenty triggers in 2: what systemd.unit(5) and systemd.socket(5) say."""
    service = echo.session.manager.properties("echo.service")
    socket = echo.session.manager.properties("echo.socket")
    assert (service["StartLimitBurst"], service["StartLimitIntervalUSec"]) == (5, 10_000_000)
    assert (socket["TriggerLimitBurst"], socket["TriggerLimitIntervalUSec"]) == (20, 2_000_000)


# -- the start limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "transport", "results"),
    # Where a start has failed, systemd 252 to 257 keep that as the result, and 262 does not.
    [(("/bin/false",), TCP4, ("exit-code", LIMIT_HIT)), (("/bin/true",), UNIX, (LIMIT_HIT,))],
    ids=["fails-tcp4", "ends-unix"],
)
def test_the_start_limit_resets_a_stream_client(
    echo: Service, harness_drop_in: DropIn, transport: Transport, results: tuple[str, ...]
) -> None:
    """The first client waits through five starts, then its connection is reset; the next ones are refused."""
    harness_drop_in("echo.service", LONG_INTERVAL)
    assert_reset(echo, transport)
    assert wait_for(echo, "echo.service", ActiveState="failed")["Result"] in results
    assert wait_for(echo, "echo.socket", ActiveState="failed")["Result"] == "service-start-limit-hit"
    assert_refused(echo, TCP4, UDP4, UNIX)


@that_fails
def test_restart_runs_into_the_start_limit(echo: Service, harness_drop_in: DropIn) -> None:
    """With Restart=always a container that crashes on start ends in the same way: limit, reset, failed socket."""
    harness_drop_in("echo.service", f"{LONG_INTERVAL}[Service]\nRestart=always\n")
    assert_reset(echo, TCP4)
    assert int(wait_for(echo, "echo.service", ActiveState="failed")["NRestarts"]) >= 4
    assert wait_for(echo, "echo.socket", ActiveState="failed")["Result"] == "service-start-limit-hit"


def test_recovery_needs_reset_failed(echo: Service, harness_host: Host, harness_drop_in: DropIn) -> None:
    """The cause is gone, but a new start of the socket is not enough: the limit is still hit until `reset-failed`."""
    harness_drop_in("echo.service", f"{LONG_INTERVAL}[Service]\nExecStartPre=/usr/bin/test -e %t/repaired\n")
    assert_reset(echo, TCP4)
    wait_for(echo, "echo.socket", ActiveState="failed")
    harness_host.check_output("touch $XDG_RUNTIME_DIR/repaired")

    harness_host.check_output("systemctl --user start echo.socket")
    assert_reset(echo, TCP4)
    wait_for(echo, "echo.socket", ActiveState="failed")

    harness_host.check_output("systemctl --user reset-failed echo.service echo.socket")
    harness_host.check_output("systemctl --user start echo.socket")
    echo.ask_cold(TCP4)
    harness_host.check_output("rm $XDG_RUNTIME_DIR/repaired")


# -- the trigger limit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [TCP4, UNIX])
def test_the_trigger_limit_resets_a_stream_client(echo: Service, harness_drop_in: DropIn, transport: Transport) -> None:
    """The service was never started, so it is inactive; the socket has failed, and refuses the next clients."""
    harness_drop_in("echo.socket", NO_PAUSE)
    harness_drop_in("echo.service", IMPOSSIBLE)
    assert_reset(echo, transport)
    assert wait_for(echo, "echo.socket", ActiveState="failed")["Result"] == "trigger-limit-hit"
    assert wait_for(echo, "echo.service", ActiveState="inactive")["Result"] == "success"
    assert_refused(echo, TCP4, UDP4, UNIX)


def test_recovery_from_the_trigger_limit(echo: Service, harness_host: Host, harness_drop_in: DropIn) -> None:
    """With the cause gone, `reset-failed` and a start of the socket are enough."""
    harness_drop_in("echo.socket", NO_PAUSE)
    harness_drop_in("echo.service", IMPOSSIBLE)
    assert_reset(echo, TCP4)
    wait_for(echo, "echo.socket", ActiveState="failed")

    harness_drop_in("echo.service", "")
    harness_host.check_output("systemctl --user reset-failed echo.socket")
    harness_host.check_output("systemctl --user start echo.socket")
    echo.ask_cold(TCP4)


# -- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (f"{LONG_INTERVAL}[Service]\nExecStartPre=/bin/false\n", "service-start-limit-hit"),
        (IMPOSSIBLE, "trigger-limit-hit"),
    ],
    ids=["start", "trigger"],
)
def test_the_limits_are_silent_to_a_datagram_client(
    echo: Service, harness_drop_in: DropIn, text: str, result: str
) -> None:
    """The first client of a datagram socket is never told; the next one is refused, by ICMP."""
    harness_drop_in("echo.socket", NO_PAUSE)
    harness_drop_in("echo.service", text)
    endpoint = echo.activated.workload.endpoints[UDP4]
    with echo.session.socket(endpoint.row.family, endpoint.row.kind) as client:
        client.connect(endpoint.native)
        client.send(b"hello\n")
        assert wait_for(echo, "echo.socket", ActiveState="failed")["Result"] == result
        client.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            client.recv(100)
    assert_refused(echo, UDP4)


# -- what clients see -------------------------------------------------------------------------------------------------


def assert_reset(echo: Service, transport: Transport) -> None:
    """Be the client that waits while the limit is reached."""
    seen = complaint(echo, transport)
    assert seen in RESET, f"the client over {transport} was to be reset, but: {seen or 'it was answered'}"


def assert_refused(echo: Service, *transports: Transport) -> None:
    """Be the next client of a socket that has failed."""
    for transport in transports:
        seen = complaint(echo, transport)
        assert seen == REFUSED, f"the client over {transport} was to be refused, but: {seen or 'it was answered'}"
