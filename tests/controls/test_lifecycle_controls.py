"""Negative controls of the lifecycle and load suites: each is red for its own reason, in words for a stranger.

The image is that of tests/broken under the contract's name `echo`; what no image can do, mutations.py does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.images.store import Image
from harness.runtime.runtime import Runtime
from tests.helpers.contracts import written
from tests.helpers.controls import assert_has
from tests.helpers.runs import REPOSITORY, run_pytest

BROKEN = REPOSITORY / "tests" / "broken"

#: Echo's sockets that every machine has, and a broken program that is told which promise to break.
CONTRACT = """\
schema = 1
name = "echo"

[image]
containerfile = "../Containerfile"
command = ["/usr/bin/python3", "-I", "-S", "-B", "/usr/local/lib/broken.py", "{mode}"]

[[sockets]]
transports = ["tcp4"]
port = 3000

[[sockets]]
transports = ["udp4"]
port = 3000

[[sockets]]
transports = ["unix"]
path = "echo_stream_sock"

[probe]
kind = "bytes"
send = "hello\\n"
expect = "hello\\n"
"""

LIFECYCLE = "test_lifecycle.py::test_"
FAILURES = "test_lifecycle_failures.py::test_"
LIMITS = "test_lifecycle_limits.py::test_"
LOAD = "test_load.py::test_"


@dataclass(frozen=True, slots=True)
class Control:
    """What is broken, which tests notice it, and what they say."""

    #: A test -> regular expressions for its text, in the order in which they have to match.
    words: Mapping[str, tuple[str, ...]]
    #: The promise that the image breaks; the echo image itself where it breaks none.
    image: str = ""
    #: What is spoilt outside of the image.
    sabotage: str = ""
    #: Factor for all time limits, so that waiting in vain does not take long.
    timeout_scale: float = 0.3


def waited_for(what: str, seen: str) -> tuple[str, ...]:
    """Return what is said when something does not come: what, what came instead, and what the units say."""
    return rf"^Waited \d+\.\d s for {what}; the last thing seen was '{seen}", r"^  units:\n", r"^\[image error: "


CONTROLS = {
    # -- starting and stopping
    "keeps every promise": Control(
        {f"{LIFECYCLE}a_service_that_exits_when_idle[unit-idle]": ()}, image="honest", timeout_scale=1
    ),
    "starts no container": Control(
        {
            f"{LIFECYCLE}an_explicit_start_comes_before_the_first_client[unit]": (
                r"AssertionError: the service is active, but its container does not run",
            )
        },
        sabotage="starts-nothing",
    ),
    "ends after its first client": Control(
        {
            f"{LIFECYCLE}an_explicit_start_comes_before_the_first_client[unit]": (
                r"AssertionError: the client met another run than the one that was started",
            )
        },
        image="ends-after-client",
    ),
    "does not require its socket": Control(
        {
            f"{LIFECYCLE}a_service_that_requires_its_socket_starts_it": waited_for(
                r"'echo\.socket' to say ActiveState=active", r"\{'ActiveState': 'inactive'"
            )
        },
        sabotage="without-requires",
        timeout_scale=0.1,
    ),
    "requires its socket though it is generated": Control(
        {
            f"{LIFECYCLE}a_generated_service_does_not_start_its_socket[generate]": (
                r"^Waited \d+\.\d s for the program to say that it has no sockets",
            )
        },
        sabotage="generated-requires",
        timeout_scale=0.1,
    ),
    "leaves its container": Control(
        {
            f"{LIFECYCLE}the_next_client_starts_a_stopped_service[unit]": (
                r"AssertionError: the service was stopped, but its container runs$",
            ),
            f"{FAILURES}the_next_client_starts_a_killed_service[conmon]": (
                r"AssertionError: the service ended, but its container runs$",
            ),
        },
        sabotage="leaves-container",
    ),
    "is not stopped": Control(
        {
            f"{LIFECYCLE}the_next_client_starts_a_stopped_service[unit]": (
                r"AssertionError: the service was stopped, but its container runs$",
            )
        },
        sabotage="no-stop",
    ),
    "spoils systemd's socket at its end": Control(
        {
            f"{LIFECYCLE}the_next_client_starts_a_stopped_service[unit]": waited_for(
                r"'echo\.socket' to say SubState=listening", r"\{'ActiveState': 'failed'"
            ),
        },
        image="shuts-down",
        timeout_scale=0.1,
    ),
    "does not end when idle": Control(
        {
            f"{LIFECYCLE}a_service_that_exits_when_idle[unit-idle]": waited_for(
                r"'echo\.service' to say ActiveState=inactive, Result=success", r"\{'ActiveState': 'active'"
            ),
        },
        image="never-idles",
        timeout_scale=0.1,
    ),
    "is started again though nobody came": Control(
        {
            f"{LIFECYCLE}a_service_that_exits_when_idle[unit-idle]": (
                r"^Waited \d+\.\d s for 'echo\.service' to say ActiveState=inactive, Result=success",
            ),
            f"{FAILURES}the_next_client_starts_a_killed_service[container]": (
                r"^Waited \d+\.\d s for 'echo\.service' to say ActiveState=failed",
            ),
        },
        sabotage="restarts",
        timeout_scale=0.15,
    ),
    "does not survive a reload": Control(
        {
            f"{LIFECYCLE}reloading_the_manager_leaves_the_service_alone": (
                r"another run answered: the program ended with status 0 after its first reply\.$",
            )
        },
        sabotage="reload-restarts",
    ),
    # -- without what the tests write beside the unit
    "is not started again": Control(
        {
            f"{LIFECYCLE}restart_always_wakes_an_idle_service_without_a_client[idle]": waited_for(
                r"'echo\.service' to be active in another run than [0-9a-f]{32}", r"\('[0-9a-f]{32}', .*'inactive'"
            ),
            f"{FAILURES}restart_needs_no_client[unit-on-failure-container]": waited_for(
                r"'echo\.service' to be active in another run than [0-9a-f]{32}", r"\('[0-9a-f]{32}', .*'failed'"
            ),
            f"{LIMITS}the_trigger_limit_resets_a_stream_client[tcp4]": (
                r"AssertionError: the client over tcp4 was to be reset, but: it was answered$",
            ),
            f"{LIMITS}the_limits_are_silent_to_a_datagram_client[trigger]": waited_for(
                r"'echo\.socket' to say ActiveState=failed", r"\{'ActiveState': 'active'"
            ),
        },
        sabotage="no-drop-ins",
        timeout_scale=0.15,
    ),
    # -- failures
    "was generated without a restart": Control(
        {
            f"{FAILURES}a_generated_service_restarts[generate-conmon]": waited_for(
                r"'echo\.service' to be active in another run than [0-9a-f]{32}", r"\('[0-9a-f]{32}', .*'failed'"
            )
        },
        sabotage="generated-without-restart",
        timeout_scale=0.15,
    ),
    "is not restarted by podman": Control(
        {
            f"{FAILURES}podman_restart_ends_the_run": waited_for(r"the end of 'echo\.service'", "active"),
        },
        sabotage="no-podman-restart",
        timeout_scale=0.1,
    ),
    "is not killed": Control(
        {f"{FAILURES}a_killed_container_takes_its_client_with_it": (r"TimeoutError: timed out$",)},
        sabotage="no-kill",
    ),
    "has its socket's file": Control(
        {f"{FAILURES}a_unix_socket_that_was_unlinked": (r"the socket's file is gone, but its client was answered$",)},
        sabotage="no-unlinking",
    ),
    "has no new socket file": Control(
        {
            f"{FAILURES}a_unix_socket_that_was_unlinked": (
                r"^The service 'echo' \(unit\) failed its next probe by socat over unix: "
                r"expected 'hello\\n', got nothing: .*No such file",
            )
        },
        sabotage="no-socket-restart",
    ),
    "has the same image": Control(
        {
            "test_lifecycle_image.py::test_the_next_run_has_the_new_image": (
                r"AssertionError: the tag is still that of the same image$",
            )
        },
        sabotage="no-build",
    ),
    # -- limits
    "has no start limit": Control(
        {
            f"{LIMITS}the_limits_by_default": (r"assert \(0, 10000000\) == \(5, 10000000\)",),
            f"{LIMITS}the_start_limit_resets_a_stream_client[fails-tcp4]": (
                r"the client over tcp4 was to be reset, but: timed out after \d+\.\d s$",
            ),
            f"{LIMITS}the_start_limit_resets_a_stream_client[ends-unix]": (
                r"the client over unix was to be reset, but: timed out after \d+\.\d s$",
            ),
            f"{LIMITS}restart_runs_into_the_start_limit[fails]": (
                r"the client over tcp4 was to be reset, but: timed out after \d+\.\d s$",
            ),
            # A machine fast enough for 20 starts in 2 s meets the limit of the triggers instead.
            f"{LIMITS}the_limits_are_silent_to_a_datagram_client[start]": (
                r"^(Waited \d+\.\d s for 'echo\.socket' to say ActiveState=failed"
                r"|E +AssertionError: assert 'trigger-limit-hit' == 'service-start-limit-hit')",
            ),
        },
        sabotage="no-start-limit",
        timeout_scale=0.1,
    ),
    "is not forgiven": Control(
        {
            f"{LIMITS}recovery_needs_reset_failed": (
                r"^The service 'echo' \(unit\) was awake before its first client came\.$",
                r"^    echo\.service: .*'failed'",
            )
        },
        sabotage="no-reset",
    ),
    "has a socket that is not started again": Control(
        {
            f"{LIMITS}recovery_from_the_trigger_limit": (
                r"^The service 'echo' \(unit\) failed its cold probe by socat over tcp4: "
                r"expected 'hello\\n', got nothing: .*Connection refused",
            ),
            f"{LIMITS}recovery_needs_reset_failed": (
                r"AssertionError: the client over tcp4 was to be reset, but: Connection refused$",
            ),
        },
        sabotage="no-socket-start",
    ),
    # -- load
    "keeps few clients waiting": Control(
        {
            f"{LOAD}a_crowd_on_a_cold_socket[unix]": (
                r"AssertionError: unix: 200 requests sent, \d+ answered; \d+ x Resource temporarily unavailable",
            )
        },
        sabotage="small-backlog",
    ),
    "drops a client now and then": Control(
        {
            f"{LOAD}thousands_of_requests[tcp4]": (
                r"AssertionError: tcp4, 16 at a time: 5000 requests sent, 4990 answered; 10 x got b''",
            ),
            f"{LOAD}thousands_of_requests[udp4]": (
                r"AssertionError: udp4, 16 at a time: 5000 requests sent, 4990 answered; "
                r"\d+ x timed out after 3\.\d s",
            ),
        },
        image="drops",
        timeout_scale=0.1,
    ),
    "leaks descriptors": Control(
        {
            f"{LOAD}thousands_of_requests[unix]": (
                r"^Waited \d+\.\d s for the container to have (\d+) open descriptors again, as before 10000 requests; "
                r"the last thing seen was '2\d\d'",
            )
        },
        image="leaks",
    ),
    "grows with its clients": Control(
        {
            f"{LOAD}thousands_of_requests[unix]": (
                r"AssertionError: the container grew by \d{4,5} kB over the last 5000 requests",
            )
        },
        image="grows",
    ),
    "has clients that leak": Control(
        {
            f"{LOAD}thousands_of_requests[unix]": (
                r"AssertionError: the clients have \d+ open descriptors, and had \d+",
            )
        },
        sabotage="leaking-clients",
    ),
    "has clients that grow": Control(
        {
            f"{LOAD}thousands_of_requests[unix]": (
                r"AssertionError: the clients grew by \d{4,5} kB over the last 5000 requests",
            )
        },
        sabotage="growing-clients",
    ),
    "loses whom it took": Control(
        {
            "test_no_reply_lost.py::test_no_reply_is_lost[idle]": (
                r"AssertionError: a client lost its reply; the service ended \d+ times; "
                r".*(\d+) requests sent, (?!\1)\d+ answered; \d+ x ",
            )
        },
        image="honest",
    ),
}


@pytest.mark.parametrize("control", [pytest.param(control, id=name) for name, control in CONTROLS.items()])
def test_red_for_its_own_reason(
    control: Control, harness_runtime: Runtime, built: Callable[[Path], Image], tmp_path: Path
) -> None:
    """The tests that are about what is broken are red, and say why; a control without words is green."""
    folder = REPOSITORY / "containers" / "echo"
    if control.image:
        for source in ("Containerfile", "Containerfile.debian", "broken.py"):
            (tmp_path / "broken").mkdir(exist_ok=True)
            shutil.copy(BROKEN / source, tmp_path / "broken")
        folder = written(tmp_path / "broken" / "echo", CONTRACT.format(mode=control.image)).parent
    built(folder)
    run = run_pytest(
        tmp_path,
        *(f"suites/{test}" for test in control.words),
        f"--harness-contract={folder}",
        f"--harness-base={harness_runtime.base}",
        f"--harness-timeout-scale={control.timeout_scale}",
        *(("-p", "tests.controls.mutations", f"--sabotage={control.sabotage}") if control.sabotage else ()),
    )
    expected = {test.partition("::")[2]: "failed" if words else "passed" for test, words in control.words.items()}
    assert run.outcomes == expected, run.output
    for test, words in control.words.items():
        if words:
            assert_has(run.texts[test.partition("::")[2]], words)
