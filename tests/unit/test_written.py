"""Who writes to a terminal: one function, which takes only `Shown`; that nothing else is given it, mypy sees."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.helpers.runs import REPOSITORY

PACKAGE = REPOSITORY / "harness"

#: The calls by which a text gets to a terminal -> the modules that may make them. The supervisor writes to us only.
WRITERS = {
    "print": {"core/text.py"},
    "write_line": {"plugin/terminal.py"},
    "sys.stdout.write": {"core/text.py"},
    "sys.stderr.write": {"core/text.py"},
    "stream.write": {"core/text.py", "report/files.py", "results/record.py"},
    # Texts that are put together of such texts, with colours or commands of our own.
    "Shown": {"core/text.py", "report/terminal.py", "cli/doctor.py", "lint/findings.py"},
}


def calls(source: str) -> Iterator[str]:
    """Yield the names of the functions that are called, those of methods also without what they are of."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield name
            if "." in name:
                yield name.rpartition(".")[2]


def strange(place: str, source: str) -> list[str]:
    """Return the calls that a module may not make."""
    return [name for name in calls(source) if name in WRITERS and place not in WRITERS[name]]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "standalone" not in path.parts)


def test_nobody_else_writes() -> None:
    texts = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in MODULES}
    found = {place: strange(place, text) for place, text in texts.items()}
    assert {place: names for place, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    ["print(x)", "sys.stdout.write(x)", "sys.stderr.write(x)", "reporter.write_line(x)", "put(sys.stdout, Shown(x))"],
)
def test_another_writer_is_found(source: str) -> None:
    """The control."""
    assert strange("cli/other.py", source)
