"""What makes a whole machine of an unpacked distribution: its files, its units, what of this machine it sees."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import harness
from harness.core import account as accounts
from harness.core.account import Account
from harness.core.errors import UsageError
from harness.core.userland import Userland
from harness.images.store import ImageStore
from harness.session import factory
from harness.session.spec import MANAGER_PATHS, Bind

#: Where the machine sees the harness, and the packages that it needs for its own Python.
SOURCE, PACKAGES = "/run/harness-guest/source", "/run/harness-guest/packages"

#: The cache folder of the run inside, below the exchange folder.
CACHE = "cache"

#: What the userland must have beside what every session needs.
_PROGRAMS = ("/usr/bin/python3", "/usr/bin/systemctl", "/usr/bin/journalctl")

_TARGET = """\
[Unit]
Description=All that the harness needs of this machine
Requires=basic.target
Wants=dbus.socket systemd-logind.service systemd-user-sessions.service user@{uid}.service harness-guest.service
After=basic.target
AllowIsolate=yes
"""

#: A login, as one by ssh or at a terminal: PAM opens it, logind knows it.
_SERVICE = """\
[Unit]
Description=The run of the harness
After=basic.target dbus.socket systemd-logind.service systemd-user-sessions.service user@{uid}.service
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
User={name}
PAMName=login
WorkingDirectory=/
ExecStartPre=+/bin/sh {check}
ExecStart=/usr/bin/python3 -I -S -B {source}/harness/standalone guest_command {folder}
StandardOutput=journal+console
StandardError=journal+console
"""

#: Podman of an ordinary user is nothing without the user's manager; why it has not come is told while one can ask.
_CHECK = """\
systemctl is-active --quiet user@{uid}.service && exit 0
echo "init: the user manager of '{name}' did not start"
systemctl status --no-pager --full user@{uid}.service
journalctl --no-pager --boot --output=cat --lines=40 --unit=user@{uid}.service --unit=systemd-logind.service
exit 1
"""

#: What a guest needs not, and would boot longer with: its modules are loaded, its /tmp is there, it is thrown away.
_LEFT_OUT = (
    *("modprobe@configfs.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "kmod-static-nodes.service"),
    *("sys-kernel-config.mount", "proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service", "tmp.mount"),
    *("systemd-journal-flush.service", "systemd-random-seed.service", "timers.target"),
)

_CHECK_FILE = "/run/harness-guest/check"

_NOTHING = "/dev/null"


@dataclass(frozen=True, slots=True)
class System:
    """An unpacked distribution that a guest boots with its own systemd."""

    #: How many times longer than without a systemd of its own it boots: 10 s by uml, where it is 2 s.
    boot_factor: ClassVar[float] = 3.0

    userland: Userland
    account: Account
    #: Folders of this machine that it sees, besides the exchange folder.
    binds: tuple[Bind, ...]
    #: Path -> text of files that are its own, beside its units: those below /etc that make the account known.
    files: Mapping[str, str]

    def task(self, folder: Path, modules: str) -> dict[str, Any]:
        """Return what the guest's init must know; `modules` is the folder of the kernel's modules."""
        names: dict[str, object] = {
            "uid": self.account.uid,
            "name": self.account.name,
            "source": SOURCE,
            "folder": os.fspath(folder).replace("%", "%%"),  # see SPECIFIERS in systemd.unit(5)
            "check": _CHECK_FILE,
        }
        units = "/run/systemd/system"
        files = {
            "/etc/machine-id": f"{uuid.uuid4().hex}\n",
            # Tells systemd's updaters of /etc and /var, such as ldconfig.service, that they have nothing to do.
            "/etc/.updated": "",
            "/var/.updated": "",
            f"/var/lib/systemd/linger/{self.account.name}": "",
            f"{units}/harness-guest.target": _TARGET.format_map(names),
            f"{units}/harness-guest.service": _SERVICE.format_map(names),
            _CHECK_FILE: _CHECK.format_map(names),
            **self.files,
        }
        links = {
            # It would make room in folders that are this machine's own and seen there.
            "/run/tmpfiles.d/tmp.conf": _NOTHING,
            **{f"{units}/{name}": _NOTHING for name in _LEFT_OUT},
        }
        binds = [*self.binds, *([Bind(modules, f"/lib/modules/{Path(modules).name}")] if modules else [])]
        return {
            "root": os.fspath(self.userland.root),
            "uid": self.account.uid,
            "gid": self.account.gid,
            "home": self.account.home,
            "runtime": f"/run/user/{self.account.uid}",
            "init": [_manager(self.userland), "--unit=harness-guest.target", "--show-status=yes"],
            "files": files,
            "links": links,
            "binds": [asdict(bind) for bind in binds],
        }

    def give(self, folder: Path) -> None:
        """Give the exchange folder with all in it to the account, where it is another one than the caller's."""
        if os.geteuid() != self.account.uid:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.account.uid, self.account.gid)


def show_images(images: ImageStore, folder: Path) -> Bind:
    """Copy what is known of the images to the exchange folder, and return what shows the images beside it."""
    shutil.copytree(images.records, folder / CACHE / images.records.name)
    (folder / CACHE / images.graph.name).mkdir()
    return Bind(os.fspath(images.graph), f"{folder}/{CACHE}/{images.graph.name}")


def describe(userland: Userland, packages: Path, folders: Iterable[Path], *binds: Bind) -> System:
    """Return the machine that `userland` becomes, with the `folders` at their own paths; raise UsageError."""
    check(userland)
    account, files = _account(userland)
    own = [Bind(os.fspath(Path(harness.__file__).parent), f"{SOURCE}/harness"), Bind(os.fspath(packages), PACKAGES)]
    return System(userland, account, (*own, *(Bind(path, path) for path in outermost(folders)), *binds), files)


def check(userland: Userland) -> None:
    """Raise UsageError for a userland that can't be booted, with all that it lacks."""
    missing = [path for path in _PROGRAMS if not userland.file(path).exists()]
    missing += [] if _manager(userland) else [" or ".join(map(str, MANAGER_PATHS))]
    if missing:
        raise UsageError(
            f"The userland '{userland.name}' can't be booted as a machine: it has no {', '.join(missing)}.",
            hint="Unpack one that has them, see 'python -m harness userland'.",
        )


def outermost(folders: Iterable[Path]) -> list[str]:
    """Return the folders that are in no other of them."""
    chosen: list[Path] = []
    for folder in sorted(set(folders)):
        if folder == Path("/"):
            raise UsageError(
                "A userland can't be booted as a machine for a project in '/'.", hint="Name one by --rootdir."
            )
        if not any(folder.is_relative_to(other) for other in chosen):
            chosen.append(folder)
    return [os.fspath(folder) for folder in chosen]


def _manager(userland: Userland) -> str:
    """Return the path of systemd inside, "" where it has none."""
    return next((os.fspath(path) for path in MANAGER_PATHS if userland.file(os.fspath(path)).exists()), "")


def _account(userland: Userland) -> tuple[Account, dict[str, str]]:
    """Return who runs the command, and the files below /etc that say so.

    The guest sees the owners of this machine's files: only the account that owns the images can read them.
    """
    account = accounts.throwaway() if factory.is_isolated() else accounts.current()
    texts = accounts.etc_files(account, userland.file("/etc"))
    if not factory.is_isolated():
        texts |= {name: Path("/etc", name).read_text(encoding="utf-8") for name in ("subuid", "subgid")}
    # A password of its own in passwd(5), which none fits: PAM then does not look for one in shadow(5).
    texts["passwd"] = texts["passwd"].replace(f"\n{account.name}:x:", f"\n{account.name}:*:")
    return account, {f"/etc/{name}": text for name, text in texts.items()}
