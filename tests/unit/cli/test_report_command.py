"""`python -m harness report`, as a person calls it."""

from __future__ import annotations

import io
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.results import record
from tests.helpers import samples


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A results file."""
    file = tmp_path / "artifacts/results.json"
    record.write(samples.results(), file)
    return file


def test_without_an_option_the_summary_is_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(file)]) == 0
    captured = capsys.readouterr()
    assert "unit, tcp4, cold" in captured.out
    assert captured.out.endswith("1 budget exceeded.\n")
    assert captured.err == ""


def test_colours_are_for_terminals_and_no_color_is_honoured(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["report", str(file)])
    out.flush()
    assert b"\x1b[31mx failed" in raw.getvalue()
    raw.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    main(["report", str(file)])
    out.flush()
    assert b"\x1b" not in raw.getvalue()


def test_every_view_is_written(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"html": "page.html", "markdown": "summary.md", "junit": "junit.xml"}
    options = [part for view, name in names.items() for part in (f"--{view}", str(tmp_path / name))]
    assert main(["report", str(file), *options]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"harness: written: {tmp_path / name}" for name in names.values()]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'href="artifacts/test_replies.py--test_reply-httpd-launcher-tcp6/"' in page.replace(
        "./artifacts", "artifacts"
    )
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("## ✗")
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().tag == "testsuites"  # noqa: S314 -- we wrote it


def test_a_file_is_replaced_and_readable_as_the_umask_says(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old", encoding="utf-8")
    umask = os.umask(0o027)
    try:
        assert main(["report", str(file), "--html", str(page)]) == 0
    finally:
        os.umask(umask)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert page.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "page.html"]


def test_a_link_stays_a_link_and_a_pipe_a_pipe(file: Path, tmp_path: Path) -> None:
    page, link, pipe = tmp_path / "page.html", tmp_path / "latest.html", tmp_path / "pipe"
    link.symlink_to(page)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(["report", str(file), "--html", str(link), "--markdown", str(pipe)]) == 0
        assert os.read(reader, 100).decode().startswith("## ✗ Socket activation: failed")
    finally:
        os.close(reader)
    assert link.is_symlink()
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert pipe.is_fifo()


def test_all_files_that_cannot_be_written_are_named(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, folder, good = tmp_path / "no/page.html", tmp_path / "artifacts", tmp_path / "junit.xml"
    assert main(["report", str(file), "--html", str(missing), "--markdown", str(folder), "--junit", str(good)]) == 2
    captured = capsys.readouterr()
    assert f"{missing}: No such file or directory" in captured.err
    assert f"{folder}: Is a directory" in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "junit.xml"]


@pytest.mark.parametrize("options", [["--html", "results.json"], ["--html", "x", "--junit", "./x"]])
def test_nothing_replaces_the_results_or_another_view(
    options: list[str], file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    before = file.read_bytes()
    assert main(["report", "results.json", *options]) == 2
    assert "which is th" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read: No such file"),
        ("", "cut off or no JSON"),
        ('{"tool": "other"}', "holds no results"),
        ('{"tool": "socket-activation-harness", "schema": 2}', "have the version 2"),
        ('{"tool": "socket-activation-harness", "schema": 1}', "are damaged"),
    ],
)
def test_bad_input_is_an_error_of_the_users(
    content: str | None, said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = file.with_name("bad.json")
    if content is not None:
        bad.write_text(content, encoding="utf-8")
    assert main(["report", str(bad)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.rstrip().endswith("[input error: UsageError]")
