"""Unit files as they are shipped: the examples keep their promises, and what is wrong with a folder is named."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.battery.promises import attempt
from harness.battery.trial import PromiseBroken, Trial
from harness.cli.main import main
from harness.contract import Promise, load
from harness.contract.units import read
from harness.core.deadline import Deadline
from harness.core.errors import CapabilityMissing, HarnessError, ProbeFailed, UnitFailed, UnitsError
from harness.core.transports import Transport
from harness.lint import check
from harness.runtime.runtime import Runtime
from tests.faults.table import FOLDER as FAULTS
from tests.helpers.contracts import BYTES, HEAD, TCP, written
from tests.helpers.runs import REPOSITORY, run_pytest
from tests.helpers.units import every_socket, of, served

EXAMPLES = REPOSITORY / "examples"

#: What the image of the faults runs, up to the name of the fault.
SERVER = "/usr/bin/python3 -I -S -B /usr/local/lib/server.py"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of the example with two socket units, whose image is that of the faults."""
    folder = tmp_path / "shop"
    shutil.copytree(EXAMPLES / "echo-two-sockets", folder, ignore=shutil.ignore_patterns("images"))
    (folder / "images").mkdir()
    (folder / "images" / "my-echo").symlink_to(FAULTS)
    change(folder / "echo.service", "my-echo:1", f"my-echo:1 {SERVER} none")
    return folder


def change(file: Path, old: str, new: str) -> None:
    """Change one file of a folder."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


# -- what is sound ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "instances", "sockets"),
    [
        ("echo-two-sockets", (), {"tcp4@web", "tcp6", "udp4", "tcp4@admin", "unix"}),
        ("template", ("echo@blue", "echo@green"), {"unix@echo-blue.socket", "unix@echo-green.socket", "tcp4"}),
        ("three-unit-proxy", (), {"tcp4", "tcp6"}),
        ("front-and-back", (), {"tcp4", "unix"}),
    ],
)
def test_each_socket_of_an_example_answers(
    name: str, instances: tuple[str, ...], sockets: set[str], harness_runtime: Runtime
) -> None:
    """Wildcard addresses and a port below 1024 as they are, drop-ins and instances where systemd looks for them."""
    found = every_socket(EXAMPLES / name, harness_runtime, *instances)
    assert {label.replace("echo@", "echo-") for label in found} == sockets


@pytest.mark.parametrize("promise", [Promise.EVERY_SOCKET, Promise.CRASH, Promise.IDLE])
def test_a_proxy_in_a_newer_distribution(promise: Promise, harness_runtime: Runtime) -> None:
    """By the network that Podman 5 gives a container, and systemd's proxy of that release."""
    for service in served(EXAMPLES / "three-unit-proxy", harness_runtime.beside("trixie")):
        attempt(promise, Trial(service, Transport.TCP4))


@pytest.mark.parametrize("activation", ["quadlet", "unit"])
def test_what_is_written_of_a_contract_keeps_it(activation: str, harness_runtime: Runtime, tmp_path: Path) -> None:
    """`sah units` over two transports, with the probes of the contract; a Quadlet in Debian 13, a service here."""
    folder, image = tmp_path / "own", "quay.io/example/own:1"
    sockets = TCP + '[[sockets]]\ntransports = ["unix"]\npath = "own_sock"\n'
    file = written(tmp_path / "contract", HEAD.replace("echo", "own") + sockets + BYTES.replace('"a"', '"a\\n"'))
    options = [f"--activation={activation}", f"--image={image}", f"--output={folder}"]
    assert main(["units", str(file), *options]) == 0

    place = harness_runtime.beside("trixie") if activation == "quadlet" else harness_runtime
    settings = replace(place.settings, images={image: place.image("echo").reference})
    given = Runtime(settings, place.progress, place.base, place.store, place.name)
    assert every_socket(folder, given) == {"tcp4", "unix"}


def test_a_folder_makes_a_contract(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`sah contract from`, which asks systemd; the addresses of two units, and the clients of both."""
    assert main(["contract", "from", str(EXAMPLES / "echo-two-sockets")]) == 0
    made = load(written(tmp_path / "x", capfd.readouterr().out))
    assert {one.label(transport) for one in made.selections for transport in one.transports} == {
        *("tcp4@web", "tcp6", "udp4", "tcp4@admin", "unix"),
    }


def test_sockets_are_started_in_any_order(harness_runtime: Runtime) -> None:
    """Twenty times the same would be by chance once in a million; the order is said with whatever is wrong then."""
    seen = set()
    for _again in range(20):
        for service in served(EXAMPLES / "echo-two-sockets", harness_runtime):
            evidence = service.activated.evidence()
            started = re.findall(r"Listening on (\S+\.socket)", evidence["systemd --user"])
            assert ", ".join(started) == evidence["sockets, as they were started"]
            seen.add(tuple(started))
        if len(seen) == 2:
            return
    pytest.fail(f"always in the order of {seen}")


def test_what_is_behind_is_woken_by_what_is_before(tmp_path: Path, harness_runtime: Runtime) -> None:
    """One client wakes both; where the one behind does not answer, its client is told so by the other."""
    folder = tmp_path / "site"
    shutil.copytree(EXAMPLES / "front-and-back", folder)
    for service in served(folder, harness_runtime):
        Trial(service, Transport.TCP4).wake()
        assert {unit: service.activated.state(unit)["ActiveState"] for unit in service.activated.services} == {
            "app.service": "active",
            "web.service": "active",
        }
    change(folder / "app.service", "localhost/my-app", "localhost/my-app /bin/false")
    for service in served(folder, harness_runtime):
        with pytest.raises(PromiseBroken, match=r"expected the HTTP status 200, got 502"):
            Trial(service, Transport.TCP4).wake()


def test_a_quadlet_with_its_configuration_beside_it(harness_runtime: Runtime) -> None:
    """A wildcard address, a variable of nginx's own, and a folder that is mounted."""
    assert every_socket(EXAMPLES / "nginx-quadlet", harness_runtime.beside("trixie")) == {"tcp4"}


def test_a_quadlet_is_generated_where_podman_can(harness_runtime: Runtime) -> None:
    """In Debian 13; where there is no generator, its absence is what is said."""
    sockets = every_socket(EXAMPLES / "tutorial-quadlet", harness_runtime.beside("trixie"))
    assert sockets == {"tcp4", "tcp6", "udp4", "udp6", "unix"}
    if not harness_runtime.capabilities.has("quadlet"):
        with pytest.raises(CapabilityMissing) as caught:
            every_socket(EXAMPLES / "tutorial-quadlet", harness_runtime)
        assert caught.value.capability == "quadlet"


def test_nothing_of_a_folder_is_left(shop: Path, harness_runtime: Runtime) -> None:
    """Neither units nor files nor a container nor the name of the image; the next folder finds its ports free."""
    with of(shop, harness_runtime) as own:
        (contract,) = own.contracts.values()
        own.image(contract)
        session = own.session()
        before = set(session.run(["podman", "images", "--format", "{{.Repository}}"]).text.split())
        for _again in range(2):
            with own.service(contract) as service:
                Trial(service, Transport.UNIX).wake()
        assert session.run(["podman", "ps", "--all", "--quiet"]).text == ""
        assert set(session.run(["podman", "images", "--format", "{{.Repository}}"]).text.split()) == before
        assert not [path.name for path in session.outside(session.paths.units).iterdir() if "web" in path.name]
        assert session.manager.failed_units() == []


@pytest.mark.parametrize(
    "promise", [Promise.SAME_RUN, Promise.NOBODY_ELSE_LISTENS, Promise.CRASH, Promise.IDLE, Promise.STOP]
)
def test_a_proxy_and_its_container_are_one_service(promise: Promise, harness_runtime: Runtime) -> None:
    """The image listens by itself and ends with its proxy, which goes on as long as a client is connected."""
    for service in served(EXAMPLES / "three-unit-proxy", harness_runtime):
        assert service.activated.service_of(Transport.TCP4) == "web.service"
        assert service.activated.starter_of(Transport.TCP4) == "web-backend.service"
        assert service.activated.container_of(Transport.TCP4) == "web"
        attempt(promise, Trial(service, Transport.TCP4))


@pytest.mark.parametrize("rule", ["", "SA017"], ids=lambda rule: rule or "sound")
def test_clients_that_come_while_the_container_stops(rule: str, tmp_path: Path, harness_runtime: Runtime) -> None:
    """Each of them starts the container anew, where systemd allows as many starts as it counts."""
    folder = tmp_path / "proxy"
    shutil.copytree(EXAMPLES / "three-unit-proxy", folder)
    if rule:
        change(folder / "web-backend.service", "StartLimitBurst=20\n", "")
    assert [one.rule for one in check(read(folder))] == [rule] * bool(rule)
    for service in served(folder, harness_runtime):
        service.ask_cold(Transport.TCP4)
        with pytest.raises(ProbeFailed) if rule else contextlib.nullcontext() as caught:
            for _client in range(4):
                service.session.manager.stop("web.service", Deadline.after(5))
                service.ask_cold(Transport.TCP4)
        if caught:
            assert "calls the unit 'web-backend.service' failed for 'start-limit-hit'" in caught.value.sentence


#: Rule of `sah lint` -> a change of the proxy's folder; the first one leaves it sound.
PROXY = {"": ("", ""), "SA015": ("ExecStartPost=", "#ExecStartPost="), "SA016": ("--rm ", "--rm --network=none ")}


@pytest.mark.parametrize("rule", PROXY, ids=lambda rule: rule or "sound")
def test_a_proxy_that_lint_complains_of_loses_its_first_client(
    rule: str, tmp_path: Path, harness_runtime: Runtime
) -> None:
    """A program that takes its time to listen answers, where the unit waits for it and its port can be reached."""
    folder = tmp_path / "proxy"
    shutil.copytree(EXAMPLES / "three-unit-proxy", folder)
    unit = folder / "web-backend.service"
    change(unit, "site:1\n", "site:1 sh -c 'sleep 5; exec nginx -g \"daemon off;\"'\n")
    change(unit, *PROXY[rule])
    assert [one.rule for one in check(read(folder))] == [rule] * bool(rule)
    for service in served(folder, harness_runtime):
        if not rule:
            # By a client that gives up where no reply can come any more.
            Trial(service, Transport.TCP4).wake()
            continue
        with pytest.raises(ProbeFailed, match=r"failed its cold probe .* over tcp4: expected a page, got nothing"):
            service.ask_cold(Transport.TCP4)


def test_a_proxy_that_never_says_it_is_ready(tmp_path: Path, harness_runtime: Runtime) -> None:
    """systemd's own word for the end is told: the client was answered, and the proxy left as idle."""
    folder = tmp_path / "proxy"
    shutil.copytree(EXAMPLES / "three-unit-proxy", folder)
    change(folder / "web.service", "Type=exec", "Type=notify")
    # systemd 252's says nothing by itself.
    change(folder / "web.service", "ExecStart=", "ExecStart=env -u NOTIFY_SOCKET ")
    for service in served(folder, harness_runtime):
        with pytest.raises(PromiseBroken) as caught:
            Trial(service, Transport.TCP4).wake()
        assert "over tcp4, the service did not stay awake: the program ended with status 0" in caught.value.sentence
        assert "and systemd calls the unit 'web.service' failed for 'protocol'" in caught.value.sentence


def test_the_command_line_takes_a_folder(shop: Path, tmp_path: Path) -> None:
    """The suites are for it as for any contract, and no contract of the ini file is there."""
    run = run_pytest(
        tmp_path, "suites/test_replies.py", f"--harness-units={shop}", "--harness-transports=tcp4,unix", "-n0"
    )
    assert run.outcomes == {
        f"{test}[shop-shipped-{socket}]": "passed"
        for test in ("test_reply", "test_reply_again")
        for socket in ("tcp4@web", "tcp4@admin", "unix")
    }, run.output


# -- what is wrong ----------------------------------------------------------------------------------------------------


def second_port_is_dead(folder: Path) -> None:
    change(folder / "echo.service", f"{SERVER} none", f"{SERVER} names-one-unserved")
    change(folder / "probes.toml", 'kind = "echo"', 'kind = "bytes"\nsend = "a"\nexpect = "web: a"')


def listens_by_itself(folder: Path) -> None:
    change(folder / "echo.service", f"{SERVER} none", f"{SERVER} ignores-sockets")


def same_line_twice(folder: Path) -> None:
    (folder / "admin.socket.d").mkdir()
    (folder / "admin.socket.d" / "10-again.conf").write_text(
        "[Socket]\nListenStream=127.0.0.1:9090\n", encoding="utf-8"
    )


def no_service(folder: Path) -> None:
    change(folder / "web.socket", "Service=echo.service\n", "")


def address_of_another_machine(folder: Path) -> None:
    change(folder / "admin.socket", "127.0.0.1:9090", "192.0.2.1:9090")


def no_listen_line(folder: Path) -> None:
    change(folder / "admin.socket", "ListenStream=127.0.0.1:9090\nListenStream=%t/echo-admin.sock\n", "Backlog=5\n")


def accept(folder: Path) -> None:
    change(folder / "admin.socket", "FileDescriptorName=admin\nService=echo.service", "Accept=yes")


def probe_of_no_socket(folder: Path) -> None:
    change(folder / "probes.toml", 'socket = "admin"', 'socket = "metrics"')


def no_such_program(folder: Path) -> None:
    change(folder / "echo.service", "ExecStart=podman run", "ExecStart=/usr/bin/podman-compose run")


def never_idle(folder: Path) -> None:
    change(folder / "echo.service", "[Service]\n", "[Service]\nRestart=always\n")
    change(folder / "probes.toml", "stop_s = 5.0", "stop_s = 5.0\nidle_exit_s = 2")


WRONG: dict[Callable[[Path], None], tuple[type[HarnessError], str]] = {
    second_port_is_dead: (PromiseBroken, r"over tcp4@admin, .*accepts nothing on the socket 'admin' \(tcp4\)"),
    listens_by_itself: (
        PromiseBroken,
        r"ignores its sockets: pid 1 \(python3\) listens on tcp 0\.0\.0\.0:8080 by itself",
    ),
    same_line_twice: (UnitsError, r"admin\.socket: 'ListenStream=127\.0\.0\.1:9090' stands twice, the other time in"),
    no_service: (UnitFailed, r"(?s)'web\.socket' failed.*(web\.service not loaded|Unit web\.service not found)"),
    address_of_another_machine: (UnitFailed, r"(?s)'admin\.socket' failed.*Cannot assign requested address"),
    no_listen_line: (UnitsError, r"(?s)admin\.socket: systemd does not load it.*Listen"),
    accept: (UnitsError, r"admin\.socket: 'Accept=yes' starts an instance of 'admin@\.service' per client, and there"),
    probe_of_no_socket: (
        UnitsError,
        r"probe\[1\]\.socket: no socket is called 'metrics'; known are admin, admin\.2, web",
    ),
    never_idle: (
        UnitsError,
        r"echo\.service: 'Restart=always' starts it again .* 'limits\.idle_exit_s' in",
    ),
    no_such_program: (ProbeFailed, r"(?s)podman-compose"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_with_a_folder_is_named(
    wrong: Callable[[Path], None], shop: Path, harness_runtime: Runtime
) -> None:
    """The control is the same folder without the change, which answers over every socket above."""
    wrong(shop)
    kind, said = WRONG[wrong]
    with pytest.raises(kind) as caught:
        every_socket(shop, harness_runtime)
    assert re.search(said, str(caught.value)), str(caught.value)
