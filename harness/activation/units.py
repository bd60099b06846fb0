"""Activation by unit files: socket units, and a service unit that each activation of this kind writes itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from harness.activation.base import UNIT_LIMIT_S, Activated, Activation, Workload, clean_up
from harness.contract import Contract
from harness.deadline import Deadline, wait_until
from harness.errors import UnitFailed, UsageError
from harness.session.bus import NoSuchUnit
from harness.session.session import Session
from harness.transports import Listener, Transport

#: Writes the text of the service unit.
ServiceText = Callable[[Session, Workload], str]


def socket_units(workload: Workload) -> dict[str, tuple[Listener, ...]]:
    """Return the socket units of a workload: `NAME.socket`, and more where sockets differ in name or settings.

    systemd.socket(5) has one FileDescriptorName= and one set of settings for all sockets of a unit.
    """
    kinds = dict.fromkeys((listener.name, listener.options) for listener in workload.listeners)
    return {
        f"{workload.name}{f'-{number}' if number > 1 else ''}.socket": tuple(
            listener for listener in workload.listeners if (listener.name, listener.options) == kind
        )
        for number, kind in enumerate(kinds, 1)
    }


def socket_texts(workload: Workload) -> dict[str, str]:
    """Return name -> text of the socket units, the first one as the tutorial writes it."""
    units = socket_units(workload)
    return {unit: _socket_text(workload.name, unit, listeners) for unit, listeners in units.items()}


def _socket_text(name: str, unit: str, listeners: tuple[Listener, ...]) -> str:
    lines = [listener.line for listener in listeners]
    if unit != f"{name}.socket":
        lines.append(f"Service={name}.service")
    if listeners[0].name:
        lines.append(f"FileDescriptorName={listeners[0].name}")
    lines += [f"{setting}={value}" for setting, value in listeners[0].options]
    content = "\n".join(lines)
    return f"""\
[Unit]
Description={name} server

[Socket]
{content}

[Install]
WantedBy=default.target
"""


class InstalledUnits(Activated):
    """`NAME.service` and its sockets in the session's folder of user units, the sockets started."""

    def __init__(self, session: Session, workload: Workload, texts: Mapping[str, str]) -> None:
        super().__init__(session, workload)
        self._texts = dict(texts)

    @property
    def files(self) -> Mapping[str, str]:
        """Name -> text of the unit files."""
        return self._texts

    @property
    def services(self) -> tuple[str, ...]:
        """The one service."""
        return (f"{self.workload.name}.service",)

    @property
    def sockets(self) -> tuple[str, ...]:
        """The socket units, mostly one."""
        return tuple(socket_units(self.workload))

    def service_of(self, transport: Transport) -> str:
        """Return the one service, which has the sockets of all transports."""
        return self.services[0]

    def awake(self, transport: Transport) -> bool:
        """Whether the service is anything else than inactive."""
        return self.state(self.services[0])["ActiveState"] != "inactive"

    def listen(self) -> None:
        """Start the socket units and see that they listen; raise UnitFailed with systemd's reason."""
        for unit in self.sockets:
            try:
                self.session.manager.start(unit, Deadline.after(UNIT_LIMIT_S))
            except UnitFailed as error:
                raise UnitFailed(unit, error.properties, evidence=self.evidence()) from None
            wait_until(
                lambda unit=unit: self.state(unit),  # type: ignore[misc]
                lambda state: state["SubState"] in ("listening", "running"),
                Deadline.after(UNIT_LIMIT_S),
                f"the unit '{unit}' to listen",
            )

    def rearm(self, deadline: Deadline) -> None:
        """Stop the service; its sockets go on listening.

        A program that SIGTERM ends below an init has the status 143, after which systemd calls its unit failed. It was
        stopped all the same, and the next client starts it.
        """
        self.session.manager.stop(self.services[0], deadline)
        if self.state(self.services[0])["Result"] == "exit-code":
            self.session.manager.reset_failed()

    def remove(self) -> None:
        """Stop the units, the sockets first so that nothing wakes the service again, and remove their files."""
        self.stop_for_good(self.workload.stop_s)
        for name in self._texts:
            self.session.remove(f"{self.session.paths.units}/{name}")
        self.session.manager.reload()


class UnitActivation(Activation):
    """What `generate` and `unit` share: all but the text of the service."""

    def __init__(
        self,
        name: str,
        service_text: ServiceText,
        preview: Callable[[Workload], Mapping[str, str]],
        refusal: Callable[[Contract], str] = lambda _contract: "",
        needs: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.needs = needs
        self._service_text = service_text
        self._preview = preview
        self._refusal = refusal

    def refusal(self, contract: Contract) -> str:
        """Return what the service can't say, or ""."""
        return self._refusal(contract)

    def preview(self, workload: Workload) -> Mapping[str, str]:
        """Return the socket units, and the service or how it is made."""
        return {**socket_texts(workload), **self._preview(workload)}

    @contextlib.contextmanager
    def install(self, session: Session, workload: Workload) -> Iterator[InstalledUnits]:
        """Write the units and reload; stop and remove them at the end."""
        with clean_up(session, workload.name):
            texts = {
                **socket_texts(workload),
                f"{workload.name}.service": self._service_text(session, workload),
            }
            _refuse_known(session, texts)
            installed = InstalledUnits(session, workload, texts)
            try:
                for name, text in texts.items():
                    session.write(f"{session.paths.units}/{name}", text)
                session.capture(installed.services[0])
                session.manager.reload()
                yield installed
            finally:
                if not session.kept:
                    installed.remove()


def _refuse_known(session: Session, names: Iterable[str]) -> None:
    """Raise UsageError for a unit that the session has already: a contract `dbus` would take its D-Bus away."""
    for name in names:
        with contextlib.suppress(NoSuchUnit):
            path = session.manager.properties(name)["FragmentPath"]
            raise UsageError(
                f"The session has a unit '{name}' of its own, '{path}', which a contract of that name would hide.",
                remedy="Give the contract another name, such as that of its image.",
            )
