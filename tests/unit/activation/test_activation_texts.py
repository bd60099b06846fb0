"""What activations write: units, command lines, arguments quoted so that systemd gives back what went in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.activation import Activation, activations, activations_for, generate, launcher, named, proxied, unit
from harness.activation.base import quote
from harness.activation.units import socket_texts, socket_units
from harness.contract import BackendTable, Handover, Ready, load
from harness.core.transports import Directive, Endpoint, Listener, Transport
from tests.helpers.runs import REPOSITORY
from tests.helpers.workloads import LISTENERS, WORKLOAD

# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["a", "/usr/bin/podman", "--name=echo", "a=b:c,d", "é"])
def test_what_is_plain_stays_plain(argument: str) -> None:
    """A unit file is for people to read."""
    assert quote(argument) == argument


# -- units ------------------------------------------------------------------------------------------------------------


def test_the_socket_unit_of_the_tutorial() -> None:
    """One line per socket, in the contract's order, and the section for `systemctl enable`."""
    assert socket_texts(WORKLOAD) == {
        "echo.socket": (
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
    }


def test_sockets_that_differ_are_several_units_of_one_service() -> None:
    """systemd has one name and one set of settings per unit; sockets of the same kind share theirs."""
    control = replace(LISTENERS[4], name="control", options=(("SocketMode", "0600"), ("RemoveOnStop", "yes")))
    workload = replace(WORKLOAD, listeners=(LISTENERS[0], control, LISTENERS[2]))
    texts = socket_texts(workload)

    assert socket_units(workload) == {"echo.socket": (LISTENERS[0], LISTENERS[2]), "echo-2.socket": (control,)}
    assert "Service=" not in texts["echo.socket"]
    assert texts["echo-2.socket"].splitlines()[3:8] == [
        "[Socket]",
        "ListenStream=/home/harness/echo",
        "Service=echo.service",
        "FileDescriptorName=control",
        "SocketMode=0600",
    ]
    lines = unit.text(workload).splitlines()
    for setting in ("Requires", "After"):
        assert f"{setting}=echo.socket echo-2.socket" in lines
    assert generate.generate(WORKLOAD) == ("podman", "generate", "systemd", "--name", "--new", "echo")
    assert {"--requires=echo-2.socket", "--after=echo.socket"} <= set(generate.generate(workload))


@pytest.mark.parametrize(
    ("ready", "kind", "notify"),
    [
        (Ready.CONMON, "notify", "conmon"),
        (Ready.CONTAINER, "notify", "container"),
        (Ready.EXEC, "exec", "ignore"),
    ],
)
def test_who_says_that_it_is_ready(ready: Ready, kind: str, notify: str) -> None:
    """Only with `exec` does podman stay in the foreground: there it is the service's main process."""
    text = unit.text(replace(WORKLOAD, ready=ready))

    assert f"\nType={kind}\n" in text
    assert f" --sdnotify={notify} " in text
    assert (" --detach " in text) is (ready is not Ready.EXEC)


def test_the_descriptors_in_a_variable() -> None:
    """As many numbers as the container gets sockets; each launcher's container has its own."""
    workload = replace(WORKLOAD, handover=Handover(variable="NGINX", end=";"))

    assert "--env=NGINX=3:4:5:6:7;" in workload.podman_run()
    assert "--env=NGINX=3:4:5;" in launcher.split(workload)[Directive.STREAM].podman_run()


def test_names_by_the_launcher() -> None:
    """It names all sockets or none."""
    part = replace(WORKLOAD, listeners=(replace(LISTENERS[0], name="web"), LISTENERS[2]))

    assert "--fdname=web:unknown" in launcher.command(Directive.STREAM, part)
    assert not any("fdname" in argument for argument in launcher.command(Directive.STREAM, WORKLOAD))


def test_what_an_activation_can_not_do() -> None:
    """It says so before anything is started, and names what."""
    whole = load(REPOSITORY / "tests" / "settings")
    late = whole.model_copy(update={"image": whole.image.model_copy(update={"ready": Ready.EXEC})})
    echo = load(REPOSITORY / "containers" / "echo")

    assert "no option for Backlog, NoDelay, SocketMode" in launcher.ACTIVATION.refusal(whole)
    assert "no Type=exec" in generate.ACTIVATION.refusal(late)
    assert generate.ACTIVATION.refusal(whole) == unit.ACTIVATION.refusal(late) == ""
    assert {way.refusal(echo) for way in activations().values()} == {""}


def test_the_service_unit_by_hand() -> None:
    """Ready when the container runs, arguments quoted, nothing left when it stops."""
    lines = unit.text(WORKLOAD).splitlines()

    assert "Type=notify" in lines
    assert "Requires=echo.socket" in lines
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert start.startswith("ExecStart=podman run --name=echo ")
    assert start.endswith(' localhost/echo:1 "/bin/a b" 100%%')
    assert {"--rm", "--replace", "--network=none", "--pull=never", "--sdnotify=conmon"} <= set(start.split())


def test_what_podman_is_asked_for() -> None:
    """No network, no pull, gone at its end; options of the activation before the image, its command behind."""
    assert WORKLOAD.podman_run("--detach") == (
        *("podman", "run", "--name=echo", "--rm", "--replace", "--pull=never", "--network=none"),
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


# -- behind a proxy ---------------------------------------------------------------------------------------------------


def test_the_units_of_a_program_that_takes_no_sockets() -> None:
    """The proxy ends with its container and the other way round, and does not start before the program listens."""
    workload = replace(WORKLOAD, backend=BackendTable(port=80), idle_exit_s=2.5)
    texts = proxied.PROXIED.preview(workload)

    assert list(texts) == ["echo.socket", "echo.service", "echo-backend.service"]
    assert {"BindsTo=echo-backend.service", "After=echo-backend.service"} <= {*texts["echo.service"].splitlines()}
    assert f"ExecStart={proxied.PROXY} --exit-idle-time=2.5s 127.0.0.1:8081\n" in texts["echo.service"]
    assert "StopWhenUnneeded=yes\n" in texts["echo-backend.service"]
    assert "--publish=127.0.0.1:8081:80 " in texts["echo-backend.service"]
    assert '":0050 0*:0000 0A" /proc/$$pid/net/tcp ' in texts["echo-backend.service"]


def test_the_units_of_a_program_at_a_path() -> None:
    """Its folder is the session's, which systemd makes and removes; no port is published, and none is needed."""
    workload = replace(WORKLOAD, backend=BackendTable(path="/run/web/a.sock"))
    texts = proxied.PROXIED.preview(workload)

    assert f"ExecStart={proxied.PROXY} %t/echo-backend/a.sock\n" in texts["echo.service"]
    assert "RuntimeDirectory=echo-backend\n" in texts["echo-backend.service"]
    assert "--volume=%t/echo-backend:/run/web:z " in texts["echo-backend.service"]
    assert '" 00010000 .* /run/web/a[.]sock$$" /proc/$$pid/net/unix' in texts["echo-backend.service"]
    assert "--publish" not in texts["echo-backend.service"]


def test_the_published_port_is_none_of_the_sockets() -> None:
    """The next free one."""
    listeners = tuple(replace(LISTENERS[0], port=port) for port in (8081, 8082))
    texts = proxied.PROXIED.preview(replace(WORKLOAD, listeners=listeners, backend=BackendTable(port=80)))
    assert "127.0.0.1:8083" in texts["echo.service"]


# -- the ways ---------------------------------------------------------------------------------------------------------


def test_the_ways_are_found_by_their_modules() -> None:
    """In alphabetical order, each under the name that options use."""
    found = activations()

    assert list(found) == sorted(found)
    assert {"generate", "launcher", "unit"} <= set(found)
    assert all(isinstance(way, Activation) and way.name == name for name, way in found.items())


def test_a_program_that_takes_no_sockets_has_one_way() -> None:
    """Whatever was chosen for others."""
    found = activations_for(load(REPOSITORY / "tests" / "stranger" / "listens"), activations())
    assert found == {"proxied": named("proxied")}
    assert activations_for(load(REPOSITORY / "containers" / "echo"), activations()) == activations()
