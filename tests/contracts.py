"""Texts of contracts, and folders with them, for tests."""

from __future__ import annotations

from pathlib import Path

from harness.contract import FILE_NAME

HEAD = 'schema = 1\nname = "echo"\n'
TCP = '[[sockets]]\ntransports = ["tcp4"]\nport = 3000\n'
UNIX = '[[sockets]]\ntransports = ["unix"]\npath = "echo"\n'
BYTES = '[probe]\nkind = "bytes"\nsend = "a"\nexpect = "a"\n'
HTTP = '[probe]\nkind = "http"\ncontains = "title"\n'
GOOD = HEAD + TCP + BYTES


def written(folder: Path, text: str, **files: str) -> Path:
    """Write a contract into a folder, made for it, and return the file; `files` go beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    file = folder / FILE_NAME
    file.write_text(text, encoding="utf-8")
    return file
