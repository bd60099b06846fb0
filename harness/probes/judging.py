"""Whether a reply is as a contract promises it."""

from __future__ import annotations

from harness.contract import ExecProbe, HttpProbe, Probe, Sends
from harness.contract.types import matches
from harness.core.errors import middle
from harness.probes.custom import CustomProbe
from harness.probes.reply import Reply


def judge(reply: Reply, promised: Probe) -> str:
    """Return what is wrong with a reply, as the end of the sentence 'the reply ...', or "" when it is as promised."""
    match promised:
        case Sends():
            return _judge_bytes(reply, promised)
        case HttpProbe():
            return _judge_page(reply, promised)
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
        return f"was {_shown(reply.body)}, but {reply.complaint}" if reply.complaint else ""
    return f"{_nothing(reply) or f'was {_shown(reply.body)}'} instead of {wanted}"


def _judge_page(reply: Reply, promised: HttpProbe) -> str:
    if missing := _nothing(reply):
        return f"{missing} instead of a page"
    if reply.status not in promised.status:
        return f"had the HTTP status {reply.status} instead of {' or '.join(map(str, promised.status))}"
    for name, pattern in promised.header.items():
        values = reply.headers.get(name.lower(), ())
        if not any(matches(pattern, value) for value in values):
            found = " and ".join(map(repr, values)) if values else "absent"
            return f"had a header '{name}' that is {found} instead of matching '{pattern}'"
    if lacking := _lacking(reply.body, promised.contains, promised.pattern):
        return f"was a page of {len(reply.body)} bytes that {lacking}"
    return f"was a page, but {reply.complaint}" if reply.complaint else ""


def _judge_program(reply: Reply, promised: ExecProbe) -> str:
    said = f" and said {middle(reply.complaint, 3, 400)!r}" if reply.complaint else ""
    if reply.exit_status is None:
        return f"never came: {reply.complaint}"
    if reply.exit_status not in promised.status:
        wanted = " or ".join(map(str, promised.status))
        return f"ended with the exit status {reply.exit_status} instead of {wanted}{said}"
    if lacking := _lacking(reply.body, promised.contains, promised.pattern):
        return f"was {_shown(reply.body)}, which {lacking}{said}"
    return ""


def _lacking(body: bytes, contains: str | None, pattern: str | None) -> str:
    if contains is not None and contains.encode() not in body:
        return f"lacks '{contains}'"
    if pattern is not None and not matches(pattern, _text(body)):
        return f"does not match '{pattern}'"
    return ""


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _nothing(reply: Reply) -> str:
    if reply.body or reply.status:
        return ""
    return f"never came ({reply.complaint})" if reply.complaint else "was empty"


def _shown(data: bytes, limit: int = 80) -> str:
    more = f" and {len(data) - limit} more bytes" if len(data) > limit else ""
    return f"{repr(data[:limit])[1:]}{more}"
