"""What an image can live without: each rung of a ladder is tried on top of those that held.

No promise is broken by a rung that does not hold; what a contract sets already is promised, and the battery tries it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.activation.inside import container_processes
from harness.activation.service import Service
from harness.battery import serving
from harness.battery.trial import Trial
from harness.contract import Contract, ImageTable
from harness.core.errors import Blame, HarnessError, ProbeFailed
from harness.core.transports import Transport

#: Opens a contract's service.
Open = Callable[[Contract], contextlib.AbstractContextManager[Service]]

#: Whom a program is that is not root, see "nobody" in sysusers.d(5).
_NOBODY = "65534:65534"


class Held(StrEnum):
    """How a rung came out."""

    #: The contract, or the image, has it already.
    ALREADY = "has it already"
    COULD = "could add"
    NEEDS = "needs it"
    #: This machine can't set it.
    UNTRIED = "can't be tried here"


@dataclass(frozen=True, slots=True)
class Rung:
    """One thing that an image may be able to live without."""

    without: str
    #: What says so in a contract, below `[image]`.
    line: str
    apply: Callable[[ImageTable], ImageTable]


@dataclass(frozen=True, slots=True)
class Step:
    """A rung that was tried, and why it did not hold."""

    rung: Rung
    held: Held
    said: str = ""

    def __str__(self) -> str:
        more = {Held.ALREADY: "", Held.COULD: self.rung.line}.get(self.held, self.said)
        return f"without {self.rung.without}: {self.held}{': ' if more else ''}{more}"


def _option(image: ImageTable, **changes: object) -> ImageTable:
    return image.model_copy(update={"options": image.options.model_copy(update=changes)})


def _without_network(image: ImageTable) -> ImageTable:
    return image if image.podman_network == "none" else image.model_copy(update={"network": "none"})


def _no_capabilities(image: ImageTable) -> ImageTable:
    return image if "all" in image.options.cap_drop else _option(image, cap_drop=("all",), cap_add=())


def _no_new_privileges(image: ImageTable) -> ImageTable:
    given = image.options.security_opt
    return image if "no-new-privileges" in given else _option(image, security_opt=(*given, "no-new-privileges"))


def _not_root(image: ImageTable) -> ImageTable:
    is_root = image.user is None or image.user.partition(":")[0] in ("0", "root")
    return image.model_copy(update={"user": _NOBODY}) if is_root else image


def _no_home(image: ImageTable) -> ImageTable:
    return image.model_copy(update={"environment": {"HOME": "/nonexistent"} | dict(image.environment)})


def _few_processes(image: ImageTable) -> ImageTable:
    return image if image.options.pids_limit else _option(image, pids_limit=64)


def _little_memory(image: ImageTable) -> ImageTable:
    return image if image.options.memory else _option(image, memory="128m")


ROOT = Rung("root", f'user = "{_NOBODY}"', _not_root)

RUNGS = (
    Rung("a network", 'network = "none"', _without_network),
    Rung("a writable root file system", "read_only = true", lambda image: image.model_copy(update={"read_only": True})),
    Rung("new privileges", 'options.security-opt = ["no-new-privileges"]', _no_new_privileges),
    Rung("capabilities", 'options.cap-drop = ["all"]', _no_capabilities),
    ROOT,
    Rung("a home folder", 'environment.HOME = "/nonexistent"', _no_home),
    Rung("more than 64 processes", "options.pids-limit = 64", _few_processes),
    Rung("more than 128 MiB", 'options.memory = "128m"', _little_memory),
)


def ladder(contract: Contract, opened: Open) -> Iterator[Step]:
    """Yield the rungs as they are tried; raises ProbeFailed where the image does not answer as its contract stands."""
    with opened(contract) as service:
        transport = next(iter(service.activated.workload.endpoints))
        serving.every_socket(Trial(service, transport))
        root = _is_root(service, transport)
    for rung in RUNGS:
        changed = rung.apply(contract.image)
        if changed == contract.image or (rung is ROOT and not root):
            yield Step(rung, Held.ALREADY)
            continue
        harder = contract.model_copy(update={"image": changed})
        try:
            with opened(harder) as service:
                serving.every_socket(Trial(service, transport))
                service.stop_service()
        except HarnessError as error:
            if error.blame is Blame.MACHINE:
                yield Step(rung, Held.UNTRIED, error.hint)
            else:
                yield Step(rung, Held.NEEDS, error.wrong if isinstance(error, ProbeFailed) else error.sentence)
        else:
            contract = harder
            yield Step(rung, Held.COULD)


def _is_root(service: Service, transport: Transport) -> bool:
    """Whether a process of the container is its root, who is the session's account outside."""
    owners = set()
    for pid in container_processes(service.activated, transport):
        with contextlib.suppress(OSError):
            owners.add(Path("/proc", str(pid)).stat().st_uid)
    return service.session.account.uid in owners
