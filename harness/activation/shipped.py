"""Unit files as somebody ships them, installed where a user's systemd and Podman's generator look for them."""

from __future__ import annotations

import contextlib
import functools
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from harness.activation import quadlet
from harness.activation.base import UNIT_LIMIT_S, Activated, Activation, Workload, clean_up, kill_processes
from harness.activation.run import unremoved
from harness.activation.units import InstalledUnits, path_of, refuse_known
from harness.contract import Contract, Listening, UnitFolder
from harness.contract.units import PROBES
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import CapabilityMissing, UnitsError, WaitTimeout
from harness.core.hints import hint
from harness.core.transports import Endpoint, Transport
from harness.session.manager import NoSuchUnit
from harness.session.session import Session
from harness.session.spec import OWN_OUTPUT_CONF

#: Longest wait for instances whose containers have been killed, in seconds.
_END_S = 5.0


class Shipped(InstalledUnits):
    """The units of a folder; what belongs to what is asked of systemd, which has loaded them."""

    def __init__(self, session: Session, workload: Workload, folder: UnitFolder) -> None:
        super().__init__(
            session, workload, {**folder.files, **_printing(session, folder), **_talking(session, folder.files)}
        )
        self._folder = folder

    @property
    def sockets(self) -> tuple[str, ...]:
        """The socket units of the folder, with the instances of its templates."""
        return self._folder.sockets

    @functools.cached_property
    def start_order(self) -> tuple[str, ...]:
        """Any order, another one each time: at boot, nobody promises one."""
        return tuple(random.sample(self.sockets, len(self.sockets)))

    def evidence(self) -> dict[str, str]:
        """Return what the units say, and in which order their sockets were started where there are several."""
        order = {"sockets, as they were started": ", ".join(self.start_order)} if len(self.sockets) > 1 else {}
        return {**super().evidence(), **order}

    @property
    def services(self) -> tuple[str, ...]:
        """The services that clients wake, those that the containers behind them are started by, and instances."""
        return (*self._lasting, *self.session.manager.matching(*self._templates.values()))

    @property
    def printing(self) -> tuple[str, ...]:
        """The services, and the templates, whose instances print into one file."""
        return (*self._lasting, *self._folder.templates)

    @functools.cached_property
    def _lasting(self) -> tuple[str, ...]:
        woken = dict.fromkeys(self._services.values())
        return (*woken, *dict.fromkeys(unit for unit in self._backends.values() if unit not in woken))

    @functools.cached_property
    def _templates(self) -> Mapping[str, str]:
        """Socket unit whose clients systemd accepts -> the pattern of the instances that it starts for them."""
        accepting = dict.fromkeys(one.unit for one in self._lines.values() if one.accept)
        return {unit: f"{unit.removesuffix('.socket')}@*.service" for unit in accepting}

    def service_of(self, transport: Transport) -> str:
        """Return the service of the socket that clients of a transport ask."""
        unit = self.socket_of(transport)
        if unit not in self._templates:
            return self._services[unit]
        newest = sorted(self.instances_of(transport), key=_counter)[-1:]
        return newest[0] if newest else self._templates[unit].replace("*", "0")

    def instances_of(self, transport: Transport) -> tuple[str, ...]:
        """Return the instances that systemd has started for clients of a transport, until it forgets them."""
        return self.session.manager.matching(self._templates[self.socket_of(transport)])

    def is_active(self, transport: Transport) -> bool:
        """Whether the service is anything else than inactive, or has an instance."""
        if self.socket_of(transport) in self._templates:
            return bool(self.instances_of(transport))
        return super().is_active(transport)

    def socket_of(self, transport: Transport) -> str:
        """Return the socket unit that clients of a transport ask."""
        return self._lines[transport, self.workload.endpoints[transport]].unit

    def starter_of(self, transport: Transport) -> str:
        """Return the service that clients wake, or the one with a container that it needs."""
        service = self.service_of(transport)
        return self._backends.get(service, service)

    @functools.cached_property
    def containers(self) -> Mapping[str, str]:
        """Service -> the name that it, or the service that it needs, gives its container."""
        # Those of instances have names that nobody gave them.
        behind = {unit: self._backends.get(unit, unit) for unit in self._lasting}
        return {unit: _named(self.session, one) or one.removesuffix(".service") for unit, one in behind.items()}

    @functools.cached_property
    def _lines(self) -> Mapping[tuple[Transport, Endpoint], Listening]:
        """Transport, where clients find it -> the line of the socket unit."""
        found = {}
        for one in listening(self.session, self._folder):
            table = one.table or {"transports": ()}
            for transport in table["transports"]:
                found[transport, Endpoint(transport, table.get("port", 0), table.get("path", ""))] = one
        return found

    @functools.cached_property
    def _services(self) -> Mapping[str, str]:
        """Socket unit -> the service that its clients wake."""
        return {unit: name for unit in self.sockets for name in _triggered(self.session, unit)}

    @functools.cached_property
    def _backends(self) -> Mapping[str, str]:
        """Service that clients wake -> the one that starts its container: itself, or one that it needs."""
        return {unit: _backend(self.session, unit) for unit in self._services.values()}

    def remove(self) -> None:
        """Stop all that the folder has brought, whoever has started it, and remove its files."""
        # Nobody looks at this end, and some containers take a second for theirs.
        for container in unremoved(self.session.events(), self.created):
            kill_processes(self.session, container)
        self._await_instances()
        everything = (*self.sockets, *self.services, *self._folder.generated)
        self.session.manager.stop_together(everything, Deadline.after(self.workload.stop_s + UNIT_LIMIT_S))
        for name in self._texts:
            self.session.remove(path_of(self.session, name))
        self.session.manager.reload()

    def _await_instances(self) -> None:
        """Let podman note the ends of its containers: a podman that is told to stop then waits 20 s for its conmon."""

        def running() -> list[str]:
            found = self.session.manager.matching(*self._templates.values())
            return [unit for unit in found if self.state(unit)["ActiveState"] not in ("failed", "inactive")]

        with contextlib.suppress(WaitTimeout):
            wait_until(running, lambda units: not units, Deadline.after(_END_S), "the instances to end")


#: A service whose program talks to its client by its standard input and output, as inetd's do.
_BY_INPUT = re.compile(r"^\s*StandardInput\s*=\s*socket\s*$", re.MULTILINE)

#: In a session podman hands its standard streams on to every container, and services print into files; for such a
#: service both are as they are outside of it.
_AS_OUTSIDE = """\
[Service]
StandardOutput=inherit
Environment=CONTAINERS_CONF={settings}
"""


def _printing(session: Session, folder: UnitFolder) -> dict[str, str]:
    """Return a drop-in for each template: the file is there before its instances, and whoever owns it, each may print.

    An OCI runtime gives the file to the user of the container, see `Session.capture`.
    """
    files = {unit: f"append:{session.paths.output}/{unit}.log" for unit in folder.templates}
    return {
        f"{unit}.d/15-output.conf": f"[Service]\nStandardOutput={file}\nStandardError={file}\n"
        for unit, file in files.items()
    }


def _talking(session: Session, files: Mapping[str, str]) -> dict[str, str]:
    """Return a drop-in for each service that says `StandardInput=socket`, by which its streams are as outside."""
    found = [
        name.rpartition(".")[0]
        for name, text in files.items()
        if name.endswith((".service", ".container")) and _BY_INPUT.search(text) and "StandardOutput" not in text
    ]
    drop_in = _AS_OUTSIDE.format(settings=f"{session.paths.home}/.config/containers/{OWN_OUTPUT_CONF}")
    return {f"{name}.service.d/20-output.conf": drop_in for name in found}


def _triggered(session: Session, unit: str) -> Sequence[str]:
    with contextlib.suppress(NoSuchUnit):
        triggers: Sequence[str] = session.manager.properties(unit)["Triggers"]
        return triggers
    return ()


def _counter(instance: str) -> int:
    """Return the number of an instance, which begins with it, see Accept= in systemd.socket(5)."""
    return int(instance.partition("@")[2].partition("-")[0])


def _backend(session: Session, service: str) -> str:
    """Return the service that starts the container behind a service: another one where this is a proxy before it."""
    if not _named(session, service):
        with contextlib.suppress(NoSuchUnit):
            loaded = session.manager.properties(service)
            needed = [unit for kind in ("Requires", "BindsTo", "Wants") for unit in loaded[kind]]
            return next((unit for unit in needed if unit.endswith(".service") and _named(session, unit)), service)
    return service


def _named(session: Session, service: str) -> str:
    """Return the name that a service gives its container, by the command that systemd has loaded; "" without one."""
    with contextlib.suppress(NoSuchUnit):
        for _program, arguments, *_rest in session.manager.properties(service)["ExecStart"]:
            for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
                if argument == "--name":
                    return str(following)
                if argument.startswith("--name="):
                    return str(argument.partition("=")[2])
    return ""


def listening(session: Session, folder: UnitFolder) -> tuple[Listening, ...]:
    """Return what the sockets of a folder listen on, as systemd has loaded them; raise UnitsError."""
    found: list[Listening] = []
    mistakes: list[tuple[str, str]] = []
    for unit in folder.sockets:
        try:
            loaded = session.manager.properties(unit)
        except NoSuchUnit:
            loaded = {"LoadState": "not-found"}
        if loaded["LoadState"] != "loaded":
            last = [line for line in session.manager_log().splitlines() if unit in line][-1:]
            mistakes.append((unit, ": ".join([f"systemd does not load it ('{loaded['LoadState']}')", *last])))
            continue
        template = f"{unit.removesuffix('.socket')}@.service"
        if loaded["Accept"] and template not in folder.templates:
            said = f"'Accept=yes' starts an instance of '{template}' per client, and there is no such template"
            mistakes.append((unit, said))
        only = loaded["BindIPv6Only"] == "ipv6-only"
        name = loaded["FileDescriptorName"] or unit
        found += [Listening(unit, name, kind, address, only, loaded["Accept"]) for kind, address in loaded["Listen"]]
    if mistakes:
        raise UnitsError(str(folder.path), mistakes)
    return tuple(found)


#: What Restart= of systemd.service(5) says for a program that ends with the status 0.
_ENDLESS = ("always", "on-success")


def refuse_endless(session: Session, folder: UnitFolder, contract: Contract) -> None:
    """Raise UnitsError where systemd starts a service again that its own limits let sleep; the units are loaded."""
    if contract.limits.idle_exit_s is None:
        return
    woken = dict.fromkeys(name for unit in folder.sockets for name in _triggered(session, unit))
    mistakes = []
    for service in woken:
        with contextlib.suppress(NoSuchUnit):
            (restart,) = session.manager.get(service, "Service.Restart")
            if restart in _ENDLESS:
                said = f"'Restart={restart}' starts it again when it has ended as idle, and 'limits.idle_exit_s' in "
                mistakes.append((service, f"{said}'{PROBES}' says that it sleeps then; leave one of them out"))
    if mistakes:
        raise UnitsError(str(folder.path), mistakes)


@contextlib.contextmanager
def loaded(session: Session, folder: UnitFolder) -> Iterator[tuple[Listening, ...]]:
    """Install the units without starting one, and yield what they would listen on."""
    workload = Workload(folder.name, "", (), units=folder)
    with SHIPPED.install(session, workload):
        yield listening(session, folder)


def _refuse_strange(session: Session, folder: UnitFolder) -> None:
    """Raise UnitsError where Podman's generator makes nothing of a file, or systemd does not load what it made."""
    mistakes = []
    for service in folder.generated:
        try:
            state = session.manager.properties(service)["LoadState"]
        except NoSuchUnit:
            state = "not-found"
        if state != "loaded":
            mistakes.append((service, f"Podman's generator made no unit of its file that systemd loads ({state})"))
    if not mistakes:
        return
    found = quadlet.generator(session)
    if not found:
        raise CapabilityMissing("quadlet", "there is no 'podman-user-generator'", "install Podman 4.4 or newer")
    said = session.run([found, "-user", "-dryrun"], check=False).stderr.decode(errors="replace")
    error = UnitsError(str(folder.path), mistakes)
    error.evidence[f"{found} -user -dryrun"] = said
    error.hint = hint(said).advice or error.hint
    raise error


class ShippedActivation(Activation):
    """Files that are installed as they are; it is for contracts that are made of such, and for no others."""

    name = "shipped"

    def refusal(self, contract: Contract) -> str:
        """Return that there is nothing to install."""
        return "" if contract.units else "the contract has no unit files"

    def preview(self, workload: Workload) -> Mapping[str, str]:
        """Return the files."""
        return workload.units.files if workload.units else {}

    @contextlib.contextmanager
    def install(self, session: Session, workload: Workload) -> Iterator[Activated]:
        """Write the files and reload; stop everything and remove the files at the end."""
        folder = workload.units
        assert folder is not None
        shipped = Shipped(session, workload, folder)
        refuse_known(session, (*folder.sockets, *folder.generated))
        with contextlib.ExitStack() as stack:
            for name, image in workload.aliases.items():
                session.run(["podman", "tag", image, name])
                # Not by 'podman untag': it leaves a copy without names, which hides the image of the shared store.
                stack.callback(session.run, ["podman", "rmi", name], check=False)
            try:
                shipped.load(lambda _activated: {})
                _refuse_strange(session, folder)
                stack.enter_context(clean_up(session, *set(shipped.containers.values())))
                yield shipped
            finally:
                if not session.kept:
                    shipped.remove()


SHIPPED = ShippedActivation()
