"""Text of strangers, made fit to be shown: what an image, a client or a unit has written goes through `shown`.

A terminal obeys escape sequences, a reader believes what bidirectional overrides show, and a CI runner obeys workflow
commands. All of them come out as visible escapes, as in a string of Python's.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NewType, TextIO

#: A text that does nothing to who shows it; only such a text can be put anywhere, which mypy holds.
Shown = NewType("Shown", str)

#: Characters that keep their meaning.
_PLAIN = "\n\t"

#: Cc: control characters; Cf: formats, bidirectional overrides among them; Cs: halves of a pair, as of invalid UTF-8;
#: Zl and Zp: separators that some readers take for the end of a line. See Unicode Standard Annex 44, table 12.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

#: What GitHub's runner takes for a command in the log of a job: `::name parameters::value` at the start of a line, and
#: `##[name]value` anywhere. See "Workflow commands for GitHub Actions".
_COMMANDS = re.compile(r"^([^\S\n]*):(?=:[^\n]*?::)|#(?=#\[)", re.MULTILINE)


def shown(text: str) -> Shown:
    """Return a text whose characters do nothing to who shows it; shown once more, it stays the same."""
    if not text.isprintable():
        text = "".join(map(_character, text))
    return Shown(_COMMANDS.sub(lambda found: rf"{found[1]}\x3a" if found[1] is not None else r"\x23", text))


def put(stream: TextIO, text: Shown) -> None:
    """Write a text to a stream that somebody reads; nothing else of the harness does."""
    stream.write(text)
    stream.flush()


def _character(character: str) -> str:
    code = ord(character)
    # The last two of each plane are no characters, and XML has no way to write them.
    if character in _PLAIN or (unicodedata.category(character) not in _ESCAPED and code & 0xFFFE != 0xFFFE):
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
