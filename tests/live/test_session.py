"""A throwaway session: what its processes see, its files, its network; and nothing of it on the machine."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from testinfra.host import Host

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import CommandError, WaitTimeout
from harness.core.transports import Listener, Transport
from harness.images.store import ImageStore
from harness.runtime.runtime import Runtime
from harness.session.session import Session
from tests.helpers.sessions import isolated, opened, over, running

#: What must never reach a process of a session.
UNWANTED = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "NOTIFY_SOCKET": "/x", "CI_JOB_TOKEN": "secret", "PYTHONPATH": "/x"}


@pytest.fixture
def store(harness_runtime: Runtime) -> ImageStore:
    """The store that sessions of the test's own see."""
    return harness_runtime.store


def variables(text: str) -> dict[str, str]:
    """Return what env(1) has printed with its option -0, without what the shell before it adds."""
    pairs = dict(item.split("=", 1) for item in text.split("\0") if item)
    return {name: value for name, value in pairs.items() if name not in ("PWD", "OLDPWD", "SHLVL", "_")}


# -- what its processes see -------------------------------------------------------------------------------------------


@isolated
def test_the_environment_is_an_allow_list(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a program, of the manager itself and of a service: what a login sets, and nothing of the harness's own."""
    for name, value in UNWANTED.items():
        monkeypatch.setenv(name, value)
    with opened(store) as session:
        program = variables(session.run(["env", "-0"]).text)
        session.write(f"{session.paths.units}/env.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/env -0\n")
        session.manager.reload()
        session.manager.start("env.service", Deadline.after(10))
        service = variables(session.output("env.service"))
        supervisor = Path(f"/proc/{session.init}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        outer = variables(Path(f"/proc/{supervisor}/environ").read_text(encoding="utf-8"))
        (manager,) = (pid for pid in running(session, "systemd") if Path(f"/proc/{pid}/stat").stat().st_uid)
        own = variables(Path(f"/proc/{manager}/environ").read_text(encoding="utf-8"))

        home, runtime = session.paths.home, session.paths.runtime
    assert program == {
        "HOME": home,
        "LANG": "C.UTF-8",
        "LOGNAME": "harness",
        "PATH": program["PATH"],
        "SHELL": "/bin/sh",
        "USER": "harness",
        "XDG_RUNTIME_DIR": runtime,
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus",
    }
    assert program == dict(session.environment)
    assert own.keys() - program.keys() == {"NOTIFY_SOCKET"}
    assert own["NOTIFY_SOCKET"] != UNWANTED["NOTIFY_SOCKET"]
    assert program.items() <= service.items()
    assert not UNWANTED.keys() & service.keys()
    assert not UNWANTED.keys() & outer.keys()


def test_no_signal_is_ignored_for_a_service(harness_session: Session) -> None:
    """The harness ignores some for itself; a service gets what systemd gives it: no SIGPIPE, see IgnoreSIGPIPE=."""
    name = "signals.service"
    path = f"{harness_session.paths.units}/{name}"
    line = "ExecStart=/bin/grep -E ^Sig(Ign|Blk) /proc/self/status"
    harness_session.write(path, f"[Service]\nType=oneshot\n{line}\n")
    harness_session.capture(name)
    harness_session.manager.reload()
    harness_session.manager.start(name, Deadline.after(10))
    harness_session.remove(path)
    harness_session.manager.reload()

    assert {int(item.split()[1], 16) for item in harness_session.output(name).splitlines()} == {0, 1 << 12}


def test_its_folders(harness_session: Session) -> None:
    """HOME and XDG_RUNTIME_DIR are there, the account's own, and closed to others."""
    account = harness_session.account
    for variable in ("HOME", "XDG_RUNTIME_DIR"):
        path = harness_session.run(["/bin/sh", "-c", f'cd "${variable}" && pwd']).text.strip()
        assert path == harness_session.environment[variable]
        status = harness_session.outside(path).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (account.uid, account.gid, 0o700)
    # The longest path of a socket that podman and systemd put there must fit into 108 bytes, see unix(7).
    assert len(harness_session.paths.runtime) < 40


@isolated
def test_it_is_not_root(harness_session: Session) -> None:
    """The account is the one that the object names, with no other group."""
    assert harness_session.run(["id", "-u"]).text == f"{harness_session.account.uid}\n"
    assert harness_session.run(["id", "-un"]).text == f"{harness_session.account.name}\n"
    assert harness_session.run(["id", "-G"]).text == f"{harness_session.account.gid}\n"
    assert not harness_session.account.root


@isolated
def test_the_machines_accounts_stay_as_they_are(store: ImageStore) -> None:
    """The account is in the session's own files, laid over the machine's, and cannot write to those."""
    files = [Path("/etc", name) for name in ("passwd", "group", "subuid", "subgid") if Path("/etc", name).exists()]
    before = [file.read_bytes() for file in files]
    with opened(store) as session:
        known = session.run(["cat", "/etc/passwd"]).text
        assert known.startswith(Path("/etc/passwd").read_text(encoding="utf-8"))
        assert known.splitlines()[-1].startswith(f"harness:x:{session.account.uid}:{session.account.gid}:")
        assert session.run(["/bin/sh", "-c", "echo x >>/etc/passwd"], check=False).status != 0
        inside = [file.read_bytes() for file in files]

    assert [file.read_bytes() for file in files] == before == inside
    assert b"\nharness:" not in before[0]


@isolated
def test_it_sees_only_its_own_processes(harness_session: Session) -> None:
    """Its first process is number 1; none of the machine's can be seen, the test itself included."""
    names = harness_session.run(["ps", "-e", "-o", "pid=,comm="]).text.split()

    assert names[:2] == ["1", Path(f"/proc/{harness_session.init}/comm").read_text(encoding="utf-8").strip()]
    assert "systemd" in names
    assert "pytest" not in " ".join(names)


def test_the_host_of_a_test_is_the_session(harness_host: Host, harness_session: Session) -> None:
    """testinfra's modules see the session: account, environment, files, sockets; a status is a status."""
    assert harness_host.user().name == harness_session.account.name
    assert harness_host.check_output("echo $HOME") == harness_session.paths.home
    assert harness_host.file(harness_session.paths.units).is_directory
    assert harness_host.run("exit 3").rc == 3
    assert (harness_host.run("echo %s; echo err >&2", "a b").stdout, harness_host.run("echo err >&2").stderr) == (
        "a b\n",
        "err\n",
    )
    with harness_session.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert harness_host.socket(f"tcp://127.0.0.1:{port}").is_listening
    assert not harness_host.socket(f"tcp://127.0.0.1:{port}").is_listening


# -- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -9)])
def test_a_status_comes_through(harness_session: Session, ending: str, status: int) -> None:
    """As if nothing stood between the test and the program; input and output likewise."""
    done = harness_session.run(["/bin/sh", "-c", f"cat; echo err >&2; {ending}"], stdin=b"in\0", check=False)

    assert (done.status, done.stdout, done.stderr) == (status, b"in\0", b"err\n")


def test_a_program_that_is_not_there(harness_session: Session) -> None:
    """As in a shell."""
    assert harness_session.run(["/nowhere/program"], check=False).status == 127
    with pytest.raises(CommandError, match="could not be started"):
        harness_session.run(["/nowhere/program"])


def test_a_program_has_a_time_limit(harness_session: Session) -> None:
    """Past it the caller goes on, with an error."""
    started = time.monotonic()
    with pytest.raises(CommandError) as caught:
        harness_session.run(["sleep", "3"], timeout_s=0.3, check=False)

    assert 0.3 <= time.monotonic() - started < 5
    assert (caught.value.status, caught.value.timeout_s) == (None, 0.3)


@isolated
def test_a_program_past_its_limit_is_gone(store: ImageStore) -> None:
    """It takes no more of the machine's time, and holds no socket for the next test."""
    with opened(store) as session:
        with pytest.raises(CommandError):
            session.run(["sleep", "21"], timeout_s=0.3)
        wait_until(lambda: running(session, "sleep"), lambda left: not left, Deadline.after(5), "its end")


def test_a_long_program_says_where_it_is(harness_session: Session) -> None:
    """The output is whole, standard error included."""
    command = ["/bin/sh", "-c", "id -u; echo err >&2"]

    assert (
        harness_session.run_with_progress(command, timeout_s=10, title="x").text
        == f"{harness_session.account.uid}\nerr\n"
    )


# -- the network ------------------------------------------------------------------------------------------------------


@isolated
@over("tcp4", "tcp6", "udp4", "udp6")
def test_two_sessions_have_the_same_port(store: ImageStore, harness_session: Session, transport: Transport) -> None:
    """At the same time, both seen by their own clients only."""
    listener = Listener((transport,), 3000)
    with ExitStack() as stack:
        sessions = [harness_session, stack.enter_context(opened(store))]
        for session in sessions:
            (endpoint,) = session.assign_addresses([listener])[0].endpoints
            assert endpoint.port == 3000
            bound = stack.enter_context(session.socket(endpoint.row.family, endpoint.row.kind))
            if not endpoint.datagram:  # as systemd does: an earlier test's connection may still be in TIME_WAIT
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(endpoint.native)
            if not endpoint.datagram:
                bound.listen()
        assert all(":3000 " in session.run(["ss", "-Hnltu"]).text for session in sessions)

    assert len({session.name for session in sessions}) == 2
    assert not any(":3000 " in session.run(["ss", "-Hnltu"]).text for session in sessions[:1])


@isolated
def test_there_is_nothing_but_the_loopback(harness_session: Session) -> None:
    """No test can depend on the machine's network by accident; the loopback works in both families."""
    up = harness_session.run(["ip", "-oneline", "link", "show", "up"]).text.splitlines()
    assert [line.split(": ")[1] for line in up] == ["lo"]
    with harness_session.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        with pytest.raises(OSError, match="unreachable"):
            outward.connect(("192.0.2.1", 9))  # a documentation address, see RFC 5737
        outward.connect(("127.0.0.1", 9))


def test_ports_of_a_shared_network_are_chosen_free(harness_session: Session) -> None:
    """Where sessions share the machine's ports: free ones; sockets of one port keep one port; paths go home."""
    shared = replace(harness_session, own_network=False)
    wanted = [
        Listener((Transport.TCP4,), 3000),
        Listener((Transport.UDP4,), 3000),
        Listener((Transport.TCP4,), 3001),
        Listener((Transport.UNIX,), path="a.sock"),
        Listener((Transport.TCP4,), 3002, fixed_port=True),
    ]
    first, second, other, unix, fixed = shared.assign_addresses(wanted)

    assert first.port == second.port != other.port
    assert fixed == wanted[-1]
    assert min(first.port, other.port) >= 1024
    assert unix.path == f"{harness_session.paths.home}/a.sock"
    for listener in (first, second, other):
        endpoint = listener.endpoints[0]
        with socket.socket(endpoint.row.family, endpoint.row.kind) as trial:
            trial.bind(endpoint.native)


@isolated
def test_ports_of_its_own_network_stay(harness_session: Session) -> None:
    """The contract's numbers, whatever runs on the machine."""
    wanted = [Listener((Transport.TCP4, Transport.TCP6), 3000), Listener((Transport.UNIX,), path="a.sock")]

    assert harness_session.assign_addresses(wanted) == (
        wanted[0],
        replace(wanted[1], path=f"{harness_session.paths.home}/a.sock"),
    )


def test_a_fixed_port_of_a_shared_network_is_held_by_one(
    harness_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one waits until it is given up; other ports and a network of one's own keep nobody waiting."""
    monkeypatch.setattr("harness.session.session._PORT_LIMIT_S", 0.1)
    shared = replace(harness_session, own_network=False)
    port = 20000 + os.getpid() % 20000  # two workers must not wait for each other
    fixed = [Listener((Transport.TCP4,), port, fixed_port=True)]
    with shared.lock_ports(fixed):
        with shared.lock_ports([Listener((Transport.TCP4,), port), Listener((Transport.TCP4,), port + 1, "", True)]):
            pass
        with replace(harness_session, own_network=True).lock_ports(fixed):
            pass
        with pytest.raises(WaitTimeout, match=f"another session to give up the port {port}"), shared.lock_ports(fixed):
            pytest.fail("two have it")
    with shared.lock_ports(fixed):
        pass


@isolated
def test_many_threads_ask_for_their_first_socket(harness_session: Session) -> None:
    """The session's network is opened once for all of them."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _round in range(20):
        fresh = replace(harness_session, _descriptors={})
        start = threading.Barrier(8)

        def ask(session: Session = fresh, start: threading.Barrier = start) -> None:
            start.wait()
            session.socket(socket.AF_INET, socket.SOCK_STREAM).close()

        with ThreadPoolExecutor(8) as pool:
            for end in [pool.submit(ask) for _thread in range(8)]:
                end.result()
        for descriptor in fresh._descriptors.values():
            os.close(descriptor)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
