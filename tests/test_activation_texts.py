"""What activations write: units, command lines, arguments quoted so that systemd gives back what went in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.activation import Activation, Workload, activations, launcher, unit
from harness.activation.base import quote
from harness.activation.units import socket_text
from harness.deadline import Deadline
from harness.session.session import Session
from harness.transports import Directive, Endpoint, Listener, Transport

LISTENERS = (
    Listener((Transport.TCP4,), 3000),
    Listener((Transport.UDP4,), 3000),
    Listener((Transport.TCP6,), 3000),
    Listener((Transport.UDP6,), 3000),
    Listener((Transport.UNIX,), path="/home/harness/echo"),
)
WORKLOAD = Workload("echo", "localhost/echo:1", LISTENERS, ("/bin/a b", "100%"), 3.0)


# -- arguments --------------------------------------------------------------------------------------------------------

ARGUMENTS = {
    "plain": "plain-text_1.0:/a=b,c",
    "empty": "",
    "space": "a b  c",
    "only space": "  ",
    "tab": "a\tb",
    "line break": "a\nb\n",
    "double quotes": '"a" "',
    "single quotes": "it's 'a'",
    "backslash": "a\\b\\\\",
    "backslash last": "a\\",
    "backslash and n": "\\n",
    "specifier": "%h %% 100%",
    "variable": "$HOME ${HOME} $$ $",
    "semicolon": ";",
    "semicolon inside": "a ; b",
    "shell": "`id` $(id) & | > #x",
    "hash first": "# no comment",
    "option": "--x=y z",
    "unicode": "é 日本 \U0001f600",
    "escape": "\x1b[0m\x07\x01",
    "carriage return": "a\rb",
    "vertical tab": "a\x0bb\x0cc",
    "all together": "\\\"'%$ \n\t;${x}%n\\x41",
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_systemd_gives_back_what_was_quoted(user_session: Session, kind: str) -> None:
    """A real service prints its arguments, each with a NUL behind it: the very same bytes, in its own place."""
    arguments = ["/usr/bin/printf", r"%s\0", "before", ARGUMENTS[kind], "after"]
    path = f"{user_session.paths.units}/quoted.service"
    line = " ".join(quote(argument) for argument in arguments)
    user_session.write(path, f"[Service]\nType=oneshot\nExecStart={line}\n")
    user_session.capture("quoted.service")
    try:
        user_session.manager.reload()
        user_session.manager.start("quoted.service", Deadline.after(10))
        # As bytes: reading text makes one thing of all line breaks.
        output = user_session.outside(f"{user_session.paths.output}/quoted.service.log").read_bytes()
    finally:
        user_session.remove(path)
        user_session.manager.reset_failed()
        user_session.manager.reload()

    assert output.decode().split("\0")[:-1] == arguments[2:]


@pytest.mark.parametrize("argument", ["a", "/usr/bin/podman", "--name=echo", "a=b:c,d", "é"])
def test_what_is_plain_stays_plain(argument: str) -> None:
    """A unit file is for people to read."""
    assert quote(argument) == argument


# -- units ------------------------------------------------------------------------------------------------------------


def test_the_socket_unit_of_the_tutorial() -> None:
    """One line per socket, in the contract's order, and the section for `systemctl enable`."""
    assert socket_text(WORKLOAD) == (
        "[Unit]\n"
        "Description=echo server\n"
        "\n"
        "[Socket]\n"
        "ListenStream=127.0.0.1:3000\n"
        "ListenDatagram=127.0.0.1:3000\n"
        "ListenStream=[::1]:3000\n"
        "ListenDatagram=[::1]:3000\n"
        "ListenStream=/home/harness/echo\n"
        "\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )


def test_the_service_unit_by_hand(user_session: Session) -> None:
    """Ready when the container runs, arguments quoted, nothing left when it stops."""
    lines = unit.service_text(user_session, WORKLOAD).splitlines()

    assert "Type=notify" in lines
    assert "Requires=echo.socket" in lines
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert start.startswith("ExecStart=/usr/bin/podman run --name=echo ")
    assert start.endswith(' localhost/echo:1 "/bin/a b" 100%%')
    assert {"--rm", "--replace", "--network=none", "--pull=never", "--sdnotify=conmon"} <= set(start.split())


def test_what_podman_is_asked_for() -> None:
    """No network, no pull, gone at its end; options of the activation before the image, its command behind."""
    assert WORKLOAD.podman_run("--detach") == (
        *("/usr/bin/podman", "run", "--name=echo", "--rm", "--replace", "--network=none", "--pull=never"),
        *("--detach", "localhost/echo:1", "/bin/a b", "100%"),
    )


def test_more_options_of_podman() -> None:
    """They stand before the image, wherever podman is run."""
    arguments = replace(WORKLOAD, options=("--init", "--read-only")).podman_run("--detach")
    assert arguments[-6:] == ("--init", "--read-only", "--detach", "localhost/echo:1", "/bin/a b", "100%")


def test_where_clients_find_it() -> None:
    """One endpoint for each transport; a dual-stack socket has two."""
    both = replace(WORKLOAD, listeners=(Listener((Transport.TCP4, Transport.TCP6), 8080),))

    assert list(WORKLOAD.endpoints) == ["tcp4", "udp4", "tcp6", "udp6", "unix"]
    assert both.endpoints == {
        Transport.TCP4: Endpoint(Transport.TCP4, 8080),
        Transport.TCP6: Endpoint(Transport.TCP6, 8080),
    }


# -- the launcher -----------------------------------------------------------------------------------------------------


def test_streams_and_datagrams_get_a_launcher_each() -> None:
    """systemd-socket-activate can't mix them; each part keeps its order and all else of the whole."""
    parts = launcher.split(WORKLOAD)

    assert parts == {
        Directive.STREAM: replace(WORKLOAD, name="echo-stream", listeners=(LISTENERS[0], LISTENERS[2], LISTENERS[4])),
        Directive.DATAGRAM: replace(WORKLOAD, name="echo-datagram", listeners=(LISTENERS[1], LISTENERS[3])),
    }


@pytest.mark.parametrize(
    ("listeners", "kinds"), [((LISTENERS[0],), [Directive.STREAM]), ((LISTENERS[1],), [Directive.DATAGRAM]), ((), [])]
)
def test_no_launcher_without_sockets(listeners: tuple[Listener, ...], kinds: list[Directive]) -> None:
    """A launcher with nothing to listen on would fail."""
    assert list(launcher.split(replace(WORKLOAD, listeners=listeners))) == kinds


def test_the_command_of_a_launcher() -> None:
    """Its own options first, then podman's; only that for datagrams says so."""
    parts = launcher.split(WORKLOAD)
    stream, datagram = (launcher.command(kind, parts[kind]) for kind in (Directive.STREAM, Directive.DATAGRAM))

    assert stream == (
        "/usr/bin/systemd-socket-activate",
        *("--listen=127.0.0.1:3000", "--listen=[::1]:3000", "--listen=/home/harness/echo"),
        "--setenv=XDG_RUNTIME_DIR",
        *parts[Directive.STREAM].podman_run(),
    )
    assert datagram[:3] == ("/usr/bin/systemd-socket-activate", "--datagram", "--listen=127.0.0.1:3000")
    assert "--datagram" not in stream
    assert datagram[-len(parts[Directive.DATAGRAM].podman_run()) :] == parts[Directive.DATAGRAM].podman_run()


# -- the ways ---------------------------------------------------------------------------------------------------------


def test_the_ways_are_found_by_their_modules() -> None:
    """In alphabetical order, each under the name that options use."""
    found = activations()

    assert list(found) == sorted(found)
    assert {"generate", "launcher", "unit"} <= set(found)
    assert all(isinstance(way, Activation) and way.name == name for name, way in found.items())
