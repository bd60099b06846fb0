"""The client for pages: curl(1) over tcp4, tcp6 and Unix sockets."""

from __future__ import annotations

import json
import time
from typing import Any

from harness.core.deadline import Deadline
from harness.core.errors import CommandError, UsageError
from harness.core.process import run
from harness.core.transports import Endpoint
from harness.probes.reply import Reply, Times
from harness.session.session import Session

#: How much longer than its own limit curl may take to say so, in seconds.
_GRACE_S = 5.0


def ask(session: Session, endpoint: Endpoint, path: str, deadline: Deadline) -> Reply:
    """Fetch `path` and return the body, the HTTP status and curl's own times."""
    where = endpoint.curl(path)
    if not where:
        raise UsageError(f"curl has no way to an endpoint of the transport '{endpoint.transport}'.")
    limit_s = max(0.001, deadline.remaining_s)  # 0 would mean no limit
    plain = (*session.client_prefix, "curl", "--silent", "--show-error", "--max-time", f"{limit_s:.3f}")
    command = (*plain, "--write-out", "%{stderr}\n%{header_json}\n%{json}", *where)
    started = time.monotonic()
    try:
        done = run(command, timeout_s=limit_s + _GRACE_S, env=session.environment, cwd="/", check=False)
    except CommandError as error:
        return Reply(endpoint, "curl", b"", error.stdout, Times(started, None, None, time.monotonic()), error.sentence)
    told, headers, complaint = _facts(done.stderr.decode(errors="replace"))
    # curl counts from its own start; what came before (a process, namespaces) is the difference to the whole.
    begun = started + max(0.0, done.duration_s - told.get("time_total", done.duration_s))
    connect, first = told.get("time_connect", 0), told.get("time_starttransfer", 0)
    times = Times(started, begun + connect if connect else None, begun + first if first else None, time.monotonic())
    status = int(told.get("http_code", 0))
    return Reply(endpoint, "curl", b"", done.stdout, times, complaint, status, (*plain, *where), headers)


def _facts(text: str) -> tuple[dict[str, Any], dict[str, tuple[str, ...]], str]:
    """Return what curl tells of the transfer, the headers, and what it complains of."""
    rest, _newline, facts = text.rpartition("\n")
    told = json.loads(facts) if facts.startswith("{") else {}
    # The headers are one JSON object over several lines, which begins on a line of its own.
    complaint, brace, listed = rest.rpartition("\n{")
    try:
        headers = json.loads(brace + listed) if brace else {}
    except json.JSONDecodeError:
        return told, {}, rest.strip()
    return told, {name.lower(): tuple(map(str, values)) for name, values in headers.items()}, complaint.strip()
