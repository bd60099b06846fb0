"""The layers of a service whose probe has failed in a test, for its bundle: within bounds, and where it may help."""

from __future__ import annotations

from pathlib import Path

from harness import bisect
from harness.errors import HarnessError, ProbeFailed, UnitFailed
from harness.guest import inside
from harness.options import Keep
from harness.runtime import Runtime
from harness.service import Service

FILE_NAME = "bisect.txt"

#: About how long it may take, in seconds; the step that is under way then ends.
LIMIT_S = 12.0


def write(folder: Path, runtime: Runtime, service: Service, error: BaseException | None) -> str:
    """Write the file into a test's bundle, and return its first sentence, "" where there is none.

    Only the first failure of an image by an activation is worth the time. A session that is kept stays as it is, and a
    guest is too slow.
    """
    case = (service.contract.name, service.activation)
    wanted = runtime.options.bisect and runtime.options.keep is Keep.NEVER and inside.folder() is None
    if not wanted or not isinstance(error, ProbeFailed | UnitFailed) or case in runtime.bisected:
        return ""
    runtime.bisected.add(case)
    runtime.progress(f"which layer of '{service.name}' loses the socket? (up to {LIMIT_S:.0f} s)")
    transport = service.replies[-1].endpoint.transport if service.replies else next(iter(service.contract.transports))
    try:
        found = bisect.failed(service, transport, LIMIT_S)
        sentence, text = found.sentence, service.supplies.masked(str(found))
    except HarnessError as why:
        sentence, text = "", f"The layers could not be tried: {why.sentence}\n"
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    return sentence
