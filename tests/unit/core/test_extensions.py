"""What other packages add, and what they can't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.core.extensions import extended

Install = Callable[[str], None]

GROUP = "harness.tests"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package with this entry point."""

    def write(entry: str) -> None:
        package = tmp_path / "other_package-1.dist-info"
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1\n", encoding="utf-8")
        (package / "entry_points.txt").write_text(f"[{GROUP}]\n{entry}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)

    return write


def numbers(name: str, value: object) -> str:
    """Refuse what is no float."""
    return "" if isinstance(value, float) else f"'{name}' is no number"


def test_without_other_packages() -> None:
    assert extended(GROUP, {"e": 2.7}, numbers) == {"e": 2.7}


def test_one_more(install: Install) -> None:
    install("pi = math:pi")
    assert list(extended(GROUP, {"tau": 6.28, "e": 2.7}, numbers)) == ["e", "pi", "tau"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("e = math:e", "has a name that is taken"),
        ("pi = math:pie", "can't be loaded: AttributeError: "),
        ("pi = no_such_module", "can't be loaded: ModuleNotFoundError: "),
        ("sine = math:sin", "can't be used: 'sine' is no number."),
    ],
)
def test_one_that_can_not_be(install: Install, entry: str, said: str) -> None:
    """The sentence names the package, the group and the entry point."""
    install(entry)
    name = entry.partition(" ")[0]
    subject = f"The entry point '{name}' of the package 'other-package' in the group '{GROUP}' "
    with pytest.raises(UsageError) as caught:
        extended(GROUP, {"e": 2.7}, numbers)
    assert caught.value.sentence.startswith(subject + said)
