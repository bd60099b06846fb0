"""The rules are right: what they call wrong is refused by the real systemd, or reaches no client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.contract import UnitFolder
from harness.core.deadline import Deadline
from harness.core.errors import SessionError, UnitFailed
from harness.lint import check, tools
from harness.session.session import Session

LIMIT_S = 10.0

SOCKET = "[Socket]\nListenStream=%t/lint.sock\n"
SERVICE = "[Service]\nExecStart=/bin/sleep 100\n"

#: Rule -> files that systemd does not take, and the socket unit that it refuses.
REFUSED: dict[str, tuple[Mapping[str, str], str]] = {
    "SA001": ({"lint-web.socket": SOCKET, "lint.service": SERVICE}, "lint-web.socket"),
    "SA004": (
        {
            "lint.socket": "[Socket]\nListenStream=127.0.0.1:4711\n",
            "lint.service": SERVICE,
            "lint.socket.d/10.conf": "[Socket]\nListenStream=127.0.0.1:4711\n",
        },
        "lint.socket",
    ),
    "SA007": ({"lint.socket": f"{SOCKET}Accept=yes\nService=lint.service\n", "lint.service": SERVICE}, "lint.socket"),
    "SA014": ({"lint.socket": "[Socket]\nBacklog=5\n", "lint.service": SERVICE}, "lint.socket"),
}

GOOD = {"lint.socket": SOCKET, "lint.service": SERVICE}


def start(session: Session, files: Mapping[str, str], unit: str) -> None:
    """Install the files and start a socket unit; remove all of it again."""
    paths = [f"{session.paths.units}/{name}" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        session.write(path, text)
    try:
        session.manager.reload()
        session.manager.start(unit, Deadline.after(LIMIT_S))
    finally:
        session.manager.stop_together([name for name in files if "/" not in name], Deadline.after(LIMIT_S))
        for path in paths:
            session.remove(path)
        session.manager.reset_failed()
        session.manager.reload()


@pytest.mark.parametrize("rule", REFUSED)
def test_systemd_refuses_what_is_called_an_error(rule: str, harness_session: Session) -> None:
    files, unit = REFUSED[rule]
    assert [one.rule for one in check(UnitFolder(Path("/nowhere"), "a", files))] == [rule]
    with pytest.raises((UnitFailed, SessionError), match=unit):
        start(harness_session, files, unit)


def test_systemd_takes_what_has_no_finding(harness_session: Session) -> None:
    """The control."""
    assert check(UnitFolder(Path("/nowhere"), "a", GOOD)) == ()
    start(harness_session, GOOD, "lint.socket")


def test_systemd_s_own_words_come_with_the_line() -> None:
    files = {"lint.socket": "[Socket]\nListenStream=999.1.1.1:80\nBaclog=3\n", "lint.service": SERVICE}
    found = {(one.file, one.line): one.text for one in tools.said(UnitFolder(Path("/nowhere"), "a", files))}
    assert "Failed to parse address value" in found["lint.socket", 2]
    assert "Unknown key 'Baclog' in section [Socket], ignoring." in found["lint.socket", 3] or (
        "Unknown key name 'Baclog'" in found["lint.socket", 3]
    )
    assert tools.said(UnitFolder(Path("/nowhere"), "a", GOOD)) == ()


def test_what_quadlet_will_make_is_not_missed() -> None:
    """The socket of a `.container` has its service only once Podman's generator has run."""
    files = {"lint.socket": SOCKET, "lint.container": "[Container]\nImage=localhost/a\n"}
    assert not [one for one in tools.said(UnitFolder(Path("/nowhere"), "a", files)) if one.file == "lint.socket"]
