"""The layers of a service whose probe has failed in a test, for its bundle: within bounds, and where it may help."""

from __future__ import annotations

from pathlib import Path

from harness.activation import activations
from harness.activation.service import Service
from harness.battery.trial import PromiseBroken
from harness.bisect import bisect
from harness.core.errors import HarnessError, ProbeFailed, UnitFailed
from harness.core.text import shown
from harness.plugin.guest import worker
from harness.runtime.runtime import Runtime

FILE_NAME = "bisect.txt"


def write(folder: Path, runtime: Runtime, service: Service, error: BaseException | None) -> str:
    """Write the file into a test's bundle, and return its first sentence, "" where there is none.

    Only the first failure of an image by an activation is worth the time, and a guest is too slow. What breaks a
    promise of the battery has answered before, or its error says already where a client was left.
    """
    case = (service.contract.name, service.activation)
    in_guest = worker.folder() is not None
    if (
        in_guest
        or service.activation not in activations()  # whose layers are not ours to rebuild
        or not isinstance(error, ProbeFailed | UnitFailed)
        or isinstance(error, PromiseBroken)
        or case in runtime.bisected
    ):
        return ""
    runtime.bisected.add(case)
    # The innermost two layers may both be silent, and each has the contract's time; what follows takes what is left.
    limit_s = 2 * service.contract.limits.first_start_s * service.timeout_scale
    runtime.progress(f"which layer of '{service.name}' loses the socket? (up to {limit_s:.0f} s)")
    transport = service.replies[-1].endpoint.transport if service.replies else next(iter(service.contract.transports))
    try:
        found = bisect.failed(service, transport, limit_s)
        sentence, text = found.sentence, service.supplies.masked(str(found))
    except HarnessError as why:
        sentence, text = "", f"The layers could not be tried: {why.sentence}\n"
    (folder / FILE_NAME).write_text(shown(text), encoding="utf-8")
    return sentence
