"""The rooms of the house: who may import whom. Lower floors know nothing of higher ones."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.runs import REPOSITORY

#: From the bottom up; rooms of one floor may import each other.
FLOORS = (
    {"core", "standalone"},
    {"contract", "session", "results"},
    {"probes", "images"},
    {"activation", "userlands", "guest"},
    {"battery", "bisect", "timing", "capabilities", "lint"},
    {"runtime", "report"},
    {"cli", "plugin"},
    {"__main__"},
)

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

#: The modules beside the packages.
TOP = {"__init__.py", "__main__.py"}

#: The suite that the package brings, which ours collect as well.
INSTALLED = "plugin.test_battery.test_promise"

#: What the suites are made of, beside the standard library.
ALLOWED = {"harness", "suites", "pytest", "testinfra", "sh", "docker"}


def imports(file: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def upward(package: Path) -> list[str]:
    """Return every import of a package by one of a lower floor, and every one of pytest outside of its plugin."""
    found = []
    for file in sorted(package.glob("*/**/*.py")):
        room = file.relative_to(package).parts[0]
        for name in imports(file):
            whole, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            up = whole == "harness" and other in FLOOR and FLOOR[other] > FLOOR[room]
            if up or (whole == "pytest" and room != "plugin"):
                found.append(f"{file.relative_to(package)}: {name}")
    return found


def beside(package: Path) -> set[str]:
    """Return the modules beside the packages that should be in one."""
    return {file.name for file in package.glob("*.py")} - TOP


def strange(suites: Path) -> list[str]:
    """Return every import of a suite that is neither the public interface nor a package that suites may use."""
    found = []
    for file in sorted(suites.glob("**/*.py")):
        for name in imports(file):
            whole, _, rest = name.partition(".")
            private = whole == "harness" and rest not in (*public(), INSTALLED)
            if private or whole not in ALLOWED | sys.stdlib_module_names:
                found.append(f"{file.relative_to(suites)}: {name}")
    return found


def public() -> list[str]:
    """Return the names of the public interface, as they stand in its file."""
    tree = ast.parse((REPOSITORY / "harness" / "__init__.py").read_text(encoding="utf-8"))
    given = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    return list(ast.literal_eval(given["__all__"]))


def test_no_room_imports_from_a_higher_floor() -> None:
    """Every folder has its floor, and pytest is imported by the plugin alone."""
    package = REPOSITORY / "harness"
    assert {file.parent.name for file in package.glob("*/__init__.py")} == set(FLOOR) - {"__main__"}
    assert upward(package) == []


def test_beside_the_packages_is_nothing_but_the_two_entries() -> None:
    assert beside(REPOSITORY / "harness") == set()


def test_a_module_beside_the_packages_is_found(tmp_path: Path) -> None:
    """The negative control."""
    for name in ("__init__.py", "helpers.py"):
        (tmp_path / name).touch()
    assert beside(tmp_path) == {"helpers.py"}


def test_the_suites_use_the_public_interface_only() -> None:
    assert strange(REPOSITORY / "suites") == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("core/low.py", "from harness.plugin import run"),
        ("session/low.py", "from harness import activation"),
        ("contract/low.py", "def later():\n    import harness.timing.gate"),
        ("runtime/low.py", "import pytest"),
    ],
)
def test_an_upward_import_is_found(file: str, text: str, tmp_path: Path) -> None:
    """The negative control; the same import is right in a room of the top floor."""
    for path in (tmp_path / "bad" / file, tmp_path / "good" / "plugin" / "high.py"):
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    (mistake,) = upward(tmp_path / "bad")
    assert mistake.startswith(f"{file}: ")
    assert upward(tmp_path / "good") == []


@pytest.mark.parametrize(
    "text", ["from harness.core import errors", "from harness import activation", "import requests"]
)
def test_a_strange_import_of_a_suite_is_found(text: str, tmp_path: Path) -> None:
    """The negative control; public names, pytest and the standard library are not found."""
    (tmp_path / "test_bad.py").write_text(text, encoding="utf-8")
    (tmp_path / "test_good.py").write_text("import json, pytest\nfrom harness import Service\n", encoding="utf-8")
    (mistake,) = strange(tmp_path)
    assert mistake.startswith("test_bad.py: ")
