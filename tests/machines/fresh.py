"""`tox -e fresh`: the README's own commands on a machine that has nothing but Python.

    tox -e fresh -- [RELEASE] [--tun 0600|none] [--command NUMBER ...] [-- ARGUMENT...]

Each command runs twice; the second run must install nothing. What comes after the second `--` goes to pytest. It takes
root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harness.core import progress
from harness.core.process import SYSTEM_PATH
from harness.session import factory
from tests.machines import pristine

REPOSITORY = Path(__file__).resolve().parents[2]

#: What the second run adds: it must install nothing, and has no need to run the tests again.
_AGAIN = " -- --collect-only -qq"


def commands(readme: str) -> tuple[str, ...]:
    """Return the commands in the first block of the README's section 'Run it', without their comments."""
    found = re.search(r"^## Run it\n(?s:.*?)\n\n((?:    .+\n)+)", readme, re.MULTILINE)
    assert found, "the README has no block of commands below '## Run it'"
    return tuple(line.partition("#")[0].strip() for line in found[1].splitlines())


def spec(release: str, tun: str, runs: Sequence[tuple[str, str]], artifacts: Path) -> dict[str, object]:
    """Return what `bare.py` is told; a run is a command, and what follows after the first one must change nothing."""
    carried = pristine.carried()
    artifacts.mkdir(parents=True, exist_ok=True)
    own = {name: os.environ[name] for name in ("CI", "TERM") if name in os.environ}
    return {
        "root": os.fspath(pristine.root_of(release, progress.to_stderr)),
        "tun": tun,
        "checkout": os.fspath(REPOSITORY),
        "ignored": [line.rstrip("/") for line in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").split()],
        "artifacts": os.fspath(artifacts),
        "carried": asdict(carried),
        "env": {**own, **carried.environment, "HOME": "/root", "USER": "root", "PATH": SYSTEM_PATH},
        "runs": list(runs),
    }


def run(told: dict[str, object]) -> int:
    """Run a machine and return its status; it ends with this process, however that ends."""
    with started(told) as process:
        return process.wait()


def started(told: dict[str, object], output: int | None = None) -> subprocess.Popen[bytes]:
    """Return the process that owns a machine, and ends it when its standard input closes."""
    command = [*factory.scope(), sys.executable, "-m", "tests.machines.bare"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=REPOSITORY)
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.flush()
    return process


def main(given: Sequence[str]) -> int:
    """Read the options, run the machine."""
    own, arguments = list(given), []
    if "--" in own:
        own, arguments = own[: own.index("--")], own[own.index("--") + 1 :]
    known = commands((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    numbers = range(1, len(known) + 1)
    parser = argparse.ArgumentParser(prog="tox -e fresh --", description=__doc__, allow_abbrev=False)
    parser.add_argument("release", nargs="?", choices=pristine.RELEASES, default="bookworm")
    parser.add_argument(
        "--tun", choices=("0600", "none"), default="0600", help="the mode of /dev/net/tun, or no such device"
    )
    parser.add_argument(
        "--command", type=int, action="append", choices=numbers, metavar="NUMBER", help="only this one of the README's"
    )
    options = parser.parse_args(own)
    if not factory.is_isolated():
        parser.error("a machine of its own takes root")
    more = f" -- {shlex.join(arguments)}" if arguments else ""
    runs = [(known[number - 1] + more, known[number - 1] + _AGAIN) for number in options.command or numbers]
    return run(spec(options.release, options.tun, runs, REPOSITORY / f"harness-artifacts/fresh-{options.release}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
