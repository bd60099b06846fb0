"""Activation by unit files: socket units, and the files of the service, which each of this kind writes itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from harness.activation.base import UNIT_LIMIT_S, Activated, Activation, Workload, clean_up
from harness.contract import Contract
from harness.contract.units import QUADLETS
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import UnitFailed, UsageError
from harness.core.hints import socket_hint
from harness.core.transports import Listener, Transport
from harness.session.manager import NoSuchUnit
from harness.session.session import Session

#: Returns name -> text of the service's files; raises an error where a program that writes them fails.
ServiceFiles = Callable[[Session, Workload], Mapping[str, str]]

#: Returns name -> text of what a generator has made of the files; raises an error where it has made nothing.
Generated = Callable[[Activated], Mapping[str, str]]


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


def service_settings(workload: Workload) -> dict[str, str]:
    """Return the drop-in by which a contract's settings are in every service, whoever has written its file; or {}."""
    lines = "".join(f"{name}={value}\n" for name, value in workload.service)
    return {f"{workload.name}.service.d/10-contract.conf": f"[Service]\n{lines}"} if lines else {}


def unit_section(workload: Workload, what: str = "in a container") -> str:
    """Return the section [Unit] of a service that needs its sockets, as the tutorial writes it."""
    sockets = " ".join(socket_units(workload))
    return f"""\
[Unit]
Description={workload.name} {what}
Requires={sockets}
After={sockets}
"""


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
        self._generated: Mapping[str, str] = {}

    @property
    def files(self) -> Mapping[str, str]:
        """Name -> text of the files, and of what a generator has made of them."""
        return {**self._texts, **self._generated}

    def load(self, generated: Generated) -> None:
        """Write the files and let systemd read them; raise an error where nothing came of one."""
        for name, text in self._texts.items():
            self.session.write(path_of(self.session, name), text)
        self.session.manager.reload()
        for unit in self.printing:
            self.session.capture(unit)
        self._generated = generated(self)

    @property
    def services(self) -> tuple[str, ...]:
        """The one service."""
        return (f"{self.workload.name}.service",)

    @property
    def sockets(self) -> tuple[str, ...]:
        """The socket units, mostly one."""
        return tuple(socket_units(self.workload))

    @property
    def start_order(self) -> tuple[str, ...]:
        """The socket units in the order in which they are started."""
        return self.sockets

    def service_of(self, transport: Transport) -> str:
        """Return the one service, which has the sockets of all transports."""
        return self.services[0]

    def is_active(self, transport: Transport) -> bool:
        """Whether the service is anything else than inactive."""
        return self.state(self.service_of(transport))["ActiveState"] != "inactive"

    def start_listening(self) -> None:
        """Start the socket units and see that they listen; raise UnitFailed with systemd's reason."""
        for unit in self.start_order:
            try:
                self.session.manager.start(unit, Deadline.after(UNIT_LIMIT_S))
            except UnitFailed as error:
                evidence = self.evidence()
                known = socket_hint(evidence["systemd --user"])
                raise UnitFailed(
                    unit, error.properties, evidence=evidence, hint=known.advice, blame=known.blame
                ) from None
            wait_until(
                lambda unit=unit: self.state(unit),  # type: ignore[misc]
                lambda state: state["SubState"] in ("listening", "running"),
                Deadline.after(UNIT_LIMIT_S),
                f"the unit '{unit}' to listen",
            )

    def stop_service(self, deadline: Deadline) -> None:
        """Stop the services; the sockets go on listening.

        A program that SIGTERM ends below an init has the status 143, after which systemd calls its unit failed. It was
        stopped all the same, and the next client starts it.
        """
        for unit in self.services:
            self.session.manager.stop(unit, deadline)
            if self.state(unit)["Result"] == "exit-code":
                self.session.manager.reset_failed()

    def remove(self) -> None:
        """Stop the units, the sockets first so that nothing wakes the service again, and remove their files."""
        self.stop_for_good(self.workload.stop_s)
        for name in self._texts:
            self.session.remove(path_of(self.session, name))
        self.session.manager.reload()


def path_of(session: Session, name: str) -> str:
    """Return where a file belongs; Quadlet's, and their drop-ins, have a folder of their own."""
    unit = name.partition("/")[0].removesuffix(".d")
    folder = session.paths.quadlets if unit.endswith(QUADLETS) else session.paths.units
    return f"{folder}/{name}"


class UnitActivation(Activation):
    """What activations by unit files share: all but the files of the service."""

    def __init__(
        self,
        name: str,
        service_files: ServiceFiles,
        preview: Callable[[Workload], Mapping[str, str]],
        refusal: Callable[[Contract], str] = lambda _contract: "",
        needs: tuple[str, ...] = (),
        generated: Generated = lambda _activated: {},
        installed: type[InstalledUnits] = InstalledUnits,
    ) -> None:
        self.name = name
        self.needs = needs
        self._service_files = service_files
        self._generated = generated
        self._installed = installed
        self._preview = preview
        self._refusal = refusal

    def refusal(self, contract: Contract) -> str:
        """Return what the service can't say, or ""."""
        return self._refusal(contract)

    def preview(self, workload: Workload) -> Mapping[str, str]:
        """Return the socket units, and the service's files or how they are made."""
        return {**socket_texts(workload), **service_settings(workload), **self._preview(workload)}

    @contextlib.contextmanager
    def install(self, session: Session, workload: Workload) -> Iterator[InstalledUnits]:
        """Write the files and reload; stop the units and remove the files at the end."""
        with clean_up(session, workload.name):
            texts = {**socket_texts(workload), **service_settings(workload), **self._service_files(session, workload)}
            installed = self._installed(session, workload, texts)
            refuse_known(session, (*installed.sockets, *installed.services))
            try:
                installed.load(self._generated)
                yield installed
            finally:
                if not session.kept:
                    installed.remove()


def refuse_known(session: Session, names: Iterable[str]) -> None:
    """Raise UsageError for a unit that the session has already: a contract `dbus` would take its D-Bus away."""
    for name in names:
        with contextlib.suppress(NoSuchUnit):
            path = session.manager.properties(name)["FragmentPath"]
            raise UsageError(
                f"The session has a unit '{name}' of its own, '{path}', which a contract of that name would hide.",
                hint="Give the contract another name, such as that of its image.",
            )
