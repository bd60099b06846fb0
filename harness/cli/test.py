"""The command `test`: the battery for one contract, a folder of unit files, or an image that has no contract."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import contract
from harness.activation import activations
from harness.battery.hardening import ladder
from harness.cli.command import say, write_new
from harness.contract import Contract, units
from harness.contract.loading import name_of
from harness.core import progress
from harness.core.errors import UsageError
from harness.core.transports import Transport
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings

#: pytest's exit status for wrong usage, which is 2 for our commands.
_USAGE = 4

#: The options that say what a client asks; a contract says so itself.
_OF_CLIENT = ("http", "echo", "send", "expect")

#: The options that say what an image listens on, and those that are for unit files only.
_OF_IMAGE, _OF_UNITS = ("listen", "backend", "save"), ("instance", "image", "allow_bind")

#: Why an image behind a proxy makes one promise less.
_WAIVER = "systemd-socket-proxyd closes its connections when it is told to stop"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="CONTRACT|DIR|IMAGE",
        help="a contract or its folder, a folder of unit files, or the name of an image",
    )
    parser.add_argument(
        "--listen",
        action="append",
        metavar="SOCKET",
        help="tcp4:PORT, tcp4,tcp6:PORT, unix:NAME, vsock:PORT; repeatable",
    )
    parser.add_argument(
        "--backend",
        metavar="PORT|PATH",
        help="where a program listens that takes no sockets: a proxy passes clients on",
    )
    parser.add_argument("--http", metavar="PATH", help="ask for this page")
    parser.add_argument("--echo", action="store_true", help="expect back what is sent, whatever it is")
    parser.add_argument("--send", metavar="TEXT", help="send this; \\n and the like as in TOML")
    parser.add_argument("--expect", metavar="TEXT", help="expect this reply, to the byte")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the contract to DIR/contract.toml")
    parser.add_argument(
        "--instance", action="append", metavar="NAME@INSTANCE", help="of a template among unit files; repeatable"
    )
    parser.add_argument(
        "--image", action="append", metavar="NAME=IMAGE", help="test IMAGE as what unit files call NAME; repeatable"
    )
    parser.add_argument(
        "--allow-bind", action="append", metavar="PATH",
        help="let containers of unit files see, and only read, this folder of the machine; repeatable",
    )  # fmt: skip
    parser.add_argument("--activation", action="append", choices=tuple(activations()), help="repeatable (default: all)")
    parser.add_argument("--exhaustive", action="store_true", help="go on where the first client was not answered")
    parser.add_argument("--hardening", action="store_true", help="say, too, what the image could live without")
    parser.add_argument("-k", metavar="EXPRESSION", help="only the promises that match, as of pytest")


def run(options: argparse.Namespace) -> int:
    """Run the battery; the status is 0 (kept), 1 (broken), 2 (input), or 10 (the machine)."""
    given = Path(options.what)
    with tempfile.TemporaryDirectory(prefix="harness-test-") as folder:
        if units.is_unit_folder(given):
            _refuse(options, f"'{given}' is a folder of unit files", (*_OF_IMAGE, "activation", "hardening"))
            return _battery(options, f"--harness-units={_units(options, given, Path(folder)).resolve()}", Path(folder))
        if given.exists():
            _refuse(options, f"'{given}' is a contract", (*_OF_CLIENT, *_OF_IMAGE, *_OF_UNITS))
            contract.load(given)
        else:
            _refuse(options, f"'{given}' is the name of an image", _OF_UNITS)
            given = _written(options, Path(folder))
        status = _battery(options, f"--harness-contract={given.resolve()}", Path(folder))
        if options.hardening and not status:
            _harden(contract.load(given), options.activation or ["unit"])
        return status


def _harden(subject: Contract, names: Sequence[str]) -> None:
    """Print the ladder of the first activation."""
    with Runtime(Settings(), progress.to_stderr) as runtime:
        say(f"hardening of '{subject.name}' by {names[0]}, each rung on top of those that held:")
        for step in ladder(subject, lambda harder: runtime.service(harder, names[0])):
            say(f"  {step}")


def _refuse(options: argparse.Namespace, what: str, names: Sequence[str]) -> None:
    """Raise UsageError for options that mean nothing for what is tested."""
    if wrong := [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]:
        raise UsageError(f"{what}, and {', '.join(wrong)} can't be used with it.", hint="Leave the options out.")


def _units(options: argparse.Namespace, given: Path, folder: Path) -> Path:
    """Return the folder of unit files, or a copy with the probe that the options say."""
    if not any(getattr(options, name) for name in _OF_CLIENT):
        return given
    if (given / units.PROBES).exists():
        raise UsageError(
            f"'{given / units.PROBES}' says already what clients ask.", hint="Leave the options out, or the file."
        )
    probe = "\n".join(_probe(options))
    units.read(given, options.instance or (), [Path(one) for one in options.allow_bind or ()])
    copy = folder / given.resolve().name
    shutil.copytree(given, copy)
    (copy / units.PROBES).write_text(probe, encoding="utf-8")
    return copy


def _battery(options: argparse.Namespace, subject: str, folder: Path) -> int:
    """Run pytest over the battery alone, whatever configuration of its own the current folder has."""
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", "-n", "auto"),
        *("-c", os.fspath(folder / "pytest.ini"), "--rootdir", os.fspath(folder)),
        *("--pyargs", "harness.plugin.test_battery"),
        subject,
        *(f"--harness-instance={one}" for one in options.instance or ()),
        *(f"--harness-allow-bind={one}" for one in options.allow_bind or ()),
        *(f"--harness-image={one}" for one in options.image or ()),
        f"--harness-artifacts-dir={Path('harness-artifacts').resolve()}",
    ]
    if options.activation:
        command.append(f"--harness-activation={','.join(options.activation)}")
    if options.exhaustive:
        command.append("--harness-exhaustive")
    if options.k:
        command += ["-k", options.k]
    status = subprocess.run(command, check=False).returncode
    return 2 if status == _USAGE else status


def _written(options: argparse.Namespace, folder: Path) -> Path:
    """Write the contract of an image, and return its file; raise UsageError or ContractError."""
    if not options.listen:
        raise UsageError(
            f"There is no contract '{options.what}', and for an image '--listen' is missing.",
            hint=f"Such as: sah test {options.what} --listen tcp4:8080 --http /",
        )
    text = "\n".join(_lines(options))
    file = (options.save or folder) / contract.FILE_NAME
    contract.parse(text, file)
    write_new(file.parent, {contract.FILE_NAME: text})
    if options.save:
        say(f"{file} is written")
    return file


def _lines(options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of a contract for an image."""
    yield "schema = 1"
    yield f"name = {json.dumps(name_of(options.what))}"
    yield "\n[image]"
    yield f"reference = {json.dumps(options.what)}"
    where = options.backend
    if where is not None:
        place = f"port = {where}" if where.isdecimal() else f"path = {json.dumps(where)}"
        yield f"backend = {{ {place} }}"
    for text in options.listen:
        yield from _socket(text)
    yield ""
    yield from _probe(options)
    if options.backend is not None:
        yield "[promises]"
        yield f"no_reply_lost = {json.dumps(_WAIVER)}\n"


def _probe(options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the one probe."""
    yield "[probe]"
    kinds = [name for name in ("http", "echo") if getattr(options, name)]
    kinds += ["bytes"] if options.expect is not None else []
    if len(kinds) != 1 or (options.send is not None and kinds == ["http"]):
        raise UsageError("One of '--http PATH', '--echo', and '--expect TEXT' says what a client gets.")
    yield f'kind = "{kinds[0]}"'
    if options.http:
        yield f"path = {json.dumps(options.http)}"
    for key in ("send", "expect"):
        if (text := getattr(options, key)) is not None:
            yield f"{key} = {_quoted(key, text)}"
    yield ""


def _socket(text: str) -> Iterator[str]:
    names, colon, address = text.partition(":")
    transports = names.split(",")
    if not colon or not set(transports) <= set(Transport):
        raise UsageError(
            f"'--listen {text}' is no socket.",
            hint=f"Such as tcp4:8080 or unix:NAME; known are {', '.join(Transport)}.",
        )
    yield "\n[[sockets]]"
    yield f"transports = {json.dumps(transports)}"
    yield f"port = {address}" if address.isdecimal() and transports != ["unix"] else f"path = {json.dumps(address)}"


def _quoted(option: str, text: str) -> str:
    """Return a text of the command line, with TOML's escapes in it, as TOML has it."""
    quoted = '"' + re.sub(r'(?<!\\)"', r"\"", text) + '"'
    try:
        tomllib.loads(f"text = {quoted}")
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"'--{option}' has an escape that TOML does not know: {error}.") from None
    return quoted
