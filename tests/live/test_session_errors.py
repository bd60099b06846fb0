"""A session that can't be made says which step failed, and leaves nothing; nor does one whose harness is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness import standalone
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, SessionError
from harness.core.userland import HOST
from harness.images.store import ImageStore
from harness.runtime.runtime import Runtime
from harness.session import factory
from harness.session.owned_process import OwnedProcess
from harness.session.session import Session
from harness.session.spec import Bind
from tests.helpers.processes import DEFAULT_SIGNALS
from tests.helpers.sessions import cgroups_of, isolated, opened, running

MAKE_VIEW = "make the session's view of the machine"
START = "start 'systemd --user'"

#: What is wrong: parts of the spec, the step that fails, a part of the reason.
FAILING: dict[str, tuple[dict[str, Any], str, str]] = {
    "a bind of nothing": ({"binds": [Bind("/nowhere", "/run/harness/x")]}, MAKE_VIEW, "'/nowhere'"),
    "a bind on a file": (
        {"binds": [Bind("/etc", "/run/harness/etc/passwd")]},
        MAKE_VIEW,
        "File exists: '/run/harness/etc/passwd'",
    ),
    "a file over nothing": ({"etc": {"no-such-file": "x"}}, MAKE_VIEW, "/etc/no-such-file"),
    "a file below a file": ({"files": {"/etc/passwd/x": "x"}}, "write the session's files", "/etc/passwd"),
    "no such manager": ({"manager": ["/nowhere/systemd"]}, START, "status 127"),
    "no manager at all": ({"manager": []}, START, "status 127"),
    "a manager that ends": ({"manager": ["/bin/true"]}, START, "status 0 before it was ready"),
    "a manager that fails": ({"manager": ["/bin/sh", "-c", "exit 3"]}, START, "status 3 before it was ready"),
    "a manager that is killed": ({"manager": ["/bin/sh", "-c", "kill -9 $$"]}, START, "status -9 before it was"),
}


@pytest.fixture
def store(harness_runtime: Runtime) -> ImageStore:
    """The store that the sessions see."""
    return harness_runtime.store


@pytest.fixture
def supervisors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process ids of all supervisors that the test starts."""
    started: list[int] = []

    class Noted(OwnedProcess):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self.pid)

    monkeypatch.setattr(factory, "OwnedProcess", Noted)
    return started


def left_of(supervisor: int) -> list[object]:
    """Return what is on the machine of a session that has ended: its supervisor, its cgroups."""
    return [*([supervisor] if Path("/proc", str(supervisor)).exists() else []), *cgroups_of(supervisor)]


# -- steps that fail --------------------------------------------------------------------------------------------------


@isolated
@pytest.mark.parametrize("what", FAILING)
def test_a_step_that_fails(store: ImageStore, supervisors: list[int], what: str) -> None:
    """The step and the reason are in the sentence, a way out beside it; then nothing is left."""
    changes, step, reason = FAILING[what]
    started = time.monotonic()
    with pytest.raises(SessionError) as caught, opened(store, **changes):
        pytest.fail("the session was made")

    assert caught.value.sentence.startswith(f"No throwaway session could be made: could not {step}: ")
    assert reason in caught.value.sentence
    assert "doctor" in caught.value.hint
    assert caught.value.blame is Blame.MACHINE
    assert time.monotonic() - started < 10
    assert [left_of(supervisor) for supervisor in supervisors] == [[]]


@isolated
def test_no_cgroup_to_be_in(store: ImageStore, supervisors: list[int]) -> None:
    """The first step of all, which the supervisor takes itself."""
    with pytest.raises(SessionError) as caught, opened(store, cgroup_parent="/nowhere"):
        pytest.fail("the session was made")

    assert "could not make the session's cgroups and namespaces: " in caught.value.sentence
    assert "'/nowhere/harness-" in caught.value.sentence
    assert [left_of(supervisor) for supervisor in supervisors] == [[]]


@isolated
def test_what_the_manager_said_is_shown(store: ImageStore) -> None:
    """Its last words are the reason that a person needs."""
    with pytest.raises(SessionError) as caught, opened(store, manager=["/bin/sh", "-c", "echo my last words; exit 1"]):
        pytest.fail("the session was made")

    assert caught.value.evidence["systemd --user"] == "my last words\n"
    assert "my last words" in str(caught.value)


@isolated
def test_a_real_manager_that_refuses(store: ImageStore, supervisors: list[int]) -> None:
    """An option that systemd does not know: its own complaint is in the error."""
    with pytest.raises(SessionError) as caught, opened(store, manager=[*factory._manager_command(HOST), "--nonsense"]):
        pytest.fail("the session was made")

    assert "unrecognized option '--nonsense'" in str(caught.value)
    assert [left_of(supervisor) for supervisor in supervisors] == [[]]


@pytest.mark.parametrize("first", ["import os; os.read(0, 1 << 20)", "pass"], ids=["later", "at once"])
def test_a_supervisor_that_ends(store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: str) -> None:
    """What it has printed on its way is the evidence."""
    program = tmp_path / "session_supervisor.py"
    program.write_text(f"{first}\nraise SystemExit('it went wrong')\n", encoding="utf-8")
    monkeypatch.setattr(standalone, "command", lambda script: (sys.executable, str(program)))
    with pytest.raises(SessionError, match="its supervisor ended") as caught, opened(store):
        pytest.fail("the session was made")

    assert caught.value.evidence["supervisor"] == "it went wrong\n"


def test_the_next_session_is_made(store: ImageStore) -> None:
    """A failure spoils nothing for those that come after it."""
    with contextlib.suppress(SessionError), opened(store, manager=["/bin/false"]):
        pass
    with opened(store) as session:
        assert session.run(["echo", "here"]).text == "here\n"


# -- ends -------------------------------------------------------------------------------------------------------------


def hide_a_process(session: Session) -> int:
    """Start a program that outlives the one that started it, and return its number on the machine."""
    session.run(["/bin/sh", "-c", "setsid -f sleep 300 >/dev/null 2>&1"])
    (pid,) = wait_until(lambda: running(session, "sleep"), lambda found: len(found) == 1, Deadline.after(10), "sleep")
    return pid


@pytest.mark.parametrize(
    "error", [None, KeyError, KeyboardInterrupt, SystemExit], ids=lambda kind: kind and kind.__name__
)
def test_the_end_of_a_session(store: ImageStore, supervisors: list[int], error: type[BaseException] | None) -> None:
    """Whatever the reason: no process, no cgroup; what ran in it is gone, also what had hidden from its parent."""
    ways = pytest.raises(error) if error else contextlib.nullcontext()
    with ways, opened(store) as session:
        hidden = hide_a_process(session)
        name, init = session.cgroup, session.init
        if error:
            raise error

    assert not name.exists()
    assert not Path("/proc", str(hidden)).exists()
    assert not Path("/proc", str(init)).exists()
    assert [left_of(supervisor) for supervisor in supervisors] == [[]]
    with pytest.raises(SessionError, match="has ended"):
        session.manager.call("Reload")


HARNESS = """
import json, sys, time
from pathlib import Path
from harness.session import factory
from harness.session.owned_process import OwnedProcess
from harness.session.session import Session
with factory.open_pristine_session(Path(sys.argv[1])) as session:
    session.run(["/bin/sh", "-c", "setsid -f sleep 300 >/dev/null 2>&1"])
    print(json.dumps({"cgroup": str(session.cgroup), "init": session.init}), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_harness_that_is_killed(store: ImageStore, number: signal.Signals) -> None:
    """The kernel closes its end of the channel; the supervisor sees that and removes the session."""
    store.prepare()
    folder = Path(factory.__file__).parents[2]
    command = [*DEFAULT_SIGNALS, sys.executable, "-c", HARNESS, os.fspath(store.graph)]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        told = json.loads(harness.stdout.readline())
        assert Path(told["cgroup"]).is_dir()
        harness.send_signal(number)
        harness.wait(10)
    gone = [Path(told["cgroup"]), Path("/proc", str(told["init"]))]

    wait_until(
        lambda: [path for path in gone if path.exists()], lambda left: not left, Deadline.after(20), "nothing left"
    )


@isolated
def test_its_first_process_is_killed(store: ImageStore, supervisors: list[int]) -> None:
    """The kernel ends the whole namespace with it; closing the session still works."""
    with opened(store) as session:
        hide_a_process(session)
        os.kill(session.init, signal.SIGKILL)
        wait_until(lambda: running(session, "sleep"), lambda left: not left, Deadline.after(10), "the end")

    assert [left_of(supervisor) for supervisor in supervisors] == [[]]


@isolated
def test_nothing_is_mounted_on_the_machine(store: ImageStore) -> None:
    """What a session mounts stays in its namespace, while it lives and after."""
    mounts = Path("/proc/self/mountinfo")
    before = mounts.read_text(encoding="utf-8")
    with opened(store):
        inside = mounts.read_text(encoding="utf-8")

    assert mounts.read_text(encoding="utf-8") == before == inside
