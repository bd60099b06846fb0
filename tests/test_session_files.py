"""Files of a session, written from outside by the harness, which may be root: never by the account's symbolic links."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import SessionError
from harness.session.session import Session


@pytest.fixture
def folder(user_session: Session) -> Iterator[str]:
    """A folder of the session's account, gone after the test."""
    path = f"{user_session.paths.home}/files"
    user_session.run(["mkdir", path])
    yield path
    user_session.run(["rm", "-rf", path])


def test_a_file_belongs_to_the_account(user_session: Session, folder: str) -> None:
    """With the folders above it; nobody else reads it; a second text takes the place of the first."""
    path = f"{folder}/a/b/file"
    user_session.write(path, "a longer text\n")
    user_session.write(path, "é\n")

    assert user_session.run(["cat", path]).text == "é\n"
    for name, mode in ((path, 0o600), (f"{folder}/a/b", 0o700), (f"{folder}/a", 0o700)):
        status = user_session.outside(name).stat()
        assert (status.st_uid, status.st_gid) == (user_session.account.uid, user_session.account.gid)
        assert stat.S_IMODE(status.st_mode) == mode


@pytest.mark.parametrize("where", ["{folder}/link/file", "{folder}/link/sub/file", "{folder}/file/x"])
def test_no_way_leads_over_a_link(user_session: Session, folder: str, tmp_path: Path, where: str) -> None:
    """The account must not lead root elsewhere; a file is no folder either."""
    user_session.run(["ln", "-s", str(tmp_path), f"{folder}/link"])
    user_session.run(["touch", f"{folder}/file"])
    with pytest.raises(SessionError, match="is not a folder"):
        user_session.write(where.format(folder=folder), "x")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["there", "not there"])
def test_a_link_is_not_written_through(user_session: Session, folder: str, tmp_path: Path, target: str) -> None:
    """Neither to a file nor to where one could be made."""
    file = tmp_path / "file"
    if target == "there":
        file.write_text("before", encoding="utf-8")
    user_session.run(["ln", "-s", str(file), f"{folder}/link"])
    with pytest.raises(SessionError, match="can't be written"):
        user_session.write(f"{folder}/link", "x")

    assert [item.read_text(encoding="utf-8") for item in tmp_path.iterdir()] == ["before"] * (target == "there")


@pytest.mark.parametrize("path", ["/etc/harness-x", "/home/harness-x", "{home}", "{home}x/file", "relative", ""])
def test_only_below_its_home(user_session: Session, path: str) -> None:
    """Everything else belongs to somebody else."""
    with pytest.raises(SessionError, match="is not below the session's home"):
        user_session.write(path.format(home=user_session.paths.home), "x")


def test_the_way_does_not_turn_back(user_session: Session) -> None:
    """A path below the home stays below it."""
    outside = f"{user_session.paths.home}/../harness-x"
    try:
        with pytest.raises(SessionError):
            user_session.write(outside, "x")
    finally:
        user_session.remove(outside)


def test_removing(user_session: Session, folder: str) -> None:
    """What is there goes, also a link, but not what it points to; what is not there is no error."""
    user_session.write(f"{folder}/file", "x")
    user_session.run(["ln", "-s", f"{folder}/file", f"{folder}/link"])
    user_session.remove(f"{folder}/link")

    assert user_session.run(["ls", folder]).text == "file\n"
    user_session.remove(f"{folder}/file")
    user_session.remove(f"{folder}/file")
    assert user_session.run(["ls", folder]).text == ""


def test_output_that_is_not_there(user_session: Session) -> None:
    """A service that never ran has printed nothing."""
    assert user_session.output("never-ran.service") == ""


def test_output_of_a_new_service_is_its_own(user_session: Session) -> None:
    """What an earlier service of the same name has printed is gone; any user of a container may write to it."""
    user_session.capture("files.service")
    path = user_session.outside(f"{user_session.paths.output}/files.service.log")
    path.write_text("before", encoding="utf-8")
    user_session.capture("files.service")

    assert user_session.output("files.service") == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    path.write_bytes(b"a\xff")
    assert user_session.output("files.service") == "a\ufffd"
    path.unlink()


def test_what_the_manager_says(user_session: Session) -> None:
    """The log of `systemd --user` itself is there for every failure."""
    assert "basic.target" in user_session.manager_log()


@pytest.mark.parametrize("place", ["ln -s /etc/hostname {}", "ln -s {}.other {}", "mkfifo {}"])
def test_an_output_in_whose_place_is_something_else(user_session: Session, place: str) -> None:
    """Neither read nor waited for: the account must not lead root to a file of the machine's."""
    path = f"{user_session.paths.output}/files.service.log"
    user_session.capture("files.service")
    user_session.run(["/bin/sh", "-c", f"rm {path}; echo x > {path}.other; {place.format(path, path)}"])
    try:
        assert user_session.output("files.service") == ""
    finally:
        user_session.run(["rm", "-f", path, f"{path}.other"])
