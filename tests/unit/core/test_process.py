"""The one runner of processes, with real processes: statuses, signals, limits, the environment that gets through."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, CommandError
from harness.core.process import INHERITED, SYSTEM_PATH, base_environment, network_environment, run, run_with_progress
from tests.helpers.processes import gone, shell

#: What must never reach a program: the sockets of somebody else, and secrets.
UNWANTED = {
    "LISTEN_FDS": "1",
    "LISTEN_PID": "1",
    "LISTEN_FDNAMES": "x",
    "NOTIFY_SOCKET": "/run/x",
    "WATCHDOG_USEC": "1",
    "CI_JOB_TOKEN": "secret",
    "GITHUB_TOKEN": "secret",
    "PYTHONPATH": "/x",
    "LD_PRELOAD": "",
    "XDG_RUNTIME_DIR": "/x",
    "HOME": "/x",
    "CONTAINER_HOST": "x",
}


@pytest.fixture
def unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put into our own environment what must not get through."""
    for name, value in UNWANTED.items():
        monkeypatch.setenv(name, value)


# -- ends -------------------------------------------------------------------------------------------------------------


def test_what_a_program_did() -> None:
    """Output and errors apart, as bytes; the status, the command, the time."""
    done = run(shell("printf 'o\\377'; printf e >&2; sleep 0.1"), timeout_s=10)

    assert (done.status, done.stdout, done.stderr) == (0, b"o\xff", b"e")
    assert done.text == "o\ufffd"
    assert done.command == ("/bin/sh", "-c", "printf 'o\\377'; printf e >&2; sleep 0.1")
    assert 0.1 <= done.duration_s < 5


@pytest.mark.parametrize(("ending", "status"), [("exit 3", 3), ("exit 126", 126), ("kill -TERM $$", -15)])
@pytest.mark.parametrize("check", [True, False])
def test_a_status_other_than_0(ending: str, status: int, check: bool) -> None:
    """An error with all that was printed, or, unchecked, a result like any other."""
    command = shell(f"echo out; echo err >&2; {ending}")
    if not check:
        assert run(command, timeout_s=10, check=False).status == status
        return
    with pytest.raises(CommandError) as caught:
        run(command, timeout_s=10)

    assert (caught.value.status, caught.value.stdout, caught.value.stderr) == (status, b"out\n", b"err\n")
    assert caught.value.command == tuple(command)
    assert caught.value.timeout_s is None


@pytest.mark.parametrize("kind", ["missing", "not executable", "folder", "not a program"])
def test_what_cannot_be_started_has_status_127(tmp_path: Path, kind: str) -> None:
    """As in a shell; the reason stands where the program's own words would."""
    file = tmp_path / "program"
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes(b"\x7fELF")
        file.chmod(0o755 if kind == "not a program" else 0o644)
    done = run([os.fspath(file)], timeout_s=10, check=False)

    assert done.status == 127
    assert os.fspath(file) in done.stderr.decode()
    with pytest.raises(CommandError, match="could not be started"):
        run([os.fspath(file)], timeout_s=10)


def test_a_time_limit_ends_the_program(tmp_path: Path) -> None:
    """At the limit the program is killed, and what it had said by then is in the error."""
    started = time.monotonic()
    with pytest.raises(CommandError) as caught:
        run(shell(f"echo begun; echo $$ >{tmp_path}/pid; exec sleep 60"), timeout_s=0.4)

    assert 0.4 <= time.monotonic() - started < 5
    assert (caught.value.status, caught.value.timeout_s) == (None, 0.4)
    assert caught.value.stdout == b"begun\n"
    assert gone(tmp_path / "pid")


RUNNERS: dict[str, Callable[[list[str]], object]] = {
    "run": lambda command: run(command, timeout_s=0.3),
    "run_with_progress": lambda command: run_with_progress(command, timeout_s=0.3, title="x"),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_time_limit_ends_what_the_program_has_started(tmp_path: Path, runner: str) -> None:
    """Its children go with it, which would otherwise run on, and hold what they have opened."""
    with pytest.raises(CommandError, match=r"did not end within 0\.3 s"):
        RUNNERS[runner](shell(f"sleep 60 & echo $! >{tmp_path}/pid; wait"))

    wait_until(lambda: gone(tmp_path / "pid"), bool, Deadline.after(5), "the end of the child")


def test_a_time_limit_holds_for_a_daemon_too() -> None:
    """A program whose child has a session of its own and goes on printing keeps nobody waiting."""
    started = time.monotonic()
    with pytest.raises(CommandError) as caught:
        run(shell("echo begun; setsid -f sleep 4"), timeout_s=0.3)

    assert time.monotonic() - started < 3
    assert caught.value.stdout == b"begun\n"


def test_an_unchecked_program_must_still_end_in_time() -> None:
    """`check=False` is about the status only."""
    with pytest.raises(CommandError):
        run(["sleep", "60"], timeout_s=0.1, check=False)


# -- what a program gets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stdin", [b"", b"a\0b\xff\n", b"x" * 300_000], ids=["nothing", "bytes", "much"])
def test_standard_input(stdin: bytes) -> None:
    """All of it and then its end; never the terminal of whoever started us."""
    assert run(["cat"], timeout_s=10, stdin=stdin).stdout == stdin


def test_the_folder_it_starts_in(tmp_path: Path) -> None:
    """The one that is asked for, else our own."""
    assert run(["pwd", "-P"], timeout_s=10, cwd=os.fspath(tmp_path)).text.strip() == os.fspath(tmp_path.resolve())
    assert run(["pwd", "-P"], timeout_s=10).text.strip() == os.fspath(Path.cwd().resolve())


def test_descriptors_stay_with_us() -> None:
    """A program gets the three standard descriptors: a fourth one would look like an activated socket."""
    with Path(os.devnull).open(encoding="utf-8") as file:
        os.set_inheritable(file.fileno(), True)
        # One more is the folder that `ls` reads.
        assert run(["ls", "/proc/self/fd"], timeout_s=10).text.split() == ["0", "1", "2", "3"]


def environment_of(**options: dict[str, str]) -> dict[str, str]:
    """Return the environment that a program really gets."""
    text = run([sys.executable, "-c", "import os; print(dict(os.environ))"], timeout_s=10, **options).text  # type: ignore[arg-type]
    found: dict[str, str] = eval(text)  # noqa: S307 our own program printed it
    return found


@pytest.mark.usefixtures("unwanted")
def test_the_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a program gets these and nothing else."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("TMPDIR", "/tmp")  # noqa: S108 a value only
    monkeypatch.setenv("PATH", "/opt/bin")

    # LC_CTYPE: Python itself may add it for its own children.
    assert {name: value for name, value in environment_of().items() if name != "LC_CTYPE"} == {
        "PATH": f"/opt/bin:{SYSTEM_PATH}",
        "TERM": "dumb",
        "TMPDIR": "/tmp",  # noqa: S108 a value only
        "LANG": "C.UTF-8",
    }


@pytest.mark.usefixtures("unwanted")
@pytest.mark.parametrize("given", [{}, {"A": "b", "EMPTY": ""}], ids=["nothing", "something"])
def test_a_given_environment_is_the_whole_one(given: dict[str, str]) -> None:
    """Nothing is added to it, not even PATH."""
    assert {name: value for name, value in environment_of(env=given).items() if name != "LC_CTYPE"} == given


@pytest.mark.usefixtures("unwanted")
def test_the_environment_of_long_programs_too(tmp_path: Path) -> None:
    """Both runners keep the same things out."""
    run_with_progress(shell(f"env >{tmp_path}/env"), timeout_s=10, title="x")
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text(encoding="utf-8").splitlines()}

    assert names - {"PWD", "OLDPWD", "_", "SHLVL"} <= {*INHERITED, "LANG"}


def test_without_a_path_there_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty PATH must not mean the current folder."""
    monkeypatch.delenv("PATH")
    assert base_environment()["PATH"] == SYSTEM_PATH
    monkeypatch.setenv("PATH", "")
    assert base_environment()["PATH"] == SYSTEM_PATH


@pytest.mark.usefixtures("unwanted")
def test_what_reaches_mirrors_is_asked_for_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and certificates are in no environment but the one for the network, and no secret is in that."""
    for name in list(network_environment()):
        monkeypatch.delenv(name)
    proxies = {"https_proxy": "http://localhost:1", "NO_PROXY": "x", "SSL_CERT_FILE": "/x"}
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)

    assert network_environment() == proxies
    assert not proxies.keys() & base_environment().keys()


def test_the_system_path_is_searched() -> None:
    """Programs of the sbin folders are found although the caller's PATH lacks them."""
    assert {"/usr/sbin", "/sbin", "/usr/bin"} <= set(SYSTEM_PATH.split(":"))
    assert shutil.which("sh", path=SYSTEM_PATH)


@pytest.mark.parametrize(
    ("message", "blame", "advice"),
    [("mkdir: No space left on device", Blame.MACHINE, "Free some disk space"), ("mkdir: no", Blame.HARNESS, "")],
)
def test_a_known_message_tells_whose_fault_it_is(message: str, blame: Blame, advice: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", 'echo "$1" >&2; exit 1', "sh", message], timeout_s=10)
    assert caught.value.blame is blame
    assert caught.value.hint.startswith(advice)
    assert bool(caught.value.hint) is bool(advice)
