"""Files of a session, written from outside by the harness, which may be root: never by the account's symbolic links."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import SessionError
from harness.session.session import Session


@pytest.fixture
def folder(harness_session: Session) -> Iterator[str]:
    """A folder of the session's account, gone after the test."""
    path = f"{harness_session.paths.home}/files"
    harness_session.run(["mkdir", path])
    yield path
    harness_session.run(["rm", "-rf", path])


def test_a_file_belongs_to_the_account(harness_session: Session, folder: str) -> None:
    """With the folders above it; nobody else reads it; a second text takes the place of the first."""
    path = f"{folder}/a/b/file"
    harness_session.write(path, "a longer text\n")
    harness_session.write(path, "é\n")

    assert harness_session.run(["cat", path]).text == "é\n"
    for name, mode in ((path, 0o600), (f"{folder}/a/b", 0o700), (f"{folder}/a", 0o700)):
        status = harness_session.outside(name).stat()
        assert (status.st_uid, status.st_gid) == (harness_session.account.uid, harness_session.account.gid)
        assert stat.S_IMODE(status.st_mode) == mode


@pytest.mark.parametrize("where", ["{folder}/link/file", "{folder}/link/sub/file", "{folder}/file/x"])
def test_no_way_leads_over_a_link(harness_session: Session, folder: str, tmp_path: Path, where: str) -> None:
    """The account must not lead root elsewhere; a file is no folder either."""
    harness_session.run(["ln", "-s", str(tmp_path), f"{folder}/link"])
    harness_session.run(["touch", f"{folder}/file"])
    with pytest.raises(SessionError, match="is not a folder"):
        harness_session.write(where.format(folder=folder), "x")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["there", "not there"])
def test_a_link_is_not_written_through(harness_session: Session, folder: str, tmp_path: Path, target: str) -> None:
    """Neither to a file nor to where one could be made."""
    file = tmp_path / "file"
    if target == "there":
        file.write_text("before", encoding="utf-8")
    harness_session.run(["ln", "-s", str(file), f"{folder}/link"])
    with pytest.raises(SessionError, match="can't be written"):
        harness_session.write(f"{folder}/link", "x")

    assert [item.read_text(encoding="utf-8") for item in tmp_path.iterdir()] == ["before"] * (target == "there")


@pytest.mark.parametrize("path", ["/etc/harness-x", "/home/harness-x", "{home}", "{home}x/file", "relative", ""])
def test_only_below_its_home(harness_session: Session, path: str) -> None:
    """Everything else belongs to somebody else."""
    with pytest.raises(SessionError, match="is not below the session's home"):
        harness_session.write(path.format(home=harness_session.paths.home), "x")


def test_the_way_does_not_turn_back(harness_session: Session) -> None:
    """A path below the home stays below it."""
    outside = f"{harness_session.paths.home}/../harness-x"
    try:
        with pytest.raises(SessionError):
            harness_session.write(outside, "x")
    finally:
        harness_session.remove(outside)


def test_removing(harness_session: Session, folder: str) -> None:
    """What is there goes, also a link, but not what it points to; what is not there is no error."""
    harness_session.write(f"{folder}/file", "x")
    harness_session.run(["ln", "-s", f"{folder}/file", f"{folder}/link"])
    harness_session.remove(f"{folder}/link")

    assert harness_session.run(["ls", folder]).text == "file\n"
    harness_session.remove(f"{folder}/file")
    harness_session.remove(f"{folder}/file")
    assert harness_session.run(["ls", folder]).text == ""


def test_output_that_is_not_there(harness_session: Session) -> None:
    """A service that never ran has printed nothing."""
    assert harness_session.output("never-ran.service") == ""


def test_output_of_a_new_service_is_its_own(harness_session: Session) -> None:
    """What an earlier service of the same name has printed is gone; any user of a container may write to it."""
    harness_session.capture("files.service")
    path = harness_session.outside(f"{harness_session.paths.output}/files.service.log")
    path.write_text("before", encoding="utf-8")
    harness_session.capture("files.service")

    assert harness_session.output("files.service") == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    path.write_bytes(b"a\xff")
    assert harness_session.output("files.service") == "a\ufffd"
    path.unlink()


def test_what_the_manager_says(harness_session: Session) -> None:
    """The log of `systemd --user` itself is there for every failure."""
    assert "basic.target" in harness_session.manager_log()


@pytest.mark.parametrize("place", ["ln -s /etc/hostname {}", "ln -s {}.other {}", "mkfifo {}"])
def test_an_output_in_whose_place_is_something_else(harness_session: Session, place: str) -> None:
    """Neither read nor waited for: the account must not lead root to a file of the machine's."""
    path = f"{harness_session.paths.output}/files.service.log"
    harness_session.capture("files.service")
    harness_session.run(["/bin/sh", "-c", f"rm {path}; echo x > {path}.other; {place.format(path, path)}"])
    try:
        assert harness_session.output("files.service") == ""
    finally:
        harness_session.run(["rm", "-f", path, f"{path}.other"])
