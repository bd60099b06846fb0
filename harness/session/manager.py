"""Talking to a session's `systemd --user` over D-Bus, by its private socket and without a bus daemon.

The interfaces are those of org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from jeepney import DBusAddress, DBusErrorResponse, HeaderFields, Message, MessageType, new_method_call
from jeepney.low_level import calc_msg_size

from harness.core.deadline import Deadline
from harness.core.errors import SessionError, UnitFailed, WaitTimeout
from harness.core.hints import start_hint

_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
_PREFIX = "org.freedesktop.systemd1"

#: Longest wait for the answer to one call, in seconds; a reload of the manager is the slowest.
CALL_LIMIT_S = 20.0

#: Bytes of a message that say how long it is, see the D-Bus specification.
_FIXED_HEADER = 16

#: The byte of a message that says of which type it is.
_TYPE = 1

#: The signal that says how a job has ended.
_JOB_REMOVED = b"JobRemoved"

#: Unit name's ending -> the interface that has the properties of that type.
_INTERFACES = {"service": "Service", "socket": "Socket", "scope": "Scope", "target": "Target"}

Properties = dict[str, Any]


class NoSuchUnit(SessionError):
    """systemd knows no unit of that name."""


class Manager:
    """A connection to one `systemd --user`; close it with the session."""

    def __init__(self, connected: socket.socket, uid: int) -> None:
        """Take over a socket connected to `$XDG_RUNTIME_DIR/systemd/private` by a process of `uid`."""
        self._socket = connected
        #: What was read and is no whole message yet.
        self._read = bytearray()
        self._serials = itertools.count(1)
        self._jobs: dict[str, str] = {}
        #: Returns what a unit that failed has to say, title -> text; the session knows where that is.
        self.evidence_of: Callable[[str], Mapping[str, str]] = lambda _unit: {}
        try:
            self._socket.settimeout(CALL_LIMIT_S)
            self._authenticate(uid)
            self.call("Subscribe")
        except OSError as error:
            self._socket.close()
            raise SessionError(f"The session's manager does not answer: {error}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    # -- what the suites need of systemd ------------------------------------------------------------------------

    def reload(self) -> None:
        """Read all unit files again, as `systemctl --user daemon-reload` does."""
        self.call("Reload")

    def start(self, unit: str, deadline: Deadline) -> None:
        """Start `unit` and wait for its job; raise UnitFailed when the job fails."""
        self._finish(unit, "StartUnit", deadline)

    def stop(self, unit: str, deadline: Deadline) -> None:
        """Stop `unit` and wait for its job; a unit that is not loaded is stopped already."""
        try:
            self._finish(unit, "StopUnit", deadline)
        except NoSuchUnit:
            return

    def stop_together(self, units: Sequence[str], deadline: Deadline) -> None:
        """Stop units by jobs that are queued at the same time, as `systemctl stop A B` does, until none is active.

        One after the other, a client of a socket that still listens starts the service of one that does not, and with
        it that socket. A job may be done before the next is queued, so that this may take another round. Units that are
        not loaded are stopped already; a job that fails is nobody's loss.
        """
        left = [*units]
        while left and not deadline.expired:
            jobs = {}
            for unit in left:
                with contextlib.suppress(NoSuchUnit):
                    (jobs[unit],) = self.call("StopUnit", "ss", (unit, "replace"))
            for unit, job in jobs.items():
                with contextlib.suppress(UnitFailed):
                    self._await_job(unit, job, deadline)
            left = [*units] if any(map(self._is_active, jobs)) else []

    def restart(self, unit: str, deadline: Deadline) -> None:
        """Restart `unit` and wait for its job; raise UnitFailed when the job fails."""
        self._finish(unit, "RestartUnit", deadline)

    def reset_failed(self) -> None:
        """Forget the failed state of all units, and with it their start counters."""
        self.call("ResetFailed")

    def kill(self, unit: str, number: int) -> None:
        """Send a signal to every process of `unit`."""
        self.call("KillUnit", "ssi", (unit, "all", number))

    def start_transient(self, unit: str, properties: Sequence[tuple[str, tuple[str, Any]]], deadline: Deadline) -> None:
        """Make and start a unit without a file; `properties` are (name, (D-Bus signature, value))."""
        (job,) = self.call("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", list(properties), []))
        self._await_job(unit, job, deadline)

    def properties(self, unit: str) -> Properties:
        """Return all properties of `unit`, of its type's interface too; raise NoSuchUnit."""
        (path,) = self.call("LoadUnit", "s", (unit,))
        kind = _INTERFACES.get(unit.rpartition(".")[2])
        found: Properties = {}
        for interface in ("Unit", *([kind] if kind else [])):
            address = DBusAddress(path, bus_name=_PREFIX, interface="org.freedesktop.DBus.Properties")
            (values,) = self._exchange(new_method_call(address, "GetAll", "s", (f"{_PREFIX}.{interface}",)))
            found.update({name: value for name, (_signature, value) in values.items()})
        if found["LoadState"] == "not-found":
            raise NoSuchUnit(f"systemd knows no unit '{unit}'.")
        return found

    def get(self, unit: str, *names: str) -> tuple[Any, ...]:
        """Return properties of `unit`, each named with its interface, as `Service.NRestarts`; raise NoSuchUnit.

        A unit has some three hundred of them, and to read all takes twenty times as long as to read a few.
        """
        loaded, *found = (self._get(unit, name) for name in ("Unit.LoadState", *names))
        if loaded == "not-found":
            raise NoSuchUnit(f"systemd knows no unit '{unit}'.")
        return tuple(found)

    def _get(self, unit: str, name: str) -> Any:
        interface, _, member = name.partition(".")
        address = DBusAddress(_path(unit), bus_name=_PREFIX, interface="org.freedesktop.DBus.Properties")
        message = new_method_call(address, "Get", "ss", (f"{_PREFIX}.{interface}", member))
        ((_signature, value),) = self._exchange(message)
        return value

    def state(self, unit: str) -> dict[str, str]:
        """Return ActiveState, SubState and, where the type has one, Result of `unit`; raise NoSuchUnit."""
        # By one call, so that the first two are of the same moment.
        (((_name, _text, loaded, active, sub, *_rest),),) = self.call("ListUnitsByNames", "as", ([unit],))
        if loaded == "not-found":
            raise NoSuchUnit(f"systemd knows no unit '{unit}'.")
        found = {"ActiveState": str(active), "SubState": str(sub)}
        kind = _INTERFACES.get(unit.rpartition(".")[2])
        return found if kind in (None, "Target") else {**found, "Result": str(self._get(unit, f"{kind}.Result"))}

    def matching(self, *patterns: str) -> tuple[str, ...]:
        """Return the units that systemd has loaded of names like a pattern such as `echo@*.service`, see glob(7)."""
        if not patterns:
            return ()
        (units,) = self.call("ListUnitsByPatterns", "asas", ([], [*patterns]))
        return tuple(sorted(unit[0] for unit in units))

    def _is_active(self, unit: str) -> bool:
        with contextlib.suppress(NoSuchUnit):
            return self.state(unit)["ActiveState"] not in ("inactive", "failed")
        return False

    def failed_units(self) -> list[str]:
        """Return the names of all units in the state failed."""
        (units,) = self.call("ListUnitsFiltered", "as", (["failed"],))
        return [unit[0] for unit in units]

    # -- the protocol -------------------------------------------------------------------------------------------

    def call(self, method: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Call a method of the Manager interface; raise SessionError with systemd's own words."""
        return self._exchange(new_method_call(_MANAGER, method, signature, body))

    def _finish(self, unit: str, method: str, deadline: Deadline) -> None:
        (job,) = self.call(method, "ss", (unit, "replace"))
        self._await_job(unit, job, deadline)

    def _await_job(self, unit: str, job: str, deadline: Deadline) -> None:
        while job not in self._jobs:
            if deadline.expired:
                error = WaitTimeout(f"the job of '{unit}'", deadline.elapsed_s, self.state(unit))
                error.evidence.update(self.evidence_of(unit))
                raise error
            self._take(self._receive(deadline.remaining_s))
        result = self._jobs.pop(job)
        if result not in ("done", "skipped"):
            evidence = self.evidence_of(unit)
            known = start_hint("\n".join(evidence.values()))
            properties = {"job": result, **self.state(unit)}
            raise UnitFailed(unit, properties, evidence=evidence, hint=known.advice, blame=known.blame)

    def _authenticate(self, uid: int) -> None:
        """Say who connected: the D-Bus specification's mechanism EXTERNAL, the uid as hexadecimal of its digits.

        BEGIN goes with it and not after the answer: sd-bus as a server (seen with 252) leaves a call that it reads
        together with BEGIN in its buffer until more comes, and both sides wait.
        """
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\nBEGIN\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            data = self._socket.recv(1024)
            if not data:
                raise ConnectionResetError("it closed the connection")
            answer += data
        if not answer.startswith(b"OK "):
            raise ConnectionRefusedError(f"it refused uid {uid}: {answer!r}")

    def _exchange(self, message: Message) -> tuple[Any, ...]:
        serial = next(self._serials)
        deadline = Deadline.after(CALL_LIMIT_S)
        try:
            self._socket.sendall(message.serialise(serial=serial))
        except OSError:
            raise _ended() from None
        while True:
            answer = self._receive(deadline.remaining_s)
            if answer is None:
                raise WaitTimeout("an answer of the session's manager", deadline.elapsed_s, "nothing")
            if answer.header.fields.get(HeaderFields.reply_serial) != serial:
                self._take(answer)
            elif answer.header.message_type is MessageType.error:
                raise _systemd_error(answer)
            else:
                return tuple(answer.body)

    def _receive(self, limit_s: float) -> Message | None:
        """Return the next message that is of use, or None when none comes in time.

        systemd tells of each change of each unit with all that it has; to parse that would take more time than all
        else that is done here.
        """
        deadline = Deadline.after(limit_s)
        while (message := self._whole(deadline)) is not None:
            if message[_TYPE] != MessageType.signal.value or _JOB_REMOVED in message:
                return Message.from_buffer(message)
            if deadline.expired:
                break
        return None

    def _whole(self, deadline: Deadline) -> bytes | None:
        """Return the next message as it was read, or None when none comes in time."""
        while not (size := self._next_size()):
            self._socket.settimeout(max(0.001, deadline.remaining_s))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return None
            except OSError:
                raise _ended() from None
            if not data:
                raise _ended()
            self._read += data
        # Taken before it is parsed: Ctrl-C amid that loses this message, and not where the next one begins.
        message = bytes(self._read[:size])
        del self._read[:size]
        return message

    def _next_size(self) -> int:
        """Return the bytes of the first message that was read, 0 while it is not there as a whole."""
        size = calc_msg_size(self._read) if len(self._read) >= _FIXED_HEADER else _FIXED_HEADER
        return size if len(self._read) >= size else 0

    def _take(self, message: Message | None) -> None:
        """Keep what a signal says of a job that has ended; drop every other signal."""
        if message is None or message.header.message_type is not MessageType.signal:
            return
        if message.header.fields.get(HeaderFields.member) == _JOB_REMOVED.decode():
            _number, job, _unit, result = message.body
            self._jobs[job] = result


def _path(unit: str) -> str:
    """Return the object of a unit: all but letters and digits is escaped, see sd_bus_path_encode(3)."""
    escaped = "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 and (place or not chr(byte).isdigit()) else f"_{byte:02x}"
        for place, byte in enumerate(unit.encode())
    )
    return f"/org/freedesktop/systemd1/unit/{escaped}"


def _ended() -> SessionError:
    return SessionError("The session's manager has closed its connection; the session has ended.")


def _systemd_error(answer: Message) -> SessionError:
    error = DBusErrorResponse(answer)
    text = " ".join(str(part) for part in error.data)
    kind = NoSuchUnit if error.name.endswith(("NoSuchUnit", "UnitNotLoaded")) else SessionError
    return kind(f"systemd refused a call: {text} ({error.name}).")
