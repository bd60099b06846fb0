"""The command `units`: the unit files of a contract, ready to ship, and the probes that test them as they are."""

from __future__ import annotations

import argparse
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import tomli_w

from harness.activation import activations, build_workload
from harness.cli.command import say
from harness.contract import FILE_NAME, Contract, ExecProbe, load
from harness.contract.units import FOR_UNITS, PROBES
from harness.core.errors import UsageError

#: The activations that write unit files by themselves.
_WRITTEN = ("quadlet", "unit")

#: Stands for the home folder until the files are written: what systemd calls it, %h, would be quoted before.
_HOME = "/the-home-folder-of-the-user"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("contract", type=Path, metavar="CONTRACT", help="a contract or its folder")
    parser.add_argument(
        "--activation",
        choices=_WRITTEN,
        default="quadlet",
        help="a .container file for Podman 4.8 and newer, or a .service for any (default: quadlet)",
    )
    parser.add_argument("--image", metavar="REFERENCE", help="the image's name in the units (default: the contract's)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the files to DIR (default: print them)")


def run(options: argparse.Namespace) -> int:
    """Print the files, or write them where none of them is yet."""
    subject = load(options.contract)
    file = options.contract / FILE_NAME if options.contract.is_dir() else options.contract
    files = _files(subject, options.activation, options.image) | {PROBES: _probes(file)}
    if options.output is None:
        say("\n".join(f"# {name}\n{text}" for name, text in files.items()).rstrip())
        return 0
    _write(options.output, files)
    folder = shlex.quote(str(options.output))
    say(f"{options.output} has {', '.join(files)}; the next steps are\n")
    say(f"    sah lint {folder}")
    say(f"    sah test {folder}")
    for name in sorted(_beside(subject)):
        say(f"\nA client of the probes is built from '{name}': copy it, and what it needs, to {folder}.")
    for volume in subject.image.volumes:
        if volume.files:
            say(f"\nThe volume '{volume.name}' has files in the contract; the units name it, and do not fill it.")
    for secret in subject.image.secrets:
        say(f"\nThe units name the secret '{secret.name}', which is none of theirs: see podman-secret-create(1).")
    return 0


def _files(subject: Contract, name: str, image: str | None) -> dict[str, str]:
    """Return name -> text of the unit files."""
    if subject.units:
        raise UsageError(f"The contract '{subject.name}' is one of unit files: they are in '{subject.units.path}'.")
    activation = activations()[name]
    if refusal := activation.refusal(subject):
        raise UsageError(f"The contract '{subject.name}' can't be said by '{name}': {refusal}.")
    image = image or subject.image.reference or f"localhost/{subject.name}:latest"
    listeners = [
        replace(table.listener, path=f"{_HOME}/{table.path}") if table.path else table.listener
        for table in subject.sockets
    ]
    made = activation.preview(build_workload(subject, image, listeners, _HOME))
    return {title: text.replace(_HOME, "%h") for title, text in made.items()}


def _probes(file: Path) -> str:
    """Return what a contract says of clients and limits."""
    whole = tomllib.loads(file.read_text(encoding="utf-8"))
    return tomli_w.dumps({key: value for key, value in whole.items() if key in FOR_UNITS})


def _beside(subject: Contract) -> set[str]:
    """Return the Containerfiles of clients."""
    asked = [one.probe(transport) for one in subject.selections for transport in one.transports]
    return {probe.image.containerfile for probe in asked if isinstance(probe, ExecProbe) and probe.image} - {""}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise UsageError(f"'{folder}' has {', '.join(there)} already.", hint="Choose another folder, or remove them.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (folder / name).open("x", encoding="utf-8") as opened:
                opened.write(text)
    except OSError as error:
        raise UsageError(f"'{folder}' can't be written: {error.strerror}.") from None
