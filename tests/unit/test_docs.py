"""What the documents name is there: files of the repository, links, headings, commands and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import COMMANDS
from tests.helpers.runs import REPOSITORY

DOCUMENTS = (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"))

#: Where the repository's own files are.
FOLDERS = ("harness", "suites", "tests", "tools", "containers", "docs", "plans", ".ci", ".github")

#: What a person reads of a change that was made long ago may be gone.
PAST = "CHANGELOG.md"


def paths(text: str) -> Iterator[str]:
    """Yield what looks like a path of the repository between backticks; one with a placeholder is none."""
    for found in re.findall(rf"`((?:{'|'.join(map(re.escape, FOLDERS))})/[^`\s]*)`", text):
        if not re.search(r"[A-Z]{3,}(?!\.md)|[*{<]", found.removesuffix("Containerfile")):
            yield found.partition("::")[0]


def missing(text: str) -> list[str]:
    """Return the paths of a text that are not there."""
    return [path for path in paths(text) if not (REPOSITORY / path).exists()]


def broken_links(file: Path) -> list[str]:
    """Return the relative links of a document whose file, or whose heading, is not there."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        other = (file.parent / name).resolve() if name else file
        if not other.exists() or (heading and heading not in headings(other)):
            found.append(target)
    return found


def headings(file: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    lines = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("file", [file for file in DOCUMENTS if file.name != PAST], ids=lambda file: file.name)
def test_paths_and_links_lead_somewhere(file: Path) -> None:
    assert missing(file.read_text(encoding="utf-8")) == []
    assert broken_links(file) == []


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    """The negative control."""
    assert missing("see `harness/core/nowhere.py` and `harness/core/errors.py`") == ["harness/core/nowhere.py"]
    file = tmp_path / "a.md"
    file.write_text("# One two\n[a](a.md#one-two) [b](b.md) [c](#three) [d](https://example.org/x)", encoding="utf-8")
    assert broken_links(file) == ["b.md", "#three"]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_commands_are_those_that_there_are(file: Path) -> None:
    known = {row.name for row in COMMANDS}
    told = re.findall(r"(?:python3? -m harness|\bsah) ([a-z]+)\b", file.read_text(encoding="utf-8"))
    assert set(told) <= known
