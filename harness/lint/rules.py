"""The rules about sockets, each with a number that stays: what systemd and Quadlet take, and clients suffer from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.contract import UnitFolder
from harness.lint.findings import Finding, Severity
from harness.lint.unitfile import Setting, Unit, ignored, template, units

#: Ports below this one are root's, see ip_unprivileged_port_start in ip(7).
_FIRST_PORT = 1024

_LISTEN = ("ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO")

#: What services are made of.
_SERVICES = ("service", "container", "kube")

#: Variables that tell a program its descriptors, and what their value looks like.
_HANDOVER = {"NGINX": r"(\d+[:;])*\d+;", "ANGIE": r"(\d+[:;])*\d+;"}

#: Programs before podman that run it as their child; those that become it, as env(1) does, are harmless.
_PASSING = re.compile(r"^[@:+!-]*(?:/usr)?(?:/bin/)?(sudo|su|sh|bash|podman-compose|docker-compose|timeout)\b")

#: A `podman run` that publishes a port, and one that ends before its container.
_PUBLISHES = re.compile(r"\bpodman\b.*\s(-p|--publish)[ =]")
_DETACHES = re.compile(r"\bpodman\b.*\s(-d|--detach)\b")

#: systemd-socket-proxyd(8), and a service that is up no sooner than its program says so.
_PROXY = re.compile(r"\S*/systemd-socket-proxyd\b")
_SAYS_READY = re.compile(r"--sdnotify[= ](container|healthy)\b")
_NAMED = re.compile(r"--name[= ](\S+)")
_OF_ITS_OWN = "Say '${INVOCATION_ID}' in it, which systemd fills in; 'podman run' can do without '--name'."
_NO_NETWORK = re.compile(r"--net(?:work)?[= ]none\b")

#: What a rule yields: where, what is wrong, and what to do.
_Said = Iterator[tuple[Setting, str, str]]


@dataclass(frozen=True, slots=True)
class Folder:
    """The units of a folder, and which socket wakes what."""

    units: Mapping[str, Unit]

    def of_kind(self, kind: str) -> list[Unit]:
        """Return the units with an ending."""
        return [unit for unit in self.units.values() if unit.kind == kind]

    @property
    def sockets(self) -> list[Unit]:
        """The socket units."""
        return self.of_kind("socket")

    def service_name(self, socket: Unit) -> str:
        """Return the service that a socket wakes, see Service= of systemd.socket(5)."""
        named = socket.last("Socket", "Service")
        if named:
            return named.value.replace("@%i", "@").replace("@%I", "@")
        return f"{socket.stem}@.service" if _accepts(socket) and "@" not in socket.stem else f"{socket.stem}.service"

    def woken(self, socket: Unit) -> Unit | None:
        """Return the file that the service of a socket is made of, or None."""
        name = self.service_name(socket)
        names = [one for one in (name, template(name)) if one]
        made = [f"{one.removesuffix('.service')}.{kind}" for one in names for kind in _SERVICES]
        return next((self.units[one] for one in made if one in self.units), None)

    def wakers(self, service: Unit) -> list[Unit]:
        """Return the sockets that wake a service."""
        return [socket for socket in self.sockets if self.woken(socket) is service]

    @property
    def served(self) -> list[Unit]:
        """What some socket wakes."""
        return [
            unit for unit in self.units.values() if unit.kind in ("service", "container", "kube") and self.wakers(unit)
        ]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is wrong with units of a kind."""

    number: str
    title: str
    find: Callable[[Folder], _Said]
    severity: Severity = Severity.ERROR


def check(folder: UnitFolder) -> tuple[Finding, ...]:
    """Return what the rules find in a folder, by file and line; what a file ignores with a reason is left out."""
    whole = Folder(units(folder))
    spared = {name: ignored(text) for name, text in folder.files.items()}
    found = [
        Finding(where.file, where.line, rule.number, rule.severity, text, hint)
        for rule in RULES
        for where, text, hint in rule.find(whole)
        if rule.number not in spared.get(where.file, {})
    ]
    return tuple(sorted(dict.fromkeys(found)))


# -- sockets ----------------------------------------------------------------------------------------------------------


def _no_service(folder: Folder) -> _Said:
    for socket in folder.sockets:
        if folder.woken(socket) is None:
            name = folder.service_name(socket)
            others = ", ".join(
                sorted(unit.name for unit in folder.units.values() if unit.kind in ("service", "container"))
            )
            yield (
                socket.last("Socket", "Service") or socket.first,
                f"it wakes '{name}', of which there is no file here",
                f"Say 'Service=' in [Socket], or rename the file; there are: {others or 'none'}.",
            )


def _same_line_twice(folder: Folder) -> _Said:
    seen: dict[tuple[str, str], Setting] = {}
    for socket in folder.sockets:
        for setting in socket.all("Socket", *_LISTEN):
            first = seen.setdefault((setting.key, setting.value), setting)
            if first != setting:
                yield (
                    setting,
                    f"'{setting.key}={setting.value}' stands in {first.file}:{first.line} already",
                    "A drop-in adds to the lines of the file: an empty 'ListenStream=' before it takes them back.",
                )


def _low_port(folder: Folder) -> _Said:
    for socket in folder.sockets:
        for setting in socket.all("Socket", "ListenStream", "ListenDatagram"):
            found = re.fullmatch(r"(?:.*:)?(\d{1,5})", setting.value)
            if found and 0 < int(found[1]) < _FIRST_PORT and not setting.value.startswith("vsock:"):
                yield (
                    setting,
                    f"a user's systemd may not listen on port {found[1]}",
                    f"sysctl net.ipv4.ip_unprivileged_port_start={found[1]}, or a port from {_FIRST_PORT} on.",
                )


def _accepts(socket: Unit) -> bool:
    setting = socket.last("Socket", "Accept")
    return setting is not None and setting.value.lower() in ("yes", "true", "1", "on")


def _accept(folder: Folder) -> _Said:
    for socket in folder.sockets:
        if _accepts(socket) and (unit := folder.woken(socket)) and not unit.stem.endswith("@"):
            yield (
                socket.last("Socket", "Accept") or socket.first,
                f"'Accept=yes' starts an instance per client, and '{unit.name}' is no template",
                "Leave 'Accept=' out for a program that accepts clients itself.",
            )


def _one_name(folder: Folder) -> _Said:
    for socket in folder.sockets:
        unit = folder.woken(socket) if _accepts(socket) else None
        if not unit or not unit.stem.endswith("@"):
            continue
        named = [(one, one.value) for one in unit.all("Container", "ContainerName")]
        named += [(one, found) for one in unit.all("Service", "ExecStart") for found in _NAMED.findall(one.value)]
        if unit.kind == "container" and not named:
            named = [(unit.first, "systemd-%p_%i")]
        paths = all(re.match(r"[/%]", one.value) for one in socket.all("Socket", *_LISTEN))
        for where, name in named:
            if re.search(r"%[iIn]", name) and not paths:
                said = f"the container is called '{name}': the instance has colons in its name, which podman refuses"
                yield where, said, _OF_ITS_OWN
            elif not re.search(r"[%$]", name):
                said = f"the containers of all clients are called '{name}', and podman has one of a name"
                yield where, said, _OF_ITS_OWN


def _no_line(folder: Folder) -> _Said:
    for socket in folder.sockets:
        if not socket.all("Socket", *_LISTEN):
            yield (
                socket.first,
                "it has no 'Listen' line, and systemd refuses it",
                "Add a line such as 'ListenStream=8080'.",
            )


# -- services ---------------------------------------------------------------------------------------------------------


def _not_required(folder: Folder) -> _Said:
    for unit in folder.served:
        needed = unit.words("Unit", "Requires", "BindsTo", "Requisite") | unit.words("Service", "Sockets")
        for socket in folder.wakers(unit):
            names = {socket.name, re.sub(r"@.*\.", "@%i.", socket.name)}
            if not names & needed and socket.stem != unit.stem and not _accepts(socket):
                yield (
                    unit.first,
                    f"it does not require '{socket.name}': started by hand, it has no socket of that unit",
                    f"Add 'Requires={socket.name}' and 'After={socket.name}' to [Unit].",
                )


def _started_at_boot(folder: Folder) -> _Said:
    for unit in folder.served:
        for setting in unit.all("Install", "WantedBy", "RequiredBy"):
            yield (
                setting,
                f"'{setting.key}={setting.value}' starts the service at boot, before its first client",
                "Leave [Install] to the socket, if the first client is to wake the service.",
            )


def _commands(folder: Folder) -> Iterator[tuple[Setting, str]]:
    """Yield the commands of services that a socket wakes, each with the service's type, see systemd.service(5)."""
    for unit in folder.served:
        kind = unit.last("Service", "Type")
        yield from ((setting, kind.value if kind else "simple") for setting in unit.all("Service", "ExecStart"))


def _published(folder: Folder) -> _Said:
    settings = [setting for unit in folder.served for setting in unit.all("Container", "PublishPort")]
    settings += [setting for setting, _kind in _commands(folder) if _PUBLISHES.search(setting.value)]
    for setting in settings:
        yield setting, "the port is published beside the socket: podman listens on it as well", "Leave it out."


def _user_in_quadlet(folder: Folder) -> _Said:
    for unit in folder.of_kind("container"):
        for setting in unit.all("Service", "User", "Group"):
            yield (
                setting,
                f"'{setting.key}=' in [Service] is for the podman of a Quadlet, which has no session of that user",
                "Say 'User=' in [Container] for the program, or install the file for that user.",
            )


def _handover(folder: Folder) -> _Said:
    for unit in folder.units.values():
        for setting in (*unit.all("Container", "Environment"), *unit.all("Service", "Environment", "ExecStart")):
            for name, pattern in _HANDOVER.items():
                for value in re.findall(rf"(?:^|[\s\"'=]){name}=([^\s\"']+)", f" {setting.value}"):
                    if not re.fullmatch(pattern, value):
                        yield (
                            setting,
                            f"'{name}={value}' is not read: every descriptor ends in ':' or ';', the last one in ';'",
                            f"Say '{name}={value.rstrip(';:')};'.",
                        )


def _between(folder: Folder) -> _Said:
    for setting, _kind in _commands(folder):
        found = _PASSING.match(setting.value)
        if found and not (found[1] in ("sh", "bash") and re.search(r"\bexec\b", setting.value)):
            yield (
                setting,
                f"'{found[1]}' stands between systemd and podman: LISTEN_PID names its process, not podman's",
                "Start podman itself, or let the shell 'exec' it.",
            )


def _detached(folder: Folder) -> _Said:
    for setting, kind in _commands(folder):
        if kind in ("simple", "exec") and _DETACHES.search(setting.value):
            yield (
                setting,
                "podman detaches and ends, which systemd takes for the end of the service",
                "Say 'Type=notify' and 'NotifyAccess=all', or leave '--detach' out.",
            )


def _never_ready(folder: Folder) -> _Said:
    for setting, kind in _commands(folder):
        if kind == "notify" and "--sdnotify=ignore" in setting.value:
            yield (
                setting,
                "'--sdnotify=ignore' says nothing to 'Type=notify', which waits for READY=1 in vain",
                "Say '--sdnotify=conmon', or 'Type=exec'.",
            )


def _pulled(folder: Folder) -> _Said:
    for unit in folder.served:
        named = unit.last("Container", "Image")
        local = named is not None and re.match(r"localhost/|.*\.(image|build)$", named.value)
        if named and not local and unit.last("Container", "Pull") is None:
            yield (
                named,
                "the first client waits until the image is pulled, where it is not there yet",
                "Say 'Pull=never' and pull it beforehand, or name it by an '.image' unit.",
            )


def _proxies(folder: Folder) -> Iterator[tuple[Unit, Setting, Unit]]:
    """Yield the proxies that a socket wakes, each with its command and a unit of a container that it needs."""
    for proxy in folder.served:
        needed = proxy.words("Unit", "Requires", "BindsTo", "Wants")
        for setting in proxy.all("Service", "ExecStart"):
            if not _PROXY.match(setting.value):
                continue
            for unit in folder.units.values():
                made_of = f"{unit.stem}.service"
                if made_of in needed and unit.kind in _SERVICES and unit is not proxy:
                    yield proxy, setting, unit


def _impatient_proxy(folder: Folder) -> _Said:
    for proxy, setting, unit in _proxies(folder):
        service = f"{unit.stem}.service"
        ready = unit.last("Container", "Notify")
        says = (ready is not None and ready.value.lower() in ("true", "yes", "1", "on", "healthy")) or any(
            _SAYS_READY.search(command.value) for command in unit.all("Service", "ExecStart")
        )
        if service not in proxy.words("Unit", "After"):
            yield (
                setting,
                f"the proxy is started together with '{service}', which does not listen yet: its first client is reset",
                f"Add 'After={service}' to [Unit].",
            )
        elif not says and not unit.all("Service", "ExecStartPost"):
            yield (
                setting,
                f"'{service}' is up before its program listens: the proxy's first client is reset",
                "Let the program say READY=1 ('Notify=true', '--sdnotify=container'), or wait in its unit's "
                "'ExecStartPost=' until it listens.",
            )


def _few_starts(folder: Folder) -> _Said:
    for _proxy, setting, unit in _proxies(folder):
        unneeded = unit.last("Unit", "StopWhenUnneeded")
        if unneeded and not unit.all("Unit", "StartLimitBurst") and not unit.all("Unit", "StartLimitIntervalSec"):
            yield (
                unneeded,
                "a client that comes while the container stops counts for several of its starts: two or three use up "
                f"the usual five, and '{setting.file}' can't start it for the next",
                "Say 'StartLimitBurst=20' in [Unit].",
            )


def _unreachable(folder: Folder) -> _Said:
    for _proxy, setting, unit in _proxies(folder):
        if not re.search(r":\d{1,5}$", setting.value):
            continue
        lines = [one for one in unit.all("Container", "Network") if one.value == "none"]
        lines += [one for one in unit.all("Service", "ExecStart") if _NO_NETWORK.search(one.value)]
        for line in lines:
            yield (
                line,
                f"the container has no network, and the proxy of '{setting.file}' can't reach it",
                "Publish a port of it on a loopback address, or let the proxy connect to a Unix path.",
            )


RULES = (
    Rule("SA001", "a socket wakes a service that is not there", _no_service),
    Rule("SA002", "a service does not require its sockets", _not_required, Severity.WARNING),
    Rule("SA003", "a service is started at boot besides", _started_at_boot, Severity.WARNING),
    Rule("SA004", "the same line twice", _same_line_twice),
    Rule("SA005", "a port is published beside its socket", _published),
    Rule("SA006", "a port that only root may have", _low_port, Severity.WARNING),
    Rule("SA007", "Accept=yes with a program that accepts", _accept),
    Rule("SA008", "a variable that the program does not read", _handover),
    Rule("SA009", "a user where Quadlet has none", _user_in_quadlet),
    Rule("SA010", "a program between systemd and podman", _between),
    Rule("SA011", "a service that ends when podman detaches", _detached),
    Rule("SA012", "a service that is never ready", _never_ready),
    Rule("SA013", "a first client that waits for a registry", _pulled, Severity.WARNING),
    Rule("SA014", "a socket unit without a line", _no_line),
    Rule("SA015", "a proxy that is there before its program", _impatient_proxy),
    Rule("SA016", "a proxy before a container without a network", _unreachable),
    Rule("SA017", "a container behind a proxy that may not be started often", _few_starts),
    Rule("SA018", "one name for the containers of many clients", _one_name),
)
