"""A proxy before a container whose program takes no sockets: systemd-socket-proxyd(8) takes them and passes clients on.

Three units: the socket, the proxy, and the container, which ends when its proxy has. systemd starts the proxy when the
program listens, so that the first client is not refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.activation.base import Workload, quote
from harness.activation.units import InstalledUnits, UnitActivation, unit_section
from harness.contract import BackendTable
from harness.core.transports import Listener, Transport
from harness.session.session import Session

#: Where systemd has the proxy; it is in no folder of PATH.
PROXY = "/usr/lib/systemd/systemd-socket-proxyd"

#: Most starts of a container in ten seconds, by systemd's count: where a client comes while it stops, each look whether
#: it has stopped is one of them, and of the usual five two such clients leave none (systemd issue 39247).
_STARTS = 20

#: The first port of the machine's that a container's is published at.
_FIRST_PORT = 8081


def files(workload: Workload, port: int) -> dict[str, str]:
    """Return name -> text of the proxy's unit and of its container's, which is published at `port` where it has one."""
    return {
        f"{workload.name}.service": _proxy_text(workload, port),
        f"{_backend(workload)}.service": _backend_text(workload, port),
    }


def _backend(workload: Workload) -> str:
    return f"{workload.name}-backend"


def _proxy_text(workload: Workload, port: int) -> str:
    backend, path = _backend(workload), _place(workload).path
    address = f"%t/{backend}/{_split(path)[1]}" if path else f"127.0.0.1:{port}"
    idle = "" if workload.idle_exit_s is None else f"--exit-idle-time={workload.idle_exit_s:g}s "
    return f"""\
{unit_section(workload, "behind a proxy")}\
BindsTo={backend}.service
After={backend}.service

[Service]
Type=exec
ExecStart={PROXY} {idle}{address}
"""


def _backend_text(workload: Workload, port: int) -> str:
    backend, place = _backend(workload), _place(workload)
    reached = (
        f"--volume=%t/{backend}:{_split(place.path)[0]}:z" if place.path else f"--publish=127.0.0.1:{port}:{place.port}"
    )
    podman, run, *options = workload.podman_run("--detach", "--cgroups=no-conmon", f"--sdnotify={workload.ready}")
    # Quoted against systemd's specifiers, all but our own.
    quoted = " ".join(map(quote, options))
    return f"""\
[Unit]
Description={workload.name} in a container
StopWhenUnneeded=yes
StartLimitBurst={_STARTS}

[Service]
Type=notify
NotifyAccess=all
RuntimeDirectory={backend}
RuntimeDirectoryMode={"0777" if place.path else "0755"}
ExecStart={podman} {run} --pidfile=%t/{backend}/pid {reached} {quoted}
ExecStartPost=sh -c '{_wait(place, f"%t/{backend}/pid")}'
ExecStop=podman stop --ignore {workload.name}
ExecStopPost=podman rm --force --ignore {workload.name}
"""


def _wait(place: BackendTable, pid: str) -> str:
    """Return a shell's line that ends when the program listens, or fails when it has ended; `pid` names its file."""
    if place.path:
        # __SO_ACCEPTCON of <linux/net.h>; the name stands last.
        look = f'grep -qs " 00010000 .* {place.path.replace(".", "[.]")}$$" /proc/$$pid/net/unix'
    else:
        # A socket that listens knows no peer, and its state is TCP_LISTEN.
        look = f'grep -qs ":{place.port:04X} 0*:0000 0A" /proc/$$pid/net/tcp /proc/$$pid/net/tcp6'
    return f"read -r pid < {pid}; until {look}; do test -d /proc/$$pid || exit 1; sleep 0.02; done"


def _place(workload: Workload) -> BackendTable:
    assert workload.backend is not None, "for a contract with a backend only"
    return workload.backend


def _split(path: str) -> tuple[str, str]:
    folder, _, file = path.rpartition("/")
    return folder, file


class Proxied(InstalledUnits):
    """The proxy that clients wake, and the service that has their container."""

    @property
    def services(self) -> tuple[str, ...]:
        """The proxy's, and its container's."""
        return (*super().services, f"{_backend(self.workload)}.service")

    def starter_of(self, transport: Transport) -> str:
        """Return the service that starts the container."""
        return self.services[1]

    @property
    def containers(self) -> Mapping[str, str]:
        """Both services have the same one."""
        return dict.fromkeys(self.services, self.workload.name)


def _files(session: Session, workload: Workload) -> dict[str, str]:
    (placed,) = session.assign_addresses([Listener((Transport.TCP4,), _port(workload))])
    return files(workload, placed.port)


def _port(workload: Workload) -> int:
    """Return the first port that none of the workload's own sockets has."""
    taken = {listener.port for listener in workload.listeners}
    return next(port for port in range(_FIRST_PORT, 2**16) if port not in taken)


PROXIED = UnitActivation(
    "proxied",
    _files,
    lambda workload: files(workload, _port(workload)),
    installed=Proxied,
)
