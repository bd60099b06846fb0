"""A running session, as everything to the right of it uses it."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.core.account import Account
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import SessionError
from harness.core.process import Completed, run, run_with_progress
from harness.core.progress import Progress, silent
from harness.core.transports import ROWS, Listener, Transport
from harness.session.bounds import TESTS, Bounds, Hits, ends, hits
from harness.session.manager import Manager
from harness.session.owned_process import OwnedProcess
from harness.session.spec import Paths
from harness.standalone import syscalls

#: Longest run of a program in a session where the caller names no limit, in seconds.
COMMAND_LIMIT_S = 30.0

#: Longest wait for a port that another session has, in seconds; a test holds one for a few.
_PORT_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Session:
    """One throwaway `systemd --user` with its HOME, XDG_RUNTIME_DIR, containers and, as root, namespaces."""

    #: Unique on the machine while the session lives; also the name of its cgroup.
    name: str
    account: Account
    paths: Paths
    environment: Mapping[str, str]
    manager: Manager
    #: What stands before a command so that it runs inside.
    prefix: tuple[str, ...]
    #: What stands before a client program; where no namespace is between it and the sockets, nothing.
    client_prefix: tuple[str, ...]
    #: Where the session's file system is seen from outside.
    root: Path
    #: Folder of the session's cgroup on the machine.
    cgroup: Path
    #: Process id of the session's first process.
    init: int
    #: Whether ports are the session's own, so that those of a contract are always free.
    own_network: bool
    #: Ends the session with the harness, unless it is told to keep it.
    _supervisor: OwnedProcess
    bounds: Bounds = TESTS
    #: Controller -> the folder of the cgroup that keeps its bound, of those that this machine can bound.
    bounded: Mapping[str, str] = field(default_factory=dict)
    _descriptors: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return what a person needs of it in a failed assertion."""
        return f"<session {self.name}>"

    def __post_init__(self) -> None:
        """Let the manager's errors say what the units have printed."""
        self.manager.evidence_of = self.evidence_of

    # -- programs -----------------------------------------------------------------------------------------------

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float = COMMAND_LIMIT_S,
        stdin: bytes = b"",
        check: bool = True,
    ) -> Completed:
        """Run a program inside, as the session's account, with the session's environment and nothing else of ours."""
        return run(
            [*self.prefix, *command], timeout_s=timeout_s, stdin=stdin, check=check, env=self.environment, cwd="/"
        )

    def run_with_progress(
        self, command: Sequence[str], *, timeout_s: float, title: str, progress: Progress = silent
    ) -> Completed:
        """Run a long program inside, saying where it is."""
        return run_with_progress(
            [*self.prefix, *command], timeout_s=timeout_s, title=title, progress=progress, env=self.environment
        )

    @property
    def entry(self) -> str:
        """A line for a shell that opens a shell inside, while the session lives."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return shlex.join(["env", *variables, *self.prefix, "/bin/sh"])

    # -- files --------------------------------------------------------------------------------------------------

    def outside(self, path: str) -> Path:
        """Return where a path of the session's is seen from outside."""
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str) -> None:
        """Write a file below the session's home that belongs to its account.

        Raises SessionError when the way there leads over a symbolic link: the account must not lead root elsewhere.
        """
        if not path.startswith(f"{self.paths.home}/") or ".." in path.split("/"):
            raise SessionError(f"The file '{path}' is not below the session's home folder.")
        folder = self.outside(self.paths.home)
        *parents, name = path[len(self.paths.home) + 1 :].split("/")
        for part in parents:
            folder = folder / part
            if not folder.is_symlink() and not folder.exists():
                folder.mkdir(0o700)
                os.chown(folder, self.account.uid, self.account.gid)
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise SessionError(f"The path '{folder}' in the session is not a folder.")
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
        try:
            descriptor = os.open(folder / name, flags, 0o600)
        except OSError as error:
            raise SessionError(f"The file '{folder / name}' can't be written: {error.strerror}.") from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchown(descriptor, self.account.uid, self.account.gid)
            file.write(text)

    def remove(self, path: str) -> None:
        """Remove a file of the session's; it may have gone already."""
        with contextlib.suppress(FileNotFoundError):
            self.outside(path).unlink()

    @contextlib.contextmanager
    def drop_in(self, unit: str, text: str) -> Iterator[None]:
        """Change a unit as `systemctl --user edit UNIT` does: the text of a drop-in, see systemd.unit(5)."""
        folder = f"{self.paths.units}/{unit}.d"
        self.write(f"{folder}/50-suite.conf", text)
        try:
            self.manager.reload()
            yield
        finally:
            if not self.kept:
                self.run(["rm", "-rf", folder])
                self.manager.reload()

    def capture(self, unit: str) -> None:
        """Make a new file for the output of the service `unit` before its first start.

        An OCI runtime gives its standard output to the user of the container, see fchown(2); anybody may write to this
        file, so that the service's next start can still open it.
        """
        path = self.outside(f"{self.paths.output}/{unit}.log")
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        path.chmod(0o666)

    def output(self, unit: str, since: int = 0) -> str:
        """Return what the service `unit` has printed so far, all its starts together; from the byte `since` on."""
        return self._read(f"{self.paths.output}/{unit}.log", since)

    def output_size(self, unit: str) -> int:
        """Return how many bytes the service `unit` has printed so far; 0 where it has no file."""
        try:
            return self.outside(f"{self.paths.output}/{unit}.log").lstat().st_size
        except FileNotFoundError:
            return 0

    def events(self) -> str:
        """Return podman's notes of containers and images, a JSON object a line: all, or at least the newest 500 kB."""
        return self._read(self.paths.events)

    def outputs(self, since: float) -> dict[str, str]:
        """Return service unit -> what it has printed, of all that printed since a time in seconds since 1970."""
        files = sorted(self.outside(self.paths.output).glob("*.log"))
        fresh = [file.name.removesuffix(".log") for file in files if file.lstat().st_mtime >= since]
        return {unit: output for unit in fresh if (output := self.output(unit))}

    def hits(self) -> Hits:
        """Return how often the session has met its bounds so far."""
        return hits(self.bounded, map(self.outside, self.paths.disks))

    def evidence_of(self, unit: str) -> dict[str, str]:
        """Return title -> text of what a unit and systemd say of it, for an error."""
        lines = [line for line in self.manager_log().splitlines() if unit.rpartition(".")[0] in line]
        return {f"output of {unit}": self.output(unit), "systemd --user": "\n".join(lines)}

    def manager_log(self) -> str:
        """Return what `systemd --user` itself has said so far.

        Without namespaces it speaks to the machine's journal, where its user may read it.
        """
        if text := self._read(self.paths.manager_log):
            return text
        children = Path(f"/proc/{self.init}/task/{self.init}/children")
        manager = children.read_text(encoding="ascii").split()[:1] if children.exists() else []
        asked = ["journalctl", "--quiet", "--no-pager", "--output=cat", *(f"_PID={pid}" for pid in manager)]
        return self.run(asked, check=False).text if manager else ""

    def _read(self, path: str, since: int = 0) -> str:
        """Return a file of the session's from a byte on, "" where there is none; of a long one the middle is left out.

        Its account may have put anything in its place: a link is not followed, since it would lead root out of the
        session, and a pipe is not waited for.
        """
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self.outside(path), flags), "rb") as file:
                return ends(file, since, self.bounds.output).decode(errors="replace")
        except OSError:
            return ""

    # -- the network --------------------------------------------------------------------------------------------

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket made in the session's network namespace; any thread can use it."""
        if not self.own_network:
            return socket.socket(family, kind, protocol)
        made: list[socket.socket | OSError] = []

        def make() -> None:
            try:
                syscalls.setns(self._network(), syscalls.CLONE_NEWNET)
                made.append(socket.socket(family, kind, protocol))
            except OSError as error:
                made.append(error)

        # A thread of its own: setns(2) moves one thread, and this one ends with its single task.
        thread = threading.Thread(target=make, name="harness-setns")
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise SessionError(f"No socket could be made in the session '{self.name}': {made[0]}.")
        return made[0]

    def _network(self) -> int:
        if "net" not in self._descriptors:
            opened = os.open(f"/proc/{self.init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            if self._descriptors.setdefault("net", opened) != opened:
                os.close(opened)  # another thread was first
        return self._descriptors["net"]

    def assign_addresses(self, listeners: Sequence[Listener]) -> tuple[Listener, ...]:
        """Return the listeners at addresses that this session can give them.

        Unix sockets go to the home folder. Ports stay as they are where the network is the session's own; vsock ports,
        which no namespace keeps apart on most kernels, and all ports of a shared network are chosen free, unless they
        are fixed. Equal port numbers of one family of transports stay equal.
        """
        chosen: dict[tuple[bool, int], int] = {}
        placed = []
        for listener in listeners:
            if listener.path:
                placed.append(replace(listener, path=f"{self.paths.home}/{listener.path}"))
                continue
            vsock = listener.transports[0] is Transport.VSOCK
            if listener.fixed_port or (self.own_network and not vsock):
                placed.append(listener)
                continue
            key = (vsock, listener.port)
            if key not in chosen:
                group = [
                    other for other in listeners if other.port and (other.transports[0] is Transport.VSOCK) == vsock
                ]
                chosen[key] = _free_port([other for other in group if other.port == listener.port])
            placed.append(replace(listener, port=chosen[key]))
        return tuple(placed)

    @contextlib.contextmanager
    def lock_ports(self, listeners: Sequence[Listener]) -> Iterator[None]:
        """Hold the fixed ports of `listeners`, for which sessions that share a network have to take turns.

        An abstract Unix socket is the lock: the kernel lets go of it with the process that holds it, see unix(7).
        """
        ports = sorted({listener.port for listener in listeners if listener.fixed_port and not self.own_network})
        with contextlib.ExitStack() as held:
            for port in ports:
                lock = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                wait_until(
                    lambda lock=lock, port=port: _bound(lock, f"\0harness-port-{port}"),  # type: ignore[misc]
                    bool,
                    Deadline.after(_PORT_LIMIT_S),
                    f"another session to give up the port {port}",
                )
            yield

    @property
    def kept(self) -> bool:
        """Whether `keep` was called; what is in the session is then left as it is."""
        return self._supervisor.kept

    def keep(self) -> None:
        """Let the session outlive the harness, for a person to look into; `python -m harness sweep --kept` ends it."""
        self._supervisor.keep()

    def close(self) -> None:
        """Give up what this object holds of the session; the session itself is ended by who opened it."""
        self.manager.close()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


def _bound(lock: socket.socket, name: str) -> bool:
    try:
        lock.bind(name)
    except OSError:
        return False
    return True


def _free_port(listeners: Sequence[Listener]) -> int:
    """Return a port on which all `listeners` can be bound at this moment."""
    for _attempt in range(50):
        with contextlib.ExitStack() as held:
            port = 0
            try:
                for listener in listeners:
                    row = ROWS[listener.transports[0]]
                    trial = held.enter_context(socket.socket(row.family, row.kind))
                    if row.family == socket.AF_VSOCK:
                        trial.bind((socket.VMADDR_CID_ANY, port or socket.VMADDR_PORT_ANY))
                    else:
                        trial.bind(("::1" if row.family == socket.AF_INET6 else "127.0.0.1", port))
                    port = port or trial.getsockname()[1]
            except OSError:
                continue
            return port
    raise SessionError(f"No free port was found for {', '.join(listener.line for listener in listeners)}.")
