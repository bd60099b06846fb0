"""What a command of the command line is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.core.text import shown


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


def say(text: str) -> None:
    """Print a result; standard output carries nothing else."""
    sys.stdout.write(shown(text) + "\n")
