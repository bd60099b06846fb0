"""Whether a reply is as a contract promises it."""

from __future__ import annotations

from harness.contract import ConnectProbe, ExecProbe, HttpProbe, Probe, Sends
from harness.contract.types import matches
from harness.core.errors import middle
from harness.probes.custom import CustomProbe
from harness.probes.reply import Reply


def judge(reply: Reply, promised: Probe) -> str:
    """Return what is wrong with a reply, such as "expected 'a', got 'b'", or "" when it is as promised."""
    match promised:
        case Sends():
            return _judge_bytes(reply, promised)
        case HttpProbe():
            return _judge_page(reply, promised)
        case ConnectProbe():
            return f"expected to be accepted, and was not: {reply.complaint}" if reply.complaint else ""
        case ExecProbe():
            return _judge_program(reply, promised)
        case CustomProbe():
            return promised.judge(reply)
    raise TypeError(f"Nobody can judge what {type(promised).__name__} promises.")


def _judge_bytes(reply: Reply, promised: Sends) -> str:
    if (expected := promised.expected) is not None:
        right, wanted = reply.body == expected, _shown(expected)
    else:
        right, wanted = matches(promised.pattern, _text(reply.body)), f"what matches '{promised.pattern}'"
    if right and (reply.body or not reply.complaint):
        return f"got {_shown(reply.body)} as expected, but {reply.complaint}" if reply.complaint else ""
    return f"expected {wanted}, got {_nothing(reply) or _shown(reply.body)}"


def _judge_page(reply: Reply, promised: HttpProbe) -> str:
    if missing := _nothing(reply):
        return f"expected a page, got {missing}"
    if reply.status not in promised.status:
        return f"expected the HTTP status {' or '.join(map(str, promised.status))}, got {reply.status}"
    for name, pattern in promised.header.items():
        values = reply.headers.get(name.lower(), ())
        if not any(matches(pattern, value) for value in values):
            found = " and ".join(map(repr, values)) or "none"
            return f"expected a header '{name}' that matches '{pattern}', got {found}"
    if lacking := _lacking(reply.body, promised.contains, promised.pattern):
        return f"expected a page that {lacking}, got one of {len(reply.body)} bytes that does not"
    return f"got a page as expected, but {reply.complaint}" if reply.complaint else ""


def _judge_program(reply: Reply, promised: ExecProbe) -> str:
    said = f" and the error {middle(reply.complaint, 3, 400)!r}" if reply.complaint else ""
    wanted = " or ".join(map(str, promised.status))
    if reply.exit_status is None:
        return f"expected the exit status {wanted}, got none: {reply.complaint}"
    if reply.exit_status not in promised.status:
        return f"expected the exit status {wanted}, got {reply.exit_status}{said}"
    if lacking := _lacking(reply.body, promised.contains, promised.pattern):
        return f"expected an output that {lacking}, got {_shown(reply.body)}{said}"
    return ""


def _lacking(body: bytes, contains: str | None, pattern: str | None) -> str:
    """Return what a text does that `body` does not, or ""."""
    if contains is not None and contains.encode() not in body:
        return f"contains '{contains}'"
    if pattern is not None and not matches(pattern, _text(body)):
        return f"matches '{pattern}'"
    return ""


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _nothing(reply: Reply) -> str:
    if reply.body or reply.status:
        return ""
    return f"nothing: {reply.complaint}" if reply.complaint else "nothing"


def _shown(data: bytes, limit: int = 80) -> str:
    more = f" and {len(data) - limit} more bytes" if len(data) > limit else ""
    return f"{repr(data[:limit])[1:]}{more}"
