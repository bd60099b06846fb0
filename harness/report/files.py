"""Writing a view as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import UsageError

#: Anybody may read a report; the umask takes what it must.
_MODE = 0o666


def write_all(texts: Mapping[Path, str]) -> None:
    """Write every file, each at once in place of what was there; raise UsageError that names all that can't be."""
    mistakes = []
    for file, text in texts.items():
        try:
            _write(file, text)
        except OSError as error:
            mistakes.append(f"{file}: {error.strerror}")
    if mistakes:
        raise UsageError(
            "The report can't be written.",
            hint="Name files in folders that exist and that you may write to.",
            evidence={"files": "\n".join(mistakes)},
        )


def _write(file: Path, text: str) -> None:
    if file.exists() and not file.is_file():
        # A pipe or a terminal is written to; a folder says that it is one.
        file.write_text(text, encoding="utf-8")
        return
    # A link stays one: what it leads to is replaced.
    file = file.resolve()
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:100]}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        umask = os.umask(0o077)
        os.umask(umask)
        Path(name).chmod(_MODE & ~umask)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink()
        raise
