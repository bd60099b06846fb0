"""The battery as a user runs it: by `sah test`, and its verdicts, waivers and skipped tests in a run of pytest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.battery.hardening import Held, ladder
from harness.battery.promises import attempt
from harness.battery.trial import Trial
from harness.contract import Promise, load
from harness.core.transports import Transport
from harness.images.store import Image
from harness.results import record
from harness.results.record import Outcome
from harness.runtime.runtime import Runtime
from tests.helpers.runs import REPOSITORY, RUN_LIMIT_S, environment, run_pytest

FAULTS = REPOSITORY / "tests" / "faults"

DEAD = REPOSITORY / "tests" / "broken" / "dies-on-start"


def sah(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does, in a folder of their own."""
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
    )


def test_an_image_without_a_contract(echo_image: Image, tmp_path: Path) -> None:
    """Its socket and what it answers are said on the command line, and saved."""
    saved = tmp_path / "saved"
    options = ("--listen=tcp4:3000", "--echo", "--activation=unit", "-k", "stop or quiet or sizes", f"--save={saved}")
    ended = sah("test", echo_image.reference, *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "by unit: kept all of 3 promises\n" in ended.stdout
    assert load(saved).image.reference == echo_image.reference
    assert sorted(path.name for path in tmp_path.iterdir()) == ["harness-artifacts", "saved"]


def test_a_broken_promise_is_the_status(built: Callable[[Path], Image], tmp_path: Path) -> None:
    """And one sentence says which, by name."""
    image = built(FAULTS)
    text = (FAULTS / "contract.toml").read_text(encoding="utf-8")
    for other in ('"none"', '"ignores-stop"'):
        text = text.replace('"none"', other)
    text = text.replace("[image]\n", f'[image]\nreference = "{image.reference}"\n')
    contract = tmp_path / "contract.toml"
    contract.write_text(text, encoding="utf-8")
    ended = sah("test", str(contract), "--activation=unit", "-k", "stop or quiet", cwd=tmp_path)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    wanted = "faults by unit: broke 2 of 2 promises (stop, quiet): SIGTERM did not end the program within 3 s\n"
    assert wanted in ended.stdout


WAIVED = """
[promises]
stop = "it is ended by SIGKILL, and loses nothing"
quiet = "it prints what it is asked"
sizes = "its clients never send more than a line"
"""


def test_what_is_waived_is_told(built: Callable[[Path], Image], tmp_path: Path) -> None:
    """With the reason, and whether it held after all; the run is green."""
    image = built(FAULTS)
    text = (FAULTS / "contract.toml").read_text(encoding="utf-8").replace('"none"', '"truncates"')
    text = text.replace("[image]\n", f'[image]\nreference = "{image.reference}"\n')
    contract = tmp_path / "contract.toml"
    contract.write_text(text + WAIVED, encoding="utf-8")
    options = ("--harness-activation=unit", "-k", "every_socket or stop or quiet or sizes")
    run = run_pytest(tmp_path, "suites/test_battery.py", f"--harness-contract={contract}", *options)
    assert run.status == 0, run.output
    line = next(line for line in run.output.splitlines() if line.startswith("faults by unit: "))
    assert line == (
        "faults by unit: kept all of 1 promises; waived sizes (its clients never send more than a line); "
        "waived and kept stop (it is ended by SIGKILL, and loses nothing); "
        "waived and kept quiet (it prints what it is asked)"
    )
    found = record.read(tmp_path / "artifacts" / "results.json")
    assert {test.promise: bool(test.waived) for test in found.tests} == {
        "every_socket": False,
        "stop": True,
        "quiet": True,
        "sizes": True,
    }


def test_a_crowd_while_podman_drops_its_older_notes(harness_runtime: Runtime) -> None:
    """At each megabyte of them it does: one start is one all the same."""
    with harness_runtime.service(load(FAULTS)) as service:
        file = service.session.outside(service.session.paths.events)
        note = {
            "Type": "container",
            "Name": "faults",
            "Status": "start",
            "ID": "0" * 64,
            "Time": "2026-01-01T00:00:00Z",
        }
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"{json.dumps(note)}\n" * (2**20 // len(json.dumps(note))))
        size = file.stat().st_size
        attempt(Promise.CROWD, Trial(service, Transport.TCP4))
        assert file.stat().st_size < size, "podman has dropped none"


def test_what_an_image_can_live_without(harness_runtime: Runtime) -> None:
    """One that writes beside its program as root needs both; the contract has no network already."""
    contract = load(FAULTS)
    program = " ".join(contract.image.command)
    command = ("/bin/sh", "-c", f"touch /usr/local/lib/written && exec {program}")
    image = contract.image.model_copy(update={"command": command, "user": "root"})
    steps = list(ladder(contract.model_copy(update={"image": image}), harness_runtime.service))
    # Whether podman may set limits depends on the machine's cgroups; it is asked.
    reference, session = harness_runtime.image(contract).reference, harness_runtime.session()
    limits = {"more than 64 processes": "--pids-limit=64", "more than 128 MiB": "--memory=128m"}
    refused = {
        name: session.run(
            ["podman", "run", "--rm", "--network=none", option, reference, "/bin/true"], check=False
        ).status
        for name, option in limits.items()
    }
    assert {step.rung.without: step.held for step in steps} == {
        "a network": Held.ALREADY,
        "a writable root file system": Held.NEEDS,
        "new privileges": Held.COULD,
        "capabilities": Held.COULD,
        "root": Held.NEEDS,
        "a home folder": Held.COULD,
        **{name: Held.UNTRIED if refused[name] else Held.COULD for name in limits},
    }
    untried = {str(step) for step in steps if step.held is Held.UNTRIED}
    assert all("can't be tried here: The session's cgroup lacks a controller" in step for step in untried)
    needed = {step.rung.without: str(step) for step in steps if step.held is Held.NEEDS}
    assert "without root: needs it: over tcp4, the program ended with status 1" in needed["root"]


@pytest.mark.parametrize("exhaustive", [False, True], ids=["", "exhaustive"])
def test_a_dead_image_is_told_once(exhaustive: bool, built: Callable[[Path], Image], tmp_path: Path) -> None:
    """What can't be tried any more is skipped with the one reason, unless all is asked for."""
    built(DEAD)
    options = ("--harness-exhaustive",) if exhaustive else ()
    run = run_pytest(
        tmp_path,
        "suites/test_battery.py",
        "suites/test_replies.py",
        f"--harness-contract={DEAD}",
        "--harness-activation=unit",
        *options,
        PYTEST_ADDOPTS="--harness-guest=never --no-harness-bisect -p no:hypothesispytest",
    )
    assert run.status == pytest.ExitCode.TESTS_FAILED, run.output
    assert "dies-on-start by unit: the cold start failed: over tcp4, the program ended with status 1; " in run.output
    outcomes = [test.outcome for test in record.read(tmp_path / "artifacts" / "results.json").tests]
    skipped = [text for name, text in run.texts.items() if run.outcomes[name] == "skipped"]
    if exhaustive:
        assert set(outcomes) == {Outcome.FAILED}
    else:
        assert outcomes.count(Outcome.FAILED) == 1
        assert len(skipped) == len(outcomes) - 1
        assert all("not run: the cold start failed: " in text for text in skipped)
        assert all("the program ended with status 1" in text for text in skipped)
