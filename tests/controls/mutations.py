"""A pytest plugin that breaks what no image can: `-p tests.controls.mutations` and one of its options.

--sabotage HOW      a part of the harness or a command of the suites
--rewrite OLD NEW   what tests write into sessions
--spoil-unit JSON   a unit of the session: [path below the user's units, text]
--spoil-text JSON   a constant of the suite: [name, what to replace, by what]
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from testinfra.backend.base import CommandResult

from harness.activation import generate, unit, units
from harness.probes import Reply, native
from harness.session.session import Session
from harness.session.testinfra import SessionBackend

if TYPE_CHECKING:
    from harness.activation.service import Service
    from harness.plugin.parametrize import Case

#: A client nobody expects comes before the test's own.
EARLY_CLIENT = "early-client"

#: The suite's drop-ins are never written.
NO_DROP_INS = "no-drop-ins"

#: A small queue for clients that wait.
SMALL_BACKLOG = "small-backlog"

#: Each client of the harness's own leaves a descriptor now and then.
LEAKING_CLIENTS = "leaking-clients"

#: Each of them keeps more memory than it needs.
GROWING_CLIENTS = "growing-clients"

#: How the hand-written unit and the generated one are spoilt: a text in them, and what stands there instead.
TEXTS = {
    # The container itself says READY=1, which it does not.
    "never-ready": ("--sdnotify=conmon", "--sdnotify=container"),
    "without-requires": ("Requires=echo.socket\n", ""),
    "generated-requires": ("[Service]\n", "Requires=echo.socket\n[Service]\n"),
    "generated-without-restart": ("Restart=on-failure\n", ""),
    "restarts": ("[Service]\n", "[Service]\nRestart=always\n"),
    "no-start-limit": ("[Service]\n", "StartLimitBurst=0\n[Service]\n"),
    "starts-nothing": (
        "Type=notify\nNotifyAccess=all\nExecStart=",
        "Type=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true ",
    ),
    "leaves-container": ("ExecStop", "KillMode=none\n#"),
}

#: How the administrator's commands are spoilt, in the same way.
COMMANDS = {
    "reload-restarts": ("daemon-reload", "restart echo.service"),
    "no-podman-restart": ("podman restart", "echo"),
    "no-kill": ("podman kill", "echo"),
    "no-unlinking": ("rm /", "ls /"),
    "no-socket-restart": ("restart echo.socket", "is-active echo.socket"),
    "no-socket-start": ("start echo.socket", "show echo.socket"),
    "no-reset": ("systemctl --user reset-failed", "systemctl --user is-failed"),
    "no-build": ("podman build", "echo"),
    "no-stop": ("systemctl --user stop echo.service", "true"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--rewrite", nargs=2, action="append", default=[], metavar=("OLD", "NEW"))
    parser.addoption("--spoil-unit", type=json.loads, help="[path below the user's unit folder, text]")
    parser.addoption("--spoil-text", type=json.loads, help="[constant of the suite, what to replace, by what]")
    others = (EARLY_CLIENT, NO_DROP_INS, SMALL_BACKLOG, LEAKING_CLIENTS, GROWING_CLIENTS)
    parser.addoption("--sabotage", choices=(*TEXTS, *COMMANDS, *others))


def pytest_configure(config: pytest.Config) -> None:
    """Break what the options say."""
    if pairs := config.getoption("--rewrite"):
        _rewrite_files(pairs)
    how = config.getoption("--sabotage")
    if how in TEXTS:
        for way in (unit.ACTIVATION, generate.ACTIVATION):
            way._service_files = _spoilt(way._service_files, *TEXTS[how])
    elif how in COMMANDS:
        _spoil_commands(*COMMANDS[how])
    elif how == NO_DROP_INS:
        _spoil_drop_ins()
    elif how == SMALL_BACKLOG:
        texts = units.socket_texts
        units.socket_texts = lambda workload: {
            name: text.replace("[Socket]\n", "[Socket]\nBacklog=1\n") for name, text in texts(workload).items()
        }
    elif how == LEAKING_CLIENTS:
        _spoil_clients(lambda left: left.append(socket.socket()) if len(left) < 20 else None)
    elif how == GROWING_CLIENTS:
        _spoil_clients(lambda left: left.append(b"x" * 8192))


def _spoilt(files: units.ServiceFiles, old: str, new: str) -> units.ServiceFiles:
    return lambda session, workload: {name: text.replace(old, new) for name, text in files(session, workload).items()}


def _spoil_commands(old: str, new: str) -> None:
    run = SessionBackend.run

    def spoilt(self: SessionBackend, command: str, *args: str, **options: Any) -> CommandResult:
        return run(self, command.replace(old, new), *args, **options)

    SessionBackend.run = spoilt  # type: ignore[method-assign]


def _rewrite_files(pairs: list[tuple[str, str]]) -> None:
    write = Session.write

    def spoilt(self: Session, path: str, text: str) -> None:
        for old, new in pairs:
            text = text.replace(old, new)
        write(self, path, text)

    Session.write = spoilt  # type: ignore[method-assign]


def _spoil_drop_ins() -> None:
    write = Session.write

    def spoilt(self: Session, path: str, text: str) -> None:
        write(self, path, "" if path.endswith(".d/50-suite.conf") else text)

    Session.write = spoilt  # type: ignore[method-assign]


def _spoil_clients(leave: Callable[[list[object]], None]) -> None:
    ask, left = native.ask, list[object]()

    def spoilt(session: Session, *rest: Any, **options: Any) -> Reply:
        leave(left)
        return ask(session, *rest, **options)

    native.ask = spoilt


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Send the early client."""
    if item.config.getoption("--sabotage") == EARLY_CLIENT:
        arguments: dict[str, object] = getattr(item, "funcargs", {})
        service: Service = arguments["harness_service"]  # type: ignore[assignment]
        case: Case = arguments["harness_case"]  # type: ignore[assignment]
        service.ask(case.transport)


@pytest.fixture(autouse=True)
def spoilt_unit(request: pytest.FixtureRequest) -> None:
    """Write the unit file."""
    if spoilt := request.config.getoption("--spoil-unit"):
        path, text = spoilt
        session: Session = request.getfixturevalue("harness_session")
        session.write(f"{session.paths.units}/{path}", text)
        session.manager.reload()


@pytest.fixture(autouse=True)
def spoilt_text(request: pytest.FixtureRequest) -> None:
    """Change the constant."""
    if spoilt := request.config.getoption("--spoil-text"):
        name, old, new = spoilt
        suite: ModuleType = request.module
        text = getattr(suite, name)
        assert old in text, f"{name} has no {old!r}"
        setattr(suite, name, text.replace(old, new))
