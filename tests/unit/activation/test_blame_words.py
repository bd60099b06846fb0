"""Who has to act, by what systemd and podman say: each line is as one of them has printed it."""

from __future__ import annotations

import pytest

from harness.activation.blame import decide
from harness.core.errors import Blame

TUN = "Error: slirp4netns failed: open(/dev/net/tun): Permission denied"
NO_PROGRAM = (
    "Error: crun: executable file `/x` not found: No such file or directory: "
    "OCI runtime attempted to invoke a command that was not found"
)
NO_MEMORY = (
    "Error: crun: opening file `memory.max` for writing: No such file or directory: "
    "OCI runtime attempted to invoke a command that was not found"
)
EXEC = "echo.service: Failed at step EXEC spawning /usr/bin/podman: No such file or directory"


@pytest.mark.parametrize(
    ("status", "output", "log", "blame"),
    [
        (126, TUN, "", Blame.MACHINE),
        (126, "Error: crun: open executable: Permission denied: OCI permission denied", "", Blame.IMAGE),
        (125, "Error: localhost/echo: image not known", "", Blame.IMAGE),
        (125, "Error: could not find slirp4netns, the network namespace can't be configured", "", Blame.MACHINE),
        (125, "Error: no valid executable found for OCI runtime crun: invalid argument", "", Blame.MACHINE),
        (125, "Error: unknown flag: --sdnotify", "", Blame.INPUT),
        (125, "Error: write /run/user/1/x: no space left on device", "", Blame.MACHINE),
        (125, "Error: something that nobody has seen before", "", Blame.UNKNOWN),
        (126, "", "", Blame.UNKNOWN),
        (127, NO_PROGRAM, "", Blame.IMAGE),
        (127, NO_MEMORY, "", Blame.MACHINE),
        (126, "Error: crun: the requested cgroup controller `pids` is not available", "", Blame.MACHINE),
        (127, "", "", Blame.UNKNOWN),
        (203, "", EXEC, Blame.MACHINE),
        (226, "", "", Blame.UNKNOWN),
        (0, "", "(podman)[1]: fork/exec /usr/bin/conmon: resource temporarily unavailable", Blame.MACHINE),
    ],
)
def test_a_program_that_never_ran(status: int, output: str, log: str, blame: Blame) -> None:
    """What podman, the runtime and systemd say decides; unknown words accuse nobody."""
    found = decide(False, True, status, "exit-code", output, log)
    assert found.blame is blame
    assert bool(found.advice) is (blame is not Blame.UNKNOWN or status == 226)


@pytest.mark.parametrize("status", [0, 1, 125, 126, 127, 203])
@pytest.mark.parametrize("output", ["", TUN, "No space left on device"])
def test_a_program_that_ran(status: int, output: str) -> None:
    """Whatever its status is, and whatever it prints: it can't accuse the machine in podman's words."""
    assert decide(True, True, status, "exit-code", output, "").blame is Blame.IMAGE


def test_a_program_that_ran_and_a_machine_that_can_not() -> None:
    """systemd's own words count, and a limit that was hit may be anybody's."""
    race = "echo.service: Cannot find unit for notify message of PID 7, ignoring."
    assert decide(True, True, 0, "protocol", "", race).blame is Blame.MACHINE
    assert decide(True, True, 0, "oom-kill", "", "").blame is Blame.UNKNOWN


def test_a_service_that_nobody_has_started() -> None:
    """The client did not get to systemd, and what an earlier service has said is no evidence."""
    found = decide(False, False, 0, "success", TUN, EXEC)
    assert found.blame is Blame.UNKNOWN
    assert "socket units" in found.advice
