"""What stands for a socket in the command and the environment of an image, such as `{port}` or `{port:web}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.core.transports import FIRST_DESCRIPTOR, Listener

#: Word -> what it stands for; "" where a socket has no such thing.
_WORDS: Mapping[str, Callable[[Listener], str]] = {
    "fd": lambda _listener: str(FIRST_DESCRIPTOR),
    "fdname": lambda listener: listener.name,
    "port": lambda listener: str(listener.port or ""),
    "path": lambda listener: listener.path,
    "address": lambda listener: listener.address,
}

_PLACEHOLDER = re.compile(rf"\{{({'|'.join(_WORDS)})(?::([A-Za-z0-9_.@-]{{1,61}}))?\}}")

#: What looks like a placeholder, and may have been meant as one.
_ALIKE = re.compile(r"\{[a-z][a-z_]{0,20}(?::[A-Za-z0-9_.@-]{1,61})?\}")


def filled(text: str, listeners: Sequence[Listener]) -> str:
    """Return a text with its placeholders filled in; one whose socket is not there stays as it is."""

    def value(found: re.Match[str]) -> str:
        chosen = _chosen(found, listeners)
        return _WORDS[found[1]](chosen[0]) if len(chosen) == 1 else found[0]

    return _PLACEHOLDER.sub(value, text)


def mistakes(text: str, listeners: Sequence[Listener]) -> Iterator[str]:
    """Yield what is wrong with the placeholders of a text, each a sentence."""
    names = ", ".join(listener.name for listener in listeners if listener.name) or "none has one"
    for found in _PLACEHOLDER.finditer(text):
        chosen = _chosen(found, listeners)
        if found[1] == "fd" and len(listeners) > 1:
            yield f"'{found[0]}': systemd promises no order of several sockets; let the program look for their names"
        elif not chosen and found[2]:
            yield f"'{found[0]}': no socket has the name '{found[2]}'; the names are: {names}"
        elif len(chosen) > 1:
            yield f"'{found[0]}' means an only socket, and there are {len(listeners)}: say '{{{found[1]}:NAME}}'"
        elif chosen and not _WORDS[found[1]](chosen[0]):
            yield f"'{found[0]}': the socket '{chosen[0].line}' has none"


def unknown(text: str) -> list[str]:
    """Return what looks like a placeholder and is none."""
    return [word for word in _ALIKE.findall(text) if word != "{home}" and not _PLACEHOLDER.fullmatch(word)]


def _chosen(found: re.Match[str], listeners: Sequence[Listener]) -> list[Listener]:
    return [listener for listener in listeners if found[2] in (None, listener.name)]
