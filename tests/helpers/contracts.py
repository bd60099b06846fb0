"""Texts of contracts, and folders with them, for tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.contract import FILE_NAME, load
from harness.core.errors import Blame, ContractError

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


def mistakes_of(folder: Path, text: str) -> dict[str, str]:
    """Return key -> text of all mistakes of a contract."""
    file = written(folder, text)
    with pytest.raises(ContractError) as caught:
        load(file)
    assert caught.value.file == os.fspath(file)
    assert caught.value.blame is Blame.INPUT
    found: dict[str, str] = {}
    for key, told in caught.value.mistakes:
        assert f"{key}: {told}" in caught.value.evidence["mistakes"]
        found[key] = f"{found[key]}\n{told}" if key in found else told
    return found
