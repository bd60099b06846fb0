"""Which kernel of User-mode Linux is taken: one that starts a program on this processor, as a start of it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core.cache import FOLDER_VARIABLE
from harness.core.machine import Machine
from harness.core.process import Completed
from harness.guest.engines.uml import Uml
from harness.guest.engines.uml_kernel import _shape

#: What such a kernel says when its first program has ended by itself, and when it was killed.
ENDED, KILLED = (f"Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000{code}" for code in "0b")

CACHE = "/cache"


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, CACHE)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., tuple[Uml, list[str]]]:
    """Return the engine on a machine with a release 6 of its own and 7 in the cache, and what was started there."""

    def make(own: str | None, cached: str | None) -> tuple[Uml, list[str]]:
        started: list[str] = []
        says = {"6": own, "7": cached}
        folders = {"6": "usr/lib/uml/modules", "7": "cache/uml/modules"}
        programs = {"6": "usr/bin/linux.uml", "7": "cache/uml/linux.uml"}
        for release in (release for release, said in says.items() if said is not None):
            for file in (programs[release], f"{folders[release]}/{release}/modules.dep", "usr/bin/mke2fs"):
                path = tmp_path / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(0o755)

        def run(argv: Sequence[str], **_options: Any) -> Completed:
            release = "7" if "./linux.uml" in argv else "6"
            if "--version" in argv:
                return Completed(tuple(argv), 0, f"{release}\n".encode(), b"", 0.0)
            started.append(release)
            return Completed(tuple(argv), 134, f"{says[release]}\n".encode(), b"", 0.0)

        return Uml(Machine(root=tmp_path, run=run)), started

    return make


@pytest.mark.parametrize(
    ("own", "cached", "release", "started"),
    [(ENDED, ENDED, "6", ["6"]), (KILLED, ENDED, "7", ["6", "7"]), (None, ENDED, "7", ["7"])],
)
def test_the_first_that_starts(
    machine: Callable[..., tuple[Uml, list[str]]], own: str | None, cached: str, release: str, started: list[str]
) -> None:
    engine, seen = machine(own, cached)
    assert engine.problem() == ""
    assert engine.kernel() == release
    assert seen == started, "what was found out is remembered"


@pytest.mark.parametrize(
    ("own", "cached", "problem"),
    [
        (None, None, "there is no program 'linux.uml' (install the package 'user-mode-linux')"),
        (KILLED, None, "the kernel 6 can't start a program on this processor"),
        ("", KILLED, " on this processor; the kernel 7 can't start a program on this processor"),
    ],
)
def test_none_that_starts(
    machine: Callable[..., tuple[Uml, list[str]]], own: str | None, cached: str | None, problem: str
) -> None:
    """One sentence about each, and nothing of what a kernel says at its end."""
    engine, _started = machine(own, cached)
    assert engine.problem().endswith(problem)
    assert engine.kernel() == ""


def test_another_processor_is_another_question(machine: Callable[..., tuple[Uml, list[str]]], tmp_path: Path) -> None:
    engine, started = machine(ENDED, None)
    for flags in ("avx", "avx amx_tile", "avx"):
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/cpuinfo").write_text(f"flags : {flags}\n")
        assert engine.problem() == ""
    assert started == ["6", "6"]


def test_a_kernel_finds_its_own_c_library(tmp_path: Path) -> None:
    """The path of the loader is one beside the program, in a program of the same length."""
    unpacked = tmp_path / "unpacked"
    for name, data in {
        "usr/bin/linux.uml": b"\x7fELF /lib64/ld-linux-x86-64.so.2\0 end",
        "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": b"",
        "usr/lib/x86_64-linux-gnu/libc.so.6": b"",
        "usr/lib/uml/modules/7/modules.dep": b"",
    }.items():
        (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).write_bytes(data)
    folder = _shape(unpacked, tmp_path / "shaped")
    assert (folder / "linux.uml").read_bytes() == b"\x7fELF ./ld-linux-x86-64.so.2\0\0\0\0\0\0 end"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("ld-linux-x86-64.so.2", "libc.so.6", "linux.uml", "modules"),
    ]
    assert all((folder / name).stat().st_mode & 0o777 == 0o755 for name in ("linux.uml", "libc.so.6"))
