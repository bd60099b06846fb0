"""The throwaway account of a session that root makes: generated files, never the machine's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import SessionError

#: A uid that no range of the machine's uses, see systemd's docs/UIDS-GIDS.md: 60706-61183 and 1879048192-2147483647
#: are left unassigned there. Images in the shared store belong to these ids, so they are the same in every session.
UID = 61000
SUBID_START = 1879048192
SUBID_COUNT = 65536


@dataclass(frozen=True, slots=True)
class Account:
    """Who the session's `systemd --user` and its containers run as."""

    name: str
    uid: int
    gid: int
    home: str
    runtime_dir: str

    @property
    def root(self) -> bool:
        """Whether the account is the superuser's, which no session's is."""
        return self.uid == 0


def throwaway() -> Account:
    """Return the account for the isolated lane."""
    return Account("harness", UID, UID, "/home/harness", f"/run/user/{UID}")


def current() -> Account:
    """Return the caller's own account, for the delegated lane; home and runtime folder are the caller's."""
    import pwd

    uid = os.getuid()
    entry = pwd.getpwuid(uid)
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{uid}")
    return Account(entry.pw_name, uid, os.getgid(), entry.pw_dir, runtime)


def etc_files(account: Account, etc: Path = Path("/etc")) -> dict[str, str]:
    """Return name -> text of the files below /etc that make `account` known, the machine's own entries kept."""
    passwd = f"{account.name}:x:{account.uid}:{account.gid}:throwaway:{account.home}:/bin/sh\n"
    group = f"{account.name}:x:{account.gid}:\n"
    subids = f"{account.name}:{SUBID_START}:{SUBID_COUNT}\n"
    return {
        "passwd": _with(etc / "passwd", passwd),
        "group": _with(etc / "group", group),
        "subuid": subids,
        "subgid": subids,
    }


def _with(path: Path, line: str) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise SessionError(
            f"The file '{path}' can't be read: {error.strerror}.",
            hint="Make it, with a line for root; a session adds its account to a copy.",
        ) from None
    return text + ("" if text.endswith("\n") else "\n") + line
