"""Runs of pytest whose vsock tests run in a guest: their results are the run's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.capabilities.table import Capabilities
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import INFRASTRUCTURE
from harness.images.store import Image
from harness.runtime import leaks
from tests.helpers.runs import REPOSITORY, environment, read_junit, run_pytest

pytestmark = [
    pytest.mark.harness_requires("uml"),
    pytest.mark.skipif(Capabilities().has("vsock_loopback"), reason="this kernel needs no guest for vsock"),
]

GOOD = "test_reply[echo-unit-vsock]"
BROKEN = "test_reply[broken-unit-vsock]"

#: A contract of the echo image's, whose container says why it does not listen.
CONTRACT = """\
schema = 1
name = "broken"
image = {{ reference = "{image}", command = ["/usr/bin/python3", "-c", "import sys; sys.exit('no vsock today')"] }}
sockets = [{{ transports = ["vsock"], port = 3000 }}]
probe = {{ kind = "bytes", send = "hello\\n", expect = "hello\\n" }}
"""

#: A run of one reply by one activation, in the guest.
ARGUMENTS = (
    *("suites/test_replies.py", "-v", "--harness-guest=auto", "--harness-guest-engine=uml"),
    *("--harness-transports=vsock", "--harness-activation=unit"),
)


@pytest.fixture
def contract(tmp_path: Path, built: Callable[[str], Image]) -> Path:
    """The broken contract."""
    file = tmp_path / "contract.toml"
    file.write_text(CONTRACT.format(image=built("containers/echo").reference), encoding="utf-8")
    return file


@pytest.mark.parametrize("workers", ["0", "2"])
def test_results_come_out_of_the_guest(tmp_path: Path, contract: Path, workers: str) -> None:
    echo = f"--harness-contract={REPOSITORY / 'containers/echo'}"
    run = run_pytest(
        tmp_path, *ARGUMENTS, "-n", workers, "-k", "test_reply and not again", echo, f"--harness-contract={contract}"
    )
    assert run.status == 1
    assert run.outcomes == {GOOD: "passed", BROKEN: "failed"}
    assert "vsock_loopback by a guest: uml, kernel " in run.output
    assert "The service 'broken' (unit) failed its cold probe by " in run.texts[BROKEN]
    assert "no vsock today" in run.texts[BROKEN]
    (bundle,) = (tmp_path / "artifacts").glob("*/")
    assert "no vsock today" in (bundle / "broken.service.output.txt").read_text(encoding="utf-8")
    assert "ListenStream=vsock:4294967295:" in (bundle / "broken.socket").read_text(encoding="utf-8")
    assert (bundle / "guest-console.txt").exists()
    assert f"{bundle}: " in run.output
    assert "harness-guest-" not in run.texts[BROKEN]


def test_exitfirst_and_lastfailed(tmp_path: Path, contract: Path) -> None:
    both = (f"--harness-contract={REPOSITORY / 'containers/echo'}", f"--harness-contract={contract}")
    command = [sys.executable, "-m", "pytest", *ARGUMENTS, *both, f"--override-ini=cache_dir={tmp_path / 'cache'}"]
    command.append(f"--harness-artifacts-dir={tmp_path / 'artifacts'}")
    for more in ("-x", "--lf"):
        report = tmp_path / f"{more.strip('-')}.xml"
        ended = subprocess.run(
            [*command, more, f"--junitxml={report}"],
            cwd=REPOSITORY,
            env=environment(),
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 1
        assert read_junit(report)[0] == {BROKEN: "failed"}


def test_a_killed_guest_is_an_error_and_leaves_nothing(tmp_path: Path, built: Callable[[str], Image]) -> None:
    built("containers/echo")
    command = [sys.executable, "-m", "pytest", *ARGUMENTS, "-k", "echo", "-p", "no:cacheprovider"]
    command.append(f"--harness-artifacts-dir={tmp_path}")
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, text=True) as run:
        kernel = wait_until(lambda: kernel_of(run.pid), bool, Deadline.after(60), "the guest to start")
        os.kill(kernel, signal.SIGKILL)
        assert run.stdout is not None
        output = run.stdout.read()
    assert run.returncode == 1
    assert "The guest 'uml' (kernel " in output
    assert "ended by itself, with status 137, before its command did" in output
    assert "2 errors" in output
    left = [item for item in leaks.find() if f"harness-guest-{run.pid}-" in item.what]
    assert not left


def test_no_guest(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, *ARGUMENTS, "-k", "echo", "--harness-guest=never")
    assert run.status == 0
    assert set(run.outcomes.values()) == {"skipped"}
    assert "No guest can stand in: --harness-guest=never." in run.texts[GOOD]
    strict = run_pytest(tmp_path, *ARGUMENTS, "-k", "echo", "--harness-guest=never", "--harness-strict")
    assert strict.status == INFRASTRUCTURE
    assert set(strict.outcomes.values()) == {"error"}


def kernel_of(pid: int) -> int:
    """Return the process of the guest's kernel below the process `pid`, 0 while there is none."""
    for folder in Path("/proc", str(pid), "task").glob("*"):
        try:
            children = (folder / "children").read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            try:
                program = Path("/proc", child, "cmdline").read_bytes()
            except OSError:
                continue
            if b"linux.uml" in program.partition(b"\0")[0] and b"mem=" in program:
                return int(child)
            if found := kernel_of(int(child)):
                return found
    return 0
