"""The command `contract`: a starting point, a check, and what the harness would do with a contract."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from harness import probes
from harness.activation import activations, activations_for, preview_workload, shipped
from harness.cli import from_units
from harness.cli.command import say, write_new
from harness.contract import (
    FILE_NAME,
    ConnectProbe,
    Contract,
    ExecProbe,
    HttpProbe,
    Probe,
    Sends,
    SocketTable,
    load,
    units,
)
from harness.contract.placeholders import unknown
from harness.core import account, progress
from harness.core.errors import ImageError, UsageError
from harness.core.transports import FIRST_DESCRIPTOR, Endpoint
from harness.images import store as image_store
from harness.images.bases import Base
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings

#: What `contract new` writes; every line that is not needed is a comment.
_TEMPLATE = """\
# What the image promises. Every key is in docs/contracts.md; check this file by
#     python3 -m harness contract check {file}
schema = 1
name = "{name}"
description = ""

[image]
# The name of an image that you have built, or that a registry has ...
reference = "localhost/{name}:latest"
# ... or, instead, a Containerfile in this folder that the harness builds.
# containerfile = "Containerfile"
# command = ["/usr/bin/program", "--option"]
# environment = {{ VARIABLE = "text" }}
# user = "nobody"
# read_only = true
# For a program that does not handle SIGTERM, which process 1 then never gets:
# init = true

# What systemd listens on and hands over, one table per socket: "tcp4", "tcp6", "udp4", "udp6", "unix" or "vsock".
[[sockets]]
transports = ["tcp4"]
port = 8000

# [[sockets]]
# transports = ["unix"]
# path = "{name}_sock"

# What a client asks, and what it must get: "http", "bytes" or "exec".
[probe]
kind = "http"
path = "/"
status = [200]
# contains = "a text in the body"

# [probe]
# kind = "bytes"
# send = "hello\\n"
# expect = "hello\\n"

# [probe]
# kind = "exec"
# command = ["client", "--host={{host}}", "--port={{port}}"]
# contains = "a text in its output"
"""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, text, what, act in (
        ("new", "write NAME/contract.toml to start from", "NAME", _new),
        ("check", "say how a contract is understood, or all its mistakes", "FILE", _check),
        ("explain", "print the units and the clients' commands, and start nothing", "FILE", _explain),
    ):
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.add_argument("path", type=Path, metavar=what)
        action.set_defaults(action=lambda options, act=act: act(options.path))
    text = "print the contract that a folder of unit files makes, as far as one can say it"
    action = actions.add_parser("from", help=text, description=text, allow_abbrev=False)
    action.add_argument("path", type=Path, metavar="DIR")
    action.add_argument(
        "--instance", action="append", default=[], metavar="NAME@INSTANCE", help="of a template; repeatable"
    )
    action.set_defaults(action=_from)


def run(options: argparse.Namespace) -> int:
    """Run one of the actions."""
    status: int = options.action(options)
    return status


# -- new --------------------------------------------------------------------------------------------------------------


def _new(folder: Path) -> int:
    """Write a contract to start from; a file that is there stays as it is."""
    name, file = folder.name, folder / FILE_NAME
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' can't be the name of a contract.",
            hint="A name has 32 lower-case letters, digits and dashes at most, no dash first or last.",
        )
    write_new(folder, {FILE_NAME: _TEMPLATE.format(name=name, file=file)})
    say(f"{file} is written; the next steps are\n")
    say(f"    python3 -m harness contract check {shlex.quote(str(file))}")
    say(f"    pytest suites/test_replies.py --harness-contract {shlex.quote(str(file))}")
    return 0


# -- check ------------------------------------------------------------------------------------------------------------


def _check(file: Path) -> int:
    """Say how a contract is understood."""
    contract = load(file)
    say("\n".join(_understood(contract)))
    return 0


def _understood(contract: Contract) -> Iterator[str]:
    image = contract.image
    yield f"contract {contract.name}: {contract.description or 'without a description'}"
    yield from (f"  image    {line}" for line in _sources(contract))
    if image.command:
        yield f"  runs     {shlex.join(image.command)}"
    for what, names in (
        ("variable", image.environment),
        ("volume", [f"{volume.name} at {volume.path}" for volume in image.volumes]),
        ("tmpfs", [mount.path for mount in image.tmpfs]),
        ("secret", [secret.name for secret in image.secrets]),
        ("option", image.options.arguments),
    ):
        yield from (f"  {what:8} {name}" for name in names)
    yield f"  network  {image.podman_network}; ready by {image.ready}"
    if image.backend:
        yield f"  backend  listens by itself at {image.backend.path or f'port {image.backend.port}'}"
    handed = zip(*(item.sockets for item in contract.selections), strict=True)
    for number, tables in enumerate(handed, FIRST_DESCRIPTOR):
        yield f"  socket   {number}: {_socket(tables[0], probed=any(table.probed for table in tables))}"
    for selected in contract.selections:
        for transport in selected.transports:
            yield f"  probe    {selected.label(transport)}: {_asked(selected.probe(transport))}"
    for key, text in image.texts.items():
        yield from (f"  note     {key}: {word} means nothing, and stays as it is" for word in unknown(text))
    limits = contract.limits
    first = "" if limits.first_s is None else f"first {limits.first_s:g} s, "
    yield f"  limits   {first}cold {limits.cold_s:g} s, warm {limits.warm_s:g} s, stop {limits.stop_s:g} s"
    budgets = {"cold": contract.budgets.cold_ms, "warm": contract.budgets.warm_ms}
    if told := ", ".join(f"{name} {budget:g} ms" for name, budget in budgets.items() if budget is not None):
        yield f"  budgets  {told}"
    for name, activation in activations_for(contract, activations()).items():
        yield f"  by       {name}: {activation.refusal(contract) or 'can be tested'}"


def _sources(contract: Contract) -> Iterator[str]:
    """Yield where the image comes from; raise ImageError where no base has a Containerfile."""
    if contract.image.reference:
        yield contract.image.reference
        return
    lacking: list[ImageError] = []
    for base in Base:
        try:
            yield f"on {base}: {image_store.containerfile(contract, base)}"
        except ImageError as error:
            lacking.append(error)
            yield f"on {base}: none"
    if len(lacking) == len(Base):
        raise lacking[0]


def _socket(table: SocketTable, *, probed: bool) -> str:
    listener = table.listener
    parts = [", ".join(table.transports), listener.line]
    parts += [f"FileDescriptorName={listener.name}"] if listener.name else []
    parts += [f"{name}={value}" for name, value in listener.options]
    parts += [] if probed else ["not probed"]
    return "; ".join(parts)


def _asked(probe: Probe) -> str:
    match probe:
        case Sends():
            whole = probe.expected
            expected = f"what matches '{probe.pattern}'" if whole is None else repr(whole.decode())
            sent = f"send {probe.send!r}" if probe.send else "send nothing"
            return f"{sent}{', half-close' if probe.half_close else ''}, expect {expected}"
        case HttpProbe():
            wanted = [f"status {' or '.join(map(str, probe.status))}"]
            wanted += [f"header {name} matching '{pattern}'" for name, pattern in probe.header.items()]
            return f"get {probe.path}, expect {', '.join([*wanted, *_text(probe.contains, probe.pattern)])}"
        case ConnectProbe():
            return "connect, expect to be accepted"
        case ExecProbe():
            wanted = [f"exit status {' or '.join(map(str, probe.status))}", *_text(probe.contains, probe.pattern)]
            return f"run {shlex.join(probe.command)}, expect {', '.join(wanted)}"
        case _:
            return str(probe)


def _text(contains: str | None, pattern: str | None) -> list[str]:
    found = [f"a text with {contains!r}"] if contains is not None else []
    return [*found, f"a text matching '{pattern}'"] if pattern is not None else found


# -- explain ----------------------------------------------------------------------------------------------------------


def _explain(file: Path) -> int:
    """Print what each activation would write or run, and the clients' command lines."""
    contract = load(file)
    say("# As in a session of root's; an ordinary user's has another home folder, and ports that are free.")
    say("\n".join(_explained(contract, account.throwaway().home)))
    return 0


def _explained(contract: Contract, home: str) -> Iterator[str]:
    workload = preview_workload(contract, contract.image.reference or f"localhost/harness/{contract.name}", home)
    for name, activation in activations_for(contract, activations()).items():
        yield f"\n## activation {name}"
        if refusal := activation.refusal(contract):
            yield f"skipped: {refusal}"
            continue
        for title, text in activation.preview(workload).items() or {"nothing is known before it runs": ""}.items():
            yield f"\n# {title}\n{text.rstrip()}"
    yield "\n## clients"
    for selected in contract.selections:
        endpoints = workload.asked(selected).endpoints
        for transport in selected.transports:
            typed = _typed(endpoints[transport], selected.probe(transport))
            yield f"\n# {selected.label(transport)}\n{typed}"


def _typed(endpoint: Endpoint, probe: Probe) -> str:
    line = shlex.join(probes.command(endpoint, probe)) or "(nothing that a person could type)"
    sent = probe.send if isinstance(probe, Sends) else probe.stdin if isinstance(probe, ExecProbe) else ""
    return f"printf %s {shlex.quote(sent)} | {line}" if sent else line


# -- from -------------------------------------------------------------------------------------------------------------


def _from(options: argparse.Namespace) -> int:
    """Print the contract of unit files; systemd loads them in a session, and starts none."""
    if not options.path.is_dir():
        raise UsageError(f"'{options.path}' is no folder.", hint="Name a folder with unit files.")
    folder = units.read(options.path, options.instance)
    with Runtime(Settings(), progress.to_stderr) as runtime, shipped.loaded(runtime.session(), folder) as listening:
        say(from_units.text(folder, listening).rstrip())
    return 0
