"""The matrix of machines: each row takes one thing from a machine, and says what a run of a few suites makes of it.

python -m tests.machines.matrix     # prints the table of docs/verification.md
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.core.cache import FOLDER_VARIABLE, default_folder
from harness.core.errors import INFRASTRUCTURE, Blame
from tests.helpers.runs import OPTIONS, REPOSITORY, Run, environment, read_junit

#: Longest run on one machine, in seconds; the longest took 8 s, on two processors that did nothing else.
LIMIT_S = 60.0

#: Status of a machine that can't be made out of this one.
NOT_HERE = 77

UNIT = "suites/test_replies.py::test_reply[echo-unit-tcp4]"
LAUNCHER = "suites/test_replies.py::test_reply[echo-launcher-tcp6]"
GENERATE = "suites/test_replies.py::test_reply[echo-generate-unix]"
INIT = "suites/test_handover.py::test_with_an_init_process[unit]"
NETWORK = "suites/test_isolation.py::test_a_published_port_hides_the_client"

REPLIES = (UNIT, LAUNCHER)
ALL = (UNIT, LAUNCHER, GENERATE, INIT, NETWORK)


class Expected(StrEnum):
    """How a run on a machine ends."""

    PASSED = "passed"
    #: What takes the missing thing is skipped with its name, all else passes.
    SKIPPED = "skipped"
    #: It can't go on, and says what the machine lacks and how to get it.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One machine."""

    #: What is different there, for a person.
    name: str
    #: Lines of a shell that take it, with the functions of `machine.sh`.
    takes: str
    expected: Expected = Expected.PASSED
    #: What the run says where it does not pass: the name of the capability, or the message that decides.
    says: str = ""
    tests: tuple[str, ...] = REPLIES


PASSED, SKIPPED, FAILED = Expected

ROWS = (
    # -- the kernel and its devices
    Row("no `/dev/net/tun`", "over /dev; rm -rf /dev/net", tests=ALL),
    Row(
        "`/dev/net/tun` with the mode 0600",
        "over /dev; rm -rf /dev/net; mkdir /dev/net; mknod -m 600 /dev/net/tun c 10 200",
        tests=ALL,
    ),
    Row("no `/dev/fuse`", "over /dev; rm -f /dev/fuse"),
    Row("no `/dev/shm`", "umount /dev/shm; over /dev; rmdir /dev/shm"),
    Row("IPv6 off", "deny ipv6", SKIPPED, "ipv6_loopback"),
    Row("user namespaces forbidden", "deny users", FAILED, "rootless_podman"),
    Row("no network, images built", "offline", tests=ALL[:-1]),
    Row("no network, no image built", "cache_on 10m; offline", FAILED, "name could not be resolved", (UNIT,)),
    Row("another clock, since an hour before the boot", "another_clock"),
    Row("process numbers used up", "use_pids_up", FAILED, "No more processes"),
    Row("one processor", 'start() { taskset --cpu-list 0 "$@"; }'),
    Row("`/proc` with hidepid=2", "mount -o remount,hidepid=2 /proc"),
    # -- programs
    Row("crun without systemd", "over /usr/bin; hamper_crun"),
    Row("no crun, but runc", "over /usr/bin; remove crun"),
    Row("no pasta", "over /usr/bin; remove pasta", tests=ALL),
    Row("podman in `/usr/local/bin` only", "over /usr/bin /usr/local/bin; move_podman", tests=ALL),
    Row("no runc", "over /usr/bin /usr/sbin; remove runc"),
    Row("no slirp4netns", "over /usr/bin; remove slirp4netns", SKIPPED, "slirp4netns", ALL),
    Row("no catatonit", "over /usr/bin /usr/libexec; remove catatonit", SKIPPED, "catatonit", (*REPLIES, INIT)),
    Row("no newuidmap", "over /usr/bin; remove newuidmap", FAILED, "rootless_podman"),
    Row("newuidmap without set-user-ID", "over /usr/bin; chmod u-s /usr/bin/newuidmap", FAILED, "rootless_podman"),
    Row("no podman", "over /usr/bin; remove podman", FAILED, "podman"),
    Row("no conmon", "over /usr/bin /usr/libexec; remove conmon", FAILED, "conmon"),
    Row("no socat", "over /usr/bin; remove socat", FAILED, "socat"),
    Row("no curl", "over /usr/bin; remove curl", FAILED, "curl"),
    Row("no dbus-daemon", "over /usr/bin; remove dbus-daemon", FAILED, "dbus"),
    Row("no nsenter", "over /usr/bin; remove nsenter", FAILED, "namespaces"),
    Row("no git, ps, ip, pgrep", "over /usr/bin /usr/sbin; remove git ps ip pgrep"),
    # -- files and folders
    Row("no `/etc/subuid`, no `/etc/subgid`", "over /etc; rm -f /etc/subuid /etc/subgid", FAILED, "subids"),
    Row("no user in `/etc/passwd`", "over /etc; sed -i /^root:/d /etc/passwd; unset HOME USER LOGNAME"),
    Row("no `/etc/passwd`", "over /etc; rm /etc/passwd", FAILED, "/etc/passwd"),
    Row("no `/var/tmp`", "over /var; rm -r /var/tmp", FAILED, "mount tmpfs on /var/tmp"),
    Row("`/etc` read-only", "mount --bind /etc /etc; mount -o remount,bind,ro /etc"),
    Row("`/run` of 2 MB", "mount -t tmpfs -o size=2m,mode=755 tmpfs /run"),
    Row("a read-only checkout", "mount --bind . .; mount -o remount,bind,ro .; as_documented"),
    Row("a checkout's path with blanks and an umlaut", 'checkout_at "/run/my Prüfstand"; as_documented'),
    Row("a full cache disk", "cache_on 64k; fill", FAILED, "no space left on device", (UNIT,)),
    Row("the cache read-only, images built", 'mount -o remount,bind,ro "$cache"'),
    Row("records of another version in the cache", "other_records"),
    Row("another version at the same time", "other_version"),
    Row("no HOME", "unset HOME"),
    Row("HOME not writable, images built", "mount -t tmpfs -o ro tmpfs /run; export HOME=/run"),
    Row("HOME not writable", "home_read_only", FAILED, "HARNESS_CACHE", (UNIT,)),
    Row("TMPDIR with blanks", 'folder "/run/my tmp ü"; export TMPDIR="/run/my tmp ü"'),
    Row("TMPDIR of 250 characters", 'long=/run/$(printf "%0122d/%0122d" 0 0); folder "$long"; export TMPDIR="$long"'),
    Row("TMPDIR with noexec", "folder /run/t; mount -t tmpfs -o noexec tmpfs /run/t; export TMPDIR=/run/t"),
    Row("TMPDIR that is no folder", "export TMPDIR=/nonexistent"),
    # -- what a process inherits
    Row("umask 077", "umask 077", tests=(*REPLIES, GENERATE)),
    Row("umask 0", "umask 0"),
    Row("root without CAP_SYS_ADMIN", "without sys_admin", FAILED, "namespaces"),
    Row("root without CAP_NET_ADMIN", "without net_admin", FAILED, "capabilities(7)"),
    Row("root without CAP_SYS_PTRACE", "without sys_ptrace", FAILED, "capabilities(7)"),
    Row("no new privileges", 'start() { setpriv --no-new-privs "$@"; }', FAILED, "rootless_podman"),
    Row("256 descriptors", "ulimit -n 256"),
    Row("small limits of files, locked memory, cores", "ulimit -f 131072; ulimit -l 8192; ulimit -c 0"),
    Row("signals ignored", "trap '' CHLD PIPE TERM HUP"),
    Row("no terminal, no standard input", 'unset TERM; start() { setsid --wait "$@" <&-; }'),
    Row("LANG=tr_TR.UTF-8", "export LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8"),
    Row("no locale", "unset LANG; export LC_ALL=POSIX PYTHONCOERCECLOCALE=0 PYTHONUTF8=0"),
    Row("a short PATH", "export PATH=/usr/bin"),
    Row("an empty environment", "empty_environment"),
    Row("XDG_RUNTIME_DIR unset", "unset XDG_RUNTIME_DIR"),
    Row("XDG_RUNTIME_DIR of somebody else", "runtime_dir_of 9"),
    Row("LISTEN_*, NOTIFY_SOCKET, CONTAINER_HOST left over", "left_over"),
    Row("a proxy that is not there", "export http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9"),
    # -- the administrator's settings
    Row("podman told other defaults in `/etc`", "over /etc; other_defaults"),
    Row("podman told another runtime in `/etc`", "over /etc; other_runtime"),
    Row("podman told another storage in `/etc`", "over /etc; other_storage"),
    Row("systemd told other limits in `/etc`", "over /etc; other_limits"),
    Row("a slow user unit in `/etc`", "over /etc; slow_unit"),
)  # fmt: skip


def run_on(row: Row, own: Path, limit_s: float = LIMIT_S) -> Run:
    """Run a row's tests on its machine; `own` takes what the run leaves. A run that hangs has the status -9."""
    report = "-p no:cacheprovider --harness-artifacts-dir=/mnt/artifacts"
    env = environment(**{FOLDER_VARIABLE: os.fspath(default_folder())})
    # fmt: off
    command = [
        "unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc",
        "--uts",
        "/bin/sh", os.fspath(Path(__file__).with_name("machine.sh")),
        row.takes, os.fspath(own), os.fspath(default_folder()), sys.executable,
        sys.executable, "-m", "pytest", "--junitxml=/mnt/report.xml", *row.tests,
    ]
    # fmt: on
    env["PYTEST_ADDOPTS"] = f"{OPTIONS} --color=no {report}"
    with (own / "output").open("w+b") as output:
        try:
            status = subprocess.run(
                command, cwd=REPOSITORY, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=limit_s, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            status = -9
        output.seek(0)
        text = output.read().decode(errors="replace")
    junit = own / "report.xml"
    return Run(status, text, *(read_junit(junit) if junit.exists() else ()))


def complaints(row: Row, run: Run) -> list[str]:
    """Return what is wrong with a run on the machine of a row."""
    found = []
    if run.status == -9:
        found.append("it hung")
    unwanted = ("Traceback (most recent call last)", "INTERNALERROR", Blame.IMAGE.value, "left behind: ")
    found += [f"it said '{text}'" for text in unwanted if text in run.output]
    if re.search(r"^E  ", run.output, re.MULTILINE):
        found.append("it showed pytest's own traceback")
    outcomes = sorted(set(run.outcomes.values()))
    wanted = {
        Expected.PASSED: (0, [["passed"]]),
        Expected.SKIPPED: (0, [["passed", "skipped"], ["skipped"]]),
        Expected.FAILED: (INFRASTRUCTURE, [["error"], ["failed"], ["error", "failed"]]),
    }
    status, allowed = wanted[row.expected]
    if run.status != status or outcomes not in allowed:
        found.append(f"expected tests that {row.expected} and the status {status}, got {outcomes} and {run.status}")
    for name, text in run.texts.items():
        if row.says not in text:
            found.append(f"{name} does not say '{row.says}'")
        if "Hint: " not in text:
            found.append(f"{name} gives no hint")
    return found


def ending(row: Row) -> str:
    """Return how a run on a row's machine ends, for the table."""
    return row.expected if row.expected is Expected.PASSED else f"{row.expected}, says `{row.says}`"


def table() -> str:
    """Return the table in docs/verification.md."""
    lines = [f"| {row.name} | {ending(row)} |" for row in ROWS]
    return "\n".join(["| machine | a run there |", "|---|---|", *lines])


if __name__ == "__main__":
    print(table())
