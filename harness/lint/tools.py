"""What systemd-analyze(1) and Quadlet's dry run say of unit files; where a program is not there, nothing."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.contract import UnitFolder
from harness.contract.units import QUADLETS
from harness.core.process import base_environment, run
from harness.lint.findings import SAID, Finding, Severity
from harness.session.spec import QUADLET_GENERATORS

#: Longest run of one of them, in seconds.
_LIMIT_S = 20.0


#: What systemd misses before Podman's generator has run, and programs that may be on another machine.
_NOT_YET = re.compile(r"not found|@internal\.service not loaded|is not executable")


def said(folder: UnitFolder) -> tuple[Finding, ...]:
    """Return the words of both, each a finding of the file that it names."""
    with tempfile.TemporaryDirectory(prefix="harness-lint-") as place:
        for name, text in folder.files.items():
            file = Path(place, name)
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        for name in folder.generated:
            # What Quadlet makes is not there yet, and systemd refuses a socket without its service.
            Path(place, name).write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
        return (*_verified(folder, Path(place)), *_generated(folder, Path(place)))


def _verified(folder: UnitFolder, place: Path) -> Iterator[Finding]:
    """Yield what systemd says of its own files; of what it knows nothing, such as Quadlet's services, it complains."""
    program = shutil.which("systemd-analyze")
    names = [name for name in folder.files if "/" not in name and not name.endswith(QUADLETS) and "@." not in name]
    if not program or not names:
        return
    environment = base_environment() | {
        "SYSTEMD_UNIT_PATH": f"{place}:",
        "XDG_RUNTIME_DIR": str(place),
        "HOME": str(place),
    }
    command = [program, "--user", "verify", "--man=no", "--generators=no", *names]
    done = run(command, timeout_s=_LIMIT_S, check=False, env=environment, cwd=str(place))
    for line in done.stderr.decode(errors="replace").splitlines():
        found = re.fullmatch(rf"(?:{re.escape(str(place))}/)?([\w@.:\\-]+?):(?:(\d+):)? (.*)", line)
        if found and found[1] in folder.files and not _NOT_YET.search(found[3]):
            yield Finding(found[1], int(found[2] or 1), SAID, Severity.WARNING, f"systemd: {found[3]}")


def _generated(folder: UnitFolder, place: Path) -> Iterator[Finding]:
    program = next((path for path in QUADLET_GENERATORS if Path(path).exists()), None)
    if program is None or not any(name.endswith(QUADLETS) for name in folder.files):
        return
    environment = base_environment() | {"QUADLET_UNIT_DIRS": str(place)}
    done = run([program, "-user", "-dryrun"], timeout_s=_LIMIT_S, check=False, env=environment, cwd=str(place))
    for line in done.stderr.decode(errors="replace").splitlines():
        named = next((name for name in folder.files if name in line), None)
        if named and re.search(r"error|unsupported|converting|invalid|no Image", line, re.IGNORECASE):
            yield Finding(named, 1, SAID, Severity.ERROR, f"Quadlet: {line.partition(': ')[2] or line}")
