"""Hostile images: each is red in its own words, and the next test in the same session is green."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from harness.battery.promises import attempt
from harness.battery.trial import PromiseBroken, Trial
from harness.contract import Contract, Promise, load
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from harness.session.bounds import TESTS
from tests.helpers.runs import REPOSITORY, run_pytest

FOLDER = REPOSITORY / "tests" / "hostile"

#: Longest time until a hostile image is named, in seconds.
LIMIT_S = 30.0

#: What the harness itself may grow by meanwhile, in KiB.
GROWTH_KIB = 100 * 1024

#: What a server does after its first reply -> the promise that it is tried by, and what must be said.
SAID = {
    "prints": (Promise.QUIET, r"one start with 20 requests printed \d{4,} KiB, and may print 64 KiB"),
    "forks": (Promise.SAME_RUN, r"the session has reached its limit of 1024 processes"),
    "allocates": (Promise.SAME_RUN, r"the memory limit of 2 GiB has killed a process"),
    "fills-disk": (Promise.SAME_RUN, r"the session's disk of 1 GiB is full"),
    "opens-descriptors": (Promise.SAME_RUN, r"pid 1 \(python3\) has all of its \d+ descriptors open"),
    "ignores-signals": (Promise.STOP, r"SIGTERM did not end the program within 3 s"),
    "all": (
        Promise.SAME_RUN,
        r"the memory limit of 2 GiB has killed a process|has reached its limit of 1024 processes|disk of 1 GiB is full",
    ),
}


def hostile(mode: str) -> Contract:
    """Return the contract of the server in a mode."""
    contract = load(FOLDER)
    image = contract.image.model_copy(update={"command": (*contract.image.command[:-1], mode)})
    return contract.model_copy(update={"image": image})


def found(mode: str, promise: Promise, runtime: Runtime) -> PromiseBroken:
    """Try a promise until it is broken, as often as the time allows: not every harm is quick."""
    limit = Deadline.after(LIMIT_S)
    with runtime.service(hostile(mode)) as service:
        trial = Trial(service, Transport.TCP4)
        try:
            attempt(promise, trial)
            while not limit.expired:
                trial.warm()
                trial.check_bounds()
        except PromiseBroken as error:
            return error
    pytest.fail(f"nothing was wrong with the mode '{mode}' for {LIMIT_S:g} s")


#: What would take all that the machine has where nothing bounds it.
UNBOUNDED = ("forks", "allocates", "all")


@pytest.mark.parametrize(
    "mode",
    [pytest.param(mode, marks=pytest.mark.harness_requires("bounds") if mode in UNBOUNDED else ()) for mode in SAID],
)
def test_a_hostile_image_is_named_and_harms_nobody(mode: str, harness_runtime: Runtime) -> None:
    """The sound server is activated in the same session right after it, and keeps its promises."""
    promise, said = SAID[mode]
    with harness_runtime.service(hostile("none")):
        pass  # what the harness takes for any image
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = found(mode, promise, harness_runtime)
    assert re.search(said, error.wrong), error.wrong
    assert error.blame is Blame.IMAGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_kib < GROWTH_KIB
    with harness_runtime.service(hostile("none")) as service:
        for kept in (Promise.EVERY_SOCKET, Promise.STOP):
            attempt(kept, Trial(service, Transport.TCP4))
            service.stop_service()


def test_what_leaves_the_container_s_sight_ends_with_it(harness_runtime: Runtime) -> None:
    """A daemon in a session of its own that ignores every signal: the container's end is its end."""
    session = harness_runtime.session()
    with harness_runtime.service(hostile("daemonises")) as service:
        trial = Trial(service, Transport.TCP4)
        trial.wake()
        trial.warm()
        inside = session.run(["podman", "top", "hostile", "pid"]).text.split()
        assert len(inside) > len(["PID", "the server"]), "the daemon is there"
        service.stop_service()
        assert "server.py" not in session.run(["ps", "-A", "-o", "args"]).text


def test_output_is_kept_at_both_ends(harness_runtime: Runtime) -> None:
    """What a unit prints takes no more of the session's memory than its bound; how much it was is still known."""
    session = harness_runtime.session()
    with harness_runtime.service(hostile("prints")) as service:
        Trial(service, Transport.TCP4).wake()
        (unit,) = service.activated.services
        file = session.outside(f"{session.paths.output}/{unit}.log")
        limit = Deadline.after(LIMIT_S)
        while session.output_size(unit) < 2**27 and not limit.expired:
            service.ask(Transport.TCP4)
        service.stop_service()
        assert file.stat().st_size >= 2**27
        wait_until(lambda: file.stat().st_blocks * 512, lambda size: size <= 4 * TESTS.output, limit, "a short file")
        text = session.output(unit)
        assert len(text) < 3 * TESTS.output
        assert re.search(r"x\n\[\d+(\.\d)? MiB of output left out\]\nx", text)


def test_what_it_prints_acts_on_nobody(tmp_path: Path, harness_runtime: Runtime) -> None:
    """Nothing that a server prints or replies reaches a terminal, a CI runner, JUnit or a bundle as it is."""
    harness_runtime.image(hostile("none"))
    text = (FOLDER / "contract.toml").read_text(encoding="utf-8").replace('"none"', '"controls"')
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("Containerfile", "Containerfile.debian", "server.py"):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    (folder / "contract.toml").write_text(text, encoding="utf-8")
    run = run_pytest(
        tmp_path,
        *("suites/test_replies.py", f"--harness-contract={folder}", "--harness-activation=unit", "-rA"),
        GITHUB_ACTIONS="true",
    )
    assert "\\x1b[2J" in run.output, "what it prints is shown"
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.parent != folder]
    assert any(file.name.endswith("output.txt") for file in files)
    for shown in (run.output.encode(), *(file.read_bytes() for file in files)):
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80\xae|^\s*::error::|##\[error\]", shown, re.MULTILINE)
    assert sum(file.stat().st_size for file in files) < 5 * 2**20
