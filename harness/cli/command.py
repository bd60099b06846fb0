"""What a command of the command line is."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.text import put, shown


class Group(StrEnum):
    """What somebody wants who looks for a command, in the order in which the help shows it."""

    IMAGE = "test an image"
    RESULTS = "read what a run found"
    MACHINE = "look after this machine"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, a line of help, its arguments, and what it does; that returns the exit status."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    group: Group = Group.MACHINE


def write_new(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a folder, made if need be; raise UsageError, and write none, where one of them is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if there := next((folder / name for name in files if os.path.lexists(folder / name)), None):
            raise FileExistsError(0, "", os.fspath(there))
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("x", encoding="utf-8") as opened:
                opened.write(text)
    except FileExistsError as error:
        hint = "Choose another folder, or remove it."
        raise UsageError(f"'{error.filename}' is there already.", hint=hint) from None
    except OSError as error:
        raise UsageError(f"'{folder}' can't be written: {error.strerror}.") from None


def say(text: str) -> None:
    """Print a result; standard output carries nothing else."""
    put(sys.stdout, shown(f"{text}\n"))
