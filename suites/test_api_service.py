"""The tutorial's first half, step by step: socket activation of the API service, by the units that Podman ships."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from testinfra.host import Host

from harness import Blame, Capabilities, Deadline, Image, Runtime, Session, WaitTimeout, wait_until

T = TypeVar("T")

#: Makes a client of the Docker SDK for Python, which `with` closes.
Connect = Callable[[], contextlib.AbstractContextManager[Any]]

#: How long one reply may take, in seconds; the service has to start for the first.
REPLY_S = 15

#: How long after its last client the service may still be there, in seconds; by itself it waits for five.
IDLE_S = 20

#: How long one run of docker-compose may take, in seconds; version 1 is slow to start.
COMPOSE_S = 120

#: What the tutorial shows of podman.socket.
SOCKET_UNIT = """\
[Socket]
ListenStream=%t/podman/podman.sock
SocketMode=0660
"""

#: The property that is another at each start, see org.freedesktop.systemd1(5).
START_ID = "InvocationID"

#: The container that the clients make.
NAME = "api-echo"

#: Clients of the API read what a container prints; with the session's own log driver, passthrough, nothing is kept.
LOGGING = "json-file"

#: What a container runs that prints something and ends.
GREETER = "print('hello')"

#: What one runs that stays: the image's own echo server on a Unix socket, which it gets as from systemd.
SERVER = """\
import os, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("/srv/draft")
listener.listen()
os.rename("/srv/draft", "/srv/echo.sock")
os.set_inheritable(listener.fileno(), True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
print("listening", flush=True)
os.execv("/usr/bin/python3", ["python3", "-I", "-S", "-B", "/usr/local/lib/echo.py"])
"""

#: The project of docker-compose; JSON is YAML, too. As root of the container it is the session's account.
PROJECT = """\
services:
  echo:
    container_name: {name}
    image: {image}
    command: {command}
    user: "0"
    network_mode: none
    volumes: ["{folder}:/srv:z"]
    logging: {{driver: {logging}}}
"""


@dataclass(frozen=True, slots=True)
class Api:
    """The API socket, and the ways to look at the service behind it."""

    session: Session
    host: Host
    #: Factor for the time limits.
    scale: float

    @property
    def path(self) -> str:
        """The tutorial's `$XDG_RUNTIME_DIR/podman/podman.sock`, as the session sees it."""
        return f"{self.session.paths.runtime}/podman/podman.sock"

    @property
    def folder(self) -> str:
        """A folder of the session's that the container gets as /srv."""
        return f"{self.session.paths.home}/project"

    def ping(self) -> tuple[Mapping[str, str], str]:
        """Be a client with `curl`; return the headers of the reply, their names in small letters, and its body."""
        limit_s = REPLY_S * self.scale
        url = "--unix-socket $XDG_RUNTIME_DIR/podman/podman.sock http://localhost/_ping"
        done = self.host.run(f"curl --silent --show-error --include --max-time {limit_s:g} {url}")
        assert done.succeeded, f"The API service did not answer: {done.stderr}{self.seen}"
        head, _, body = done.stdout.partition("\r\n\r\n")
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in head.splitlines())}, body

    def echo(self) -> str:
        """Say hello to the container; return what it says, and why it says nothing."""
        done = self.host.run(f"echo hello | socat -t {REPLY_S} - unix:$HOME/project/echo.sock")
        return f"{done.stdout}{done.stderr}"

    def state(self, unit: str) -> str:
        """Return the ActiveState of a unit."""
        return self.session.manager.state(unit)["ActiveState"]

    @property
    def start(self) -> object:
        """What tells this start of the service from any other."""
        return self.session.manager.properties("podman.service")[START_ID]

    def wait_active(self) -> None:
        """Wait until systemd, too, knows that the service has started."""
        self._wait(lambda: self.state("podman.service"), "active".__eq__, REPLY_S, "podman.service to be active")

    def wait_stopped(self) -> None:
        """Wait until the service has stopped by itself, and see that it did so as it should."""
        stopped = ("inactive", "failed")
        state = self._wait(
            lambda: self.state("podman.service"), stopped.__contains__, IDLE_S, "podman.service to stop by itself"
        )
        assert state == "inactive", f"podman.service did not stop as it should.{self.seen}"

    def wait_echo(self) -> None:
        """Wait until the container listens: the socket then has its name. Nobody connects to find out."""
        socket = self.session.outside(f"{self.folder}/echo.sock")
        self._wait(socket.exists, bool, REPLY_S, f"the container '{NAME}' to listen")

    def _wait(self, look: Callable[[], T], accept: Callable[[T], bool], limit_s: float, awaited: str) -> T:
        """Wait as `wait_until` does; when nothing comes, it is Podman or systemd that is to blame."""
        try:
            return wait_until(look, accept, Deadline.after(limit_s * self.scale), awaited)
        except WaitTimeout as error:
            error.blame = Blame.MACHINE
            error.evidence["units"] = self.seen
            raise

    @property
    def seen(self) -> str:
        """What the units say, for those who read why a test failed."""
        units = ("podman.socket", "podman.service")
        states = "".join(f"\n{unit}: {self.session.manager.state(unit)}" for unit in units)
        return f"{states}\n{self.session.output('podman.service')}"


@pytest.fixture
def api(harness_session: Session, harness_host: Host, harness_runtime: Runtime) -> Iterator[Api]:
    """`systemctl --user start podman.socket`; the socket, its service and what clients made are taken away again."""
    opened = Api(harness_session, harness_host, harness_runtime.settings.timeout_scale)
    harness_session.capture("podman.service")
    try:
        harness_host.check_output("mkdir ~/project")
        harness_host.check_output("systemctl --user start podman.socket")
        yield opened
    finally:
        if not harness_session.kept:
            harness_host.run("systemctl --user stop podman.socket podman.service")
            harness_host.run(f"podman rm --force --ignore --time 0 {NAME}")
            # systemd leaves the socket's file, see RemoveOnStop= of systemd.socket(5).
            harness_host.run("rm -rf ~/project $XDG_RUNTIME_DIR/podman")
            harness_host.run("systemctl --user reset-failed")


@pytest.fixture
def compose(api: Api, harness_capabilities: Capabilities) -> Callable[[str], str]:
    """Run docker-compose as the tutorial does; return what it says, which pytest shows when a test fails."""
    # Fedora has docker-compose as a plugin only, which runs by itself but is in no folder of PATH.
    program = harness_capabilities.get("docker_compose").detail

    def run(arguments: str) -> str:
        line = f"export DOCKER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock && {program} {arguments}"
        shell = ["/bin/sh", "-c", f"cd ~/project && {line} 2>&1"]
        done = api.session.run(shell, timeout_s=COMPOSE_S * api.scale, check=False)
        print(f"$ docker-compose {arguments}\n{done.text}")  # noqa: T201 - for who reads the report
        assert done.status == 0, f"docker-compose {arguments} ended with status {done.status}:\n{done.text}"
        return done.text

    return run


@pytest.fixture
def project(api: Api, echo_image: Image) -> Callable[..., None]:
    """Write a project with one service, whose container runs the given command."""

    def write(*command: str) -> None:
        text = PROJECT.format(
            name=NAME,
            image=echo_image.reference,
            command=json.dumps(command),
            folder=api.folder,
            logging=LOGGING,
        )
        api.session.write(f"{api.folder}/docker-compose.yml", text)

    return write


@pytest.fixture
def client(api: Api) -> Connect:
    """Connect with the Docker SDK for Python, which runs in this very process, outside of the session."""
    import docker

    base_url = f"unix://{api.session.outside(api.path)}"
    return lambda: contextlib.closing(docker.DockerClient(base_url=base_url, timeout=REPLY_S * api.scale))


@pytest.mark.harness_verifies(
    "podman.socket, which Podman ships, is a Unix socket below XDG_RUNTIME_DIR with the mode 0660."
)
def test_the_socket_is_the_tutorials(harness_session: Session, harness_host: Host, api: Api) -> None:
    """`ls $XDG_RUNTIME_DIR/podman/podman.sock` shows the socket; its mode is what the unit says."""
    unit = harness_host.check_output("systemctl --user cat podman.socket")
    assert SOCKET_UNIT in unit, f"podman.socket is not the tutorial's:\n{unit}"
    shown = harness_host.run("ls $XDG_RUNTIME_DIR/podman/podman.sock")
    assert shown.stdout == f"{api.path}\n", f"The socket is not where the tutorial has it: {shown.stderr}{api.seen}"
    found = harness_host.check_output("stat --format='%F %#a %U' $XDG_RUNTIME_DIR/podman/podman.sock")
    promised = f"socket 0660 {harness_session.account.name}"
    assert found == promised, f"What is there is '{found}' and not, as the unit promises, '{promised}'."


@pytest.mark.harness_verifies("The first client of podman.socket starts podman.service, which inherits the socket.")
def test_the_first_client_starts_the_service(api: Api) -> None:
    """Before the first client the service is inactive; the client is answered, and then the service is active."""
    assert api.state("podman.service") == "inactive", f"podman.service was awake before its first client.{api.seen}"
    headers, body = api.ping()
    assert body == "OK", f"The ping was answered by {body!r}.{api.seen}"
    assert {"api-version", "libpod-api-version"} <= headers.keys(), f"The versions are not in {headers}."
    api.wait_active()


@pytest.mark.harness_verifies("docker-compose works with the socket of the API service in DOCKER_HOST.")
@pytest.mark.harness_requires("docker_compose")
def test_docker_compose_up(project: Callable[..., None], compose: Callable[[str], str]) -> None:
    """`docker-compose up` shows what the container prints, and ends with it."""
    project("python3", "-c", GREETER)
    shown = compose("up --no-color")
    assert f"{NAME} | hello\n" in single_spaced(shown), f"docker-compose up lacks what the container printed:\n{shown}"


@pytest.mark.harness_verifies("docker-compose works with the socket of the API service in DOCKER_HOST.")
@pytest.mark.harness_requires("docker_compose")
def test_docker_compose_in_the_background(
    api: Api, project: Callable[..., None], compose: Callable[[str], str]
) -> None:
    """`docker-compose up --detach`; then the container answers, ps and logs tell of it, and down takes it away."""
    project("python3", "-c", SERVER)
    compose("up --detach")
    api.wait_echo()
    said = api.echo()
    assert said == "hello\n", f"The container did not answer: {said}"
    listed = compose("ps")
    assert re.search(rf"^{NAME} .* Up ", listed, re.MULTILINE), f"docker-compose ps shows no '{NAME}' up:\n{listed}"
    logged = compose("logs --no-color")
    assert f"{NAME} | listening\n" in single_spaced(logged), f"The logs lack what the container printed:\n{logged}"
    compose("down")
    left = api.host.check_output("podman ps --all --format '{{.Names}}'")
    assert left == "", f"docker-compose down has left: {left}"


@pytest.mark.harness_requires("docker_sdk")
def test_another_client(client: Connect, echo_image: Image) -> None:
    """The Docker SDK for Python runs a container, and is told what it printed."""
    with client() as docker:
        made = docker.containers.create(
            echo_image.reference,
            ["python3", "-c", GREETER],
            name=NAME,
            network_mode="none",
            log_config={"type": LOGGING},
        )
        made.start()
        made.wait()
        logged = made.logs()
    assert logged == b"hello\n", f"The container has printed {logged!r}."


@pytest.mark.harness_verifies(
    "podman.service stops after some time of inactivity, and the next client starts it again."
)
def test_the_service_stops_when_idle_and_starts_again(api: Api) -> None:
    """Some seconds after its last client the service has stopped, and the socket listens; the next client starts it."""
    api.ping()
    api.wait_active()
    first = api.start
    api.wait_stopped()
    api.ping()
    api.wait_active()
    assert api.start != first, "The next client was answered by the service of before."


@pytest.mark.harness_requires("docker_sdk")
def test_a_container_outlives_the_service(api: Api, client: Connect, echo_image: Image) -> None:
    """What a client has started runs on and answers when the service has stopped, and the next client finds it."""
    with client() as docker:
        docker.containers.create(
            echo_image.reference,
            ["python3", "-c", SERVER],
            name=NAME,
            user="0",
            network_mode="none",
            volumes={api.folder: {"bind": "/srv", "mode": "z"}},
            log_config={"type": LOGGING},
        ).start()
    api.wait_echo()
    api.wait_stopped()
    said = api.echo()
    assert said == "hello\n", f"The container does not answer any more, now that podman.service has stopped: {said}"
    with client() as docker:
        found = [(container.name, container.status) for container in docker.containers.list(all=True)]
    assert found == [(NAME, "running")], f"The next client does not find the container '{NAME}'."


def single_spaced(text: str) -> str:
    """Return `text` with one space for several: versions of docker-compose align their columns differently."""
    return re.sub(" +", " ", text)
