"""The maintainers' command line, `python -m tools COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.cli.main import parser, run
from tools import bench, calibrate, claims, compatibility, profile

COMMANDS = (*bench.COMMANDS, *calibrate.COMMANDS, *claims.COMMANDS, *compatibility.COMMANDS, *profile.COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return run(lambda _name: parser(COMMANDS, "python3 -m tools", "Look after the harness itself."), arguments)


if __name__ == "__main__":
    sys.exit(main())
