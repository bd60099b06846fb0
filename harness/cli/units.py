"""The command `units`: the unit files of a contract, ready to ship, and the probes that test them as they are."""

from __future__ import annotations

import argparse
import shlex
import tomllib
from pathlib import Path

import tomli_w

from harness.activation import activations, activations_for, own_name, preview_workload
from harness.cli.command import say, write_new
from harness.contract import FILE_NAME, Contract, load
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
    image = options.image or subject.image.reference or f"localhost/{subject.name}:latest"
    files = _files(subject, options.activation, image) | {PROBES: _probes(file)}
    if options.output is None:
        say("\n".join(f"# {name}\n{text}" for name, text in files.items()).rstrip())
        return 0
    write_new(options.output, files)
    folder = shlex.quote(str(options.output))
    say(f"{options.output} has {', '.join(files)}; the next steps are\n")
    say(f"    sah lint {folder}")
    say(f"    sah test {folder} --image {shlex.quote(image)}=IMAGE")
    for client in subject.clients:
        if client.containerfile:
            say(f"\nA client is built from '{client.containerfile}': copy it, and what it needs, to {folder}.")
    for volume in subject.image.volumes:
        if volume.files:
            say(f"\nNobody fills the volume '{own_name(subject.name, volume.name)}': the contract has its files.")
    for secret in subject.image.secrets:
        name = own_name(subject.name, secret.name)
        say(f"\nNobody makes the secret '{name}', see podman-secret-create(1); 'sah test' has it of 'secrets/{name}'.")
    return 0


def _files(subject: Contract, name: str, image: str) -> dict[str, str]:
    """Return name -> text of the unit files."""
    if subject.units:
        raise UsageError(f"The contract '{subject.name}' is one of unit files: they are in '{subject.units.path}'.")
    (activation,) = activations_for(subject, {name: activations()[name]}).values()
    if refusal := activation.refusal(subject):
        raise UsageError(f"The contract '{subject.name}' can't be said by '{name}': {refusal}.")
    made = activation.preview(preview_workload(subject, image, _HOME))
    return {title: text.replace(_HOME, "%h") for title, text in made.items()}


def _probes(file: Path) -> str:
    """Return what a contract says of clients and limits."""
    whole = tomllib.loads(file.read_text(encoding="utf-8"))
    return tomli_w.dumps({key: value for key, value in whole.items() if key in FOR_UNITS})
