"""What somebody who watches a service sees of it: the states of its units, its runs, what clients complain about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness import Blame, Deadline, Service, Transport, WaitTimeout, ask_bytes, wait_until

#: Writes a drop-in, as the fixture `drop_in` does: the name of a unit, the text.
DropIn = Callable[[str, str], None]

#: Longest wait for what systemd or podman do by themselves, in seconds.
LIMIT_S = 30.0

#: The properties of a unit that tell what happens to it, see org.freedesktop.systemd1(5).
SHOWN = ("ActiveState", "SubState", "Result", "NRestarts")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a service, from a start to its end."""

    #: What systemd calls the run, see systemd.exec(5).
    invocation: str
    #: The ids of its container: one, or none where there is no container any more.
    containers: tuple[str, ...]


def run_of(service: Service) -> Run:
    """Return the current run of the service."""
    named = ["podman", "ps", "--quiet", "--no-trunc", f"--filter=name=^{service.name}$"]
    return Run(invocation(service), tuple(service.session.run(named).text.split()))


def invocation(service: Service) -> str:
    """Return the InvocationID of the service's current or last run; empty before the first."""
    return bytes(service.session.manager.properties(f"{service.name}.service")["InvocationID"]).hex()


def wait_for(service: Service, unit: str, **wanted: str) -> dict[str, str]:
    """Wait until `unit` has the properties `wanted`, and return those of `SHOWN`."""

    def look() -> dict[str, str]:
        known = service.session.manager.properties(unit)
        return {name: str(known[name]) for name in SHOWN if name in known}

    awaited = ", ".join(f"{name}={value}" for name, value in wanted.items())
    with _shown(service):
        return wait_until(
            look, lambda seen: wanted.items() <= seen.items(), limit(service), f"'{unit}' to say {awaited}"
        )


def wait_for_another_run(service: Service, before: str) -> None:
    """Wait until the service is active in another run than the one whose InvocationID was `before`."""
    with _shown(service):
        wait_until(
            lambda: (invocation(service), service.activated.state(f"{service.name}.service")),
            lambda seen: seen[0] != before and seen[1]["ActiveState"] == "active",
            limit(service),
            f"'{service.name}.service' to be active in another run than {before}",
        )


def wait_for_the_end(service: Service) -> None:
    """Wait until the service is inactive or failed, whichever it is to be."""
    with _shown(service):
        wait_until(
            lambda: service.activated.state(f"{service.name}.service")["ActiveState"],
            lambda state: state in ("inactive", "failed"),
            limit(service),
            f"the end of '{service.name}.service'",
        )


def complaint(service: Service, transport: Transport, limit_s: float = LIMIT_S) -> str:
    """Be a client, and return what it complains about: a reset, a refusal, silence; empty when it was answered."""
    endpoint = service.activated.workload.endpoints[transport]
    return ask_bytes(service.session, endpoint, b"hello\n", limit(service, limit_s)).complaint


def limit(service: Service, limit_s: float = LIMIT_S) -> Deadline:
    """Return a deadline for this machine, slow as it may be."""
    return Deadline.after(limit_s * service.timeout_scale)


@contextmanager
def _shown(service: Service) -> Iterator[None]:
    """Blame what is tested for what does not come, and show what its units say."""
    try:
        yield
    except WaitTimeout as error:
        error.blame = Blame.IMAGE
        error.evidence.update(service.activated.evidence())
        raise
