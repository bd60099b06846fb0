"""systemd-socket-activate(1): a program that listens, and becomes `podman run` when the first client comes.

It can't mix streams and datagrams, so a workload with both gets two, each with a container of its own.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace

from harness.activation.base import UNIT_LIMIT_S, Activated, Activation, Workload, clean_up
from harness.contract import Contract
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import UnitFailed
from harness.core.transports import ROWS, Directive, Listener, Transport
from harness.session.manager import NoSuchUnit
from harness.session.session import Session

_PROGRAM = "/usr/bin/systemd-socket-activate"

#: The launcher hands on only TERM, PATH, USER and HOME; podman needs this one too.
_PASSED_ON = "--setenv=XDG_RUNTIME_DIR"

#: What sd_listen_fds_with_names(3) calls a socket without a name.
_UNNAMED = "unknown"


def split(workload: Workload) -> dict[Directive, Workload]:
    """Return the part of a workload that each launcher gets."""
    parts = {}
    for directive in Directive:
        listeners = tuple(listener for listener in workload.listeners if listener.directive is directive)
        if listeners:
            ending = directive.removeprefix("Listen").lower()
            parts[directive] = replace(workload, name=f"{workload.name}-{ending}", listeners=listeners)
    return parts


def command(directive: Directive, part: Workload) -> tuple[str, ...]:
    """Return the command line of one launcher."""
    kind = ("--datagram",) if directive is Directive.DATAGRAM else ()
    listen = (f"--listen={listener.address}" for listener in part.listeners)
    return (_PROGRAM, *kind, *listen, *_names(part), _PASSED_ON, *part.podman_run())


def _names(part: Workload) -> tuple[str, ...]:
    """Return the option that names the sockets; it names all of them, by sd_listen_fds(3)'s word for those without."""
    if not any(listener.name for listener in part.listeners):
        return ()
    return (f"--fdname={':'.join(listener.name or _UNNAMED for listener in part.listeners)}",)


def _files(parts: Mapping[Directive, Workload]) -> Mapping[str, str]:
    return {f"{part.name}.command": f"{shlex.join(command(kind, part))}\n" for kind, part in parts.items()}


class Launched(Activated):
    """One launcher per kind of socket, each in a transient service of the session, so that systemd keeps its state."""

    listens_on = False

    @property
    def _parts(self) -> Mapping[Directive, Workload]:
        return split(self.workload)

    @property
    def files(self) -> Mapping[str, str]:
        """Name of the transient service -> its command line."""
        return _files(self._parts)

    @property
    def services(self) -> tuple[str, ...]:
        """A transient service per launcher."""
        return tuple(f"{part.name}.service" for part in self._parts.values())

    @property
    def sockets(self) -> tuple[str, ...]:
        """None: the launcher itself listens."""
        return ()

    def service_of(self, transport: Transport) -> str:
        """Return the service of the launcher that listens for `transport`."""
        return f"{self._parts[ROWS[transport].directive].name}.service"

    def listeners_of(self, transport: Transport) -> tuple[Listener, ...]:
        """Return the sockets of the launcher that listens for `transport`."""
        return self._parts[ROWS[transport].directive].listeners

    def is_active(self, transport: Transport) -> bool:
        """Whether the launcher has become podman: it executes it in its own process."""
        try:
            pid = self.session.manager.properties(self.service_of(transport))["MainPID"]
            name = self.session.outside(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
        except (NoSuchUnit, OSError):
            return False  # it has ended
        return name.decode() != _PROGRAM

    def start_listening(self) -> None:
        """Start every launcher and wait until it has said of each socket that it listens."""
        for directive, part in self._parts.items():
            unit = f"{part.name}.service"
            before, wanted = self.session.output_size(unit), len(part.listeners)
            self._start(unit, command(directive, part))
            wait_until(
                lambda unit=unit, before=before: self._heard(unit, before),  # type: ignore[misc]
                lambda heard, wanted=wanted: heard >= wanted,  # type: ignore[misc]
                Deadline.after(UNIT_LIMIT_S),
                f"the launcher '{unit}' to listen on {wanted} sockets",
            )

    def _start(self, unit: str, arguments: tuple[str, ...]) -> None:
        """Start one launcher in a transient service; raise UnitFailed with what it said."""
        properties = [
            ("Description", ("s", f"launcher {unit}")),
            ("Type", ("s", "exec")),
            # Only podman gets SIGTERM, as from a shell; it passes it on to the container and waits for it.
            ("KillMode", ("s", "mixed")),
            # Longer than anybody here waits, so that a container that does not stop is noticed before systemd kills it.
            ("TimeoutStopUSec", ("t", int((self.workload.stop_s + UNIT_LIMIT_S) * 1_000_000))),
            ("ExecStart", ("a(sasb)", [(_PROGRAM, list(arguments), False)])),
        ]
        try:
            self.session.manager.start_transient(unit, properties, Deadline.after(UNIT_LIMIT_S))
        except UnitFailed as error:
            raise UnitFailed(unit, error.properties, evidence=self.evidence()) from None

    def stop_service(self, deadline: Deadline) -> None:
        """Stop the launchers, now podman, and start them anew: a launcher serves once."""
        self._stop(deadline)
        self.start_listening()

    def remove(self) -> None:
        """Stop the launchers; a transient service goes with its process."""
        self.stop_for_good(self.workload.stop_s)

    def _stop(self, deadline: Deadline) -> None:
        self.session.manager.stop_together(self.services, deadline)
        self.session.manager.reset_failed()

    def _heard(self, unit: str, before: int) -> int:
        """Return on how many sockets the launcher says to listen, behind what it had said before."""
        state = self.state(unit)
        if state["ActiveState"] in ("failed", "inactive"):
            raise UnitFailed(unit, state, evidence=self.evidence())
        return self.session.output(unit, before).count("Listening on ")


class LauncherActivation(Activation):
    """`systemd-socket-activate`."""

    name = "launcher"
    needs = ("systemd_socket_activate",)
    keeps_sockets = False

    def refusal(self, contract: Contract) -> str:
        """Return that the launcher has no options for what systemd.socket(5) and systemd.exec(5) can set."""
        settings = [*contract.service.settings, *(one for table in contract.sockets for one in table.options.settings)]
        wanted = dict.fromkeys(name for name, _value in settings)
        return f"systemd-socket-activate(1) has no option for {', '.join(wanted)} of the contract" if wanted else ""

    def preview(self, workload: Workload) -> Mapping[str, str]:
        """Return the command lines of the launchers."""
        return _files(split(workload))

    @contextlib.contextmanager
    def install(self, session: Session, workload: Workload) -> Iterator[Launched]:
        """Prepare the launchers' outputs; stop the launchers at the end."""
        launched = Launched(session, workload)
        with clean_up(session, *launched.containers.values()):
            try:
                for unit in launched.services:
                    session.capture(unit)
                yield launched
            finally:
                if not session.kept:
                    launched.remove()


ACTIVATION = LauncherActivation()
