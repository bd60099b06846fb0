"""Activation by unit files: a socket unit, and a service unit that each activation of this kind writes itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from harness.activation.base import UNIT_LIMIT_S, Activated, Activation, Workload, clean_up
from harness.deadline import Deadline, wait_until
from harness.errors import UnitFailed
from harness.session.session import Session
from harness.transports import Transport

#: Writes the text of the service unit.
ServiceText = Callable[[Session, Workload], str]


def socket_text(workload: Workload) -> str:
    """Return the socket unit of a workload, as the tutorial writes it."""
    lines = "\n".join(listener.line for listener in workload.listeners)
    return f"""\
[Unit]
Description={workload.name} server

[Socket]
{lines}

[Install]
WantedBy=default.target
"""


class InstalledUnits(Activated):
    """`NAME.socket` and `NAME.service` in the session's folder of user units, the socket started."""

    def __init__(self, session: Session, workload: Workload, texts: Mapping[str, str]) -> None:
        super().__init__(session, workload)
        self._texts = dict(texts)

    @property
    def files(self) -> Mapping[str, str]:
        """Name -> text of the two unit files."""
        return self._texts

    @property
    def services(self) -> tuple[str, ...]:
        """The one service."""
        return (f"{self.workload.name}.service",)

    @property
    def sockets(self) -> tuple[str, ...]:
        """The one socket unit."""
        return (f"{self.workload.name}.socket",)

    def service_of(self, transport: Transport) -> str:
        """Return the one service, which has the sockets of all transports."""
        return self.services[0]

    def awake(self, transport: Transport) -> bool:
        """Whether the service is anything else than inactive."""
        return self.state(self.services[0])["ActiveState"] != "inactive"

    def listen(self) -> None:
        """Start the socket unit and see that it listens; raise UnitFailed with systemd's reason."""
        unit = self.sockets[0]
        try:
            self.session.manager.start(unit, Deadline.after(UNIT_LIMIT_S))
        except UnitFailed as error:
            raise UnitFailed(unit, error.properties, evidence=self.evidence()) from None
        wait_until(
            lambda: self.state(unit),
            lambda state: state["SubState"] in ("listening", "running"),
            Deadline.after(UNIT_LIMIT_S),
            f"the unit '{unit}' to listen",
        )

    def rearm(self, deadline: Deadline) -> None:
        """Stop the service; the socket goes on listening."""
        self.session.manager.stop(self.services[0], deadline)

    def remove(self) -> None:
        """Stop both units, the socket first so that nothing wakes the service again, and remove their files."""
        self.stop_for_good(self.workload.stop_s)
        for name in self._texts:
            self.session.remove(f"{self.session.paths.units}/{name}")
        self.session.manager.reload()


class UnitActivation(Activation):
    """What `generate` and `unit` share: all but the text of the service."""

    def __init__(self, name: str, service_text: ServiceText) -> None:
        self.name = name
        self._service_text = service_text

    @contextlib.contextmanager
    def install(self, session: Session, workload: Workload) -> Iterator[InstalledUnits]:
        """Write both units and reload; stop and remove them at the end."""
        with clean_up(session, workload.name):
            texts = {
                f"{workload.name}.socket": socket_text(workload),
                f"{workload.name}.service": self._service_text(session, workload),
            }
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
