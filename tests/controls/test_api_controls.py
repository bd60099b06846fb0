"""Negative controls of suites/test_api_service.py: units, containers and clients that spoil one thing each.

Every assertion and every wait of that file is met by one control, and the text says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.images.store import Image
from harness.runtime.runtime import Runtime
from tests.helpers.controls import NEVER_WAS, assert_has
from tests.helpers.runs import RED, run_pytest

SUITE = "suites/test_api_service.py"

#: A scale of time for what waits in vain.
IMPATIENT = "--harness-timeout-scale=0.25"

ACTIVE = "'ActiveState': 'active'"
FAILED = "'ActiveState': 'failed'"


@dataclass(frozen=True, slots=True)
class Control:
    """One test of the suite, what spoils it, and what a stranger then reads."""

    test: str
    #: Regular expressions for the text of the failure, in the order in which they have to match.
    words: tuple[str, ...]
    #: More arguments for pytest.
    arguments: tuple[str, ...]

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """What the test needs, so does its control."""
        needs = {
            "test_docker_compose_up": "docker_compose",
            "test_docker_compose_in_the_background": "docker_compose",
            "test_another_client": "docker_sdk",
            "test_a_container_outlives_the_service": "docker_sdk",
        }
        return [pytest.mark.harness_requires(needs[self.test])] if self.test in needs else []


def unit(path: str, *lines: str) -> tuple[str, ...]:
    """Return the arguments that put a unit file or a drop-in into the session."""
    return ("--spoil-unit=" + json.dumps([path, "\n".join((*lines, ""))]),)


def service(*lines: str) -> tuple[str, ...]:
    """Return the arguments for a drop-in of the service."""
    return unit("podman.service.d/spoil.conf", "[Service]", *lines)


def program(line: str, *lines: str) -> tuple[str, ...]:
    """Return the arguments that give the service another program."""
    return service("ExecStart=", f"ExecStart={line}", *lines)


def text(name: str, old: str, new: str) -> tuple[str, ...]:
    """Return the arguments that change a constant of the suite."""
    return ("--spoil-text=" + json.dumps([name, old, new]),)


def replies(reply: str) -> tuple[str, ...]:
    """Return the arguments that make the service one that says this to its client, and ends."""
    talk = f"c.recv(9999); c.sendall(bytes.fromhex('{reply.encode().hex()}'))"
    return program(f'/usr/bin/python3 -c "import socket; c = socket.socket(fileno=3).accept()[0]; {talk}"')


CONTROLS = {
    # -- the socket ----------------------------------------------------------------------------------------------------
    "the socket is only for its owner": Control(
        "test_the_socket_is_the_tutorials",
        (r"What is there is 'socket 0600 \w+' and not, as the unit promises, 'socket 0660 \w+'\.",),
        unit("podman.socket.d/spoil.conf", "[Socket]", "SocketMode=0600"),
    ),
    "the socket is somewhere else": Control(
        "test_the_socket_is_the_tutorials",
        (
            r"The socket is not where the tutorial has it: ls: cannot access '.*/podman/podman\.sock'",
            rf"podman\.socket: .*{ACTIVE}",
        ),
        unit("podman.socket.d/spoil.conf", "[Socket]", "ListenStream=", "ListenStream=%t/elsewhere.sock"),
    ),
    "the unit is another one": Control(
        "test_the_socket_is_the_tutorials",
        (r"podman\.socket is not the tutorial's:", r"ListenStream=/%t/podman/podman\.sock"),
        unit("podman.socket", "[Socket]", "ListenStream=/%t/podman/podman.sock", "SocketMode=0660"),
    ),
    # -- the first client ----------------------------------------------------------------------------------------------
    "the service wakes before its first client": Control(
        "test_the_first_client_starts_the_service",
        (r"podman\.service was awake before its first client\.", rf"podman\.service: .*{ACTIVE}"),
        unit("podman.socket.d/spoil.conf", "[Unit]", "Wants=podman.service"),
    ),
    "the service ends at once": Control(
        "test_the_first_client_starts_the_service",
        (
            r"The API service did not answer: curl: \(\d+\)",
            rf"podman\.socket: .*{FAILED}.*'trigger-limit-hit'",
            rf"podman\.service: .*{FAILED}.*'exit-code'",
        ),
        program("/bin/false"),
    ),
    "the service does not answer": Control(
        "test_the_first_client_starts_the_service",
        (r"The API service did not answer: curl: \(28\) .*timed out", rf"podman\.service: .*{ACTIVE}"),
        (*program("/bin/sleep 60"), IMPATIENT),
    ),
    "the service says something else": Control(
        "test_the_first_client_starts_the_service",
        (r"The ping was answered by 'no'\.",),
        replies("HTTP/1.0 200 OK\r\n\r\nno"),
    ),
    "the service is not Podman's": Control(
        "test_the_first_client_starts_the_service",
        (r"The versions are not in \{.*'server': 'another'",),
        replies("HTTP/1.0 200 OK\r\nServer: another\r\n\r\nOK"),
    ),
    "the service is never active": Control(
        "test_the_first_client_starts_the_service",
        (
            r"Waited \d+\.\d s for podman\.service to be active; the last thing seen was 'activating'\.",
            r"podman\.service: .*'activating'",
        ),
        (*service("Type=oneshot"), IMPATIENT),
    ),
    # -- docker-compose ------------------------------------------------------------------------------------------------
    "the image is missing": Control(
        "test_docker_compose_up",
        (r"docker-compose up --no-color ended with status 1:", rf"[nN]o such image.*{NEVER_WAS}"),
        text("PROJECT", "{image}", NEVER_WAS),
    ),
    "up shows no output": Control(
        "test_docker_compose_up",
        (r"docker-compose up lacks what the container printed:", r"api-echo +\| bye"),
        text("GREETER", "hello", "bye"),
    ),
    "the container does not listen": Control(
        "test_docker_compose_in_the_background",
        (r"Waited \d+\.\d s for the container 'api-echo' to listen", rf"podman\.service: .*{ACTIVE}"),
        (*text("SERVER", "os.rename", "print"), IMPATIENT),
    ),
    "the container does not answer": Control(
        "test_docker_compose_in_the_background",
        (r"The container did not answer: .*Connection refused",),
        text("SERVER", "print(", "raise SystemExit("),
    ),
    "the container ends after its first client": Control(
        "test_docker_compose_in_the_background",
        (r"docker-compose ps shows no 'api-echo' up:",),
        text("SERVER", "os.execv", "c, _ = listener.accept(); c.sendall(c.recv(9)); raise SystemExit #"),
    ),
    "the container prints nothing": Control(
        "test_docker_compose_in_the_background",
        (r"The logs lack what the container printed:",),
        text("SERVER", "listening", ""),
    ),
    "down leaves a container": Control(
        "test_docker_compose_in_the_background",
        (r"docker-compose down has left: stranger",),
        service("ExecStartPost=podman create --name stranger ECHO_IMAGE"),
    ),
    # -- the other client ----------------------------------------------------------------------------------------------
    "the other client sees another output": Control(
        "test_another_client",
        (r"The container has printed b'bye\\n'\.",),
        text("GREETER", "hello", "bye"),
    ),
    "nothing keeps what the container prints": Control(
        "test_another_client",
        (r"this container is using the 'passthrough' log driver, cannot read logs",),
        text("LOGGING", "json-file", "passthrough"),
    ),
    # -- the end -------------------------------------------------------------------------------------------------------
    "the service never stops": Control(
        "test_the_service_stops_when_idle_and_starts_again",
        (r"Waited \d+\.\d s for podman\.service to stop by itself; the last thing seen was 'active'", ACTIVE),
        (*program("podman system service --time=0"), IMPATIENT),
    ),
    "the service fails when it stops": Control(
        "test_the_service_stops_when_idle_and_starts_again",
        (r"podman\.service did not stop as it should\.", rf"podman\.service: .*{FAILED}.*'exit-code'"),
        service("ExecStopPost=/bin/false"),
    ),
    "the service starts only once": Control(
        "test_the_service_stops_when_idle_and_starts_again",
        (r"The API service did not answer: curl: \(\d+\)", rf"podman\.socket: .*{FAILED}"),
        service("ExecStartPre=/bin/mkdir %t/once"),
    ),
    # systemd can't do that; what tells one start from another is taken for what does not.
    "the service is the same as before": Control(
        "test_the_service_stops_when_idle_and_starts_again",
        (r"The next client was answered by the service of before\.",),
        text("START_ID", "InvocationID", "Id"),
    ),
    # KillMode=process matters where conmon stays in the service's cgroup: the cgroup manager systemd moves it out.
    "the container ends with the service": Control(
        "test_a_container_outlives_the_service",
        (r"The container does not answer any more, now that podman\.service has stopped: .*Connection refused",),
        program("podman --cgroup-manager=cgroupfs system service", "KillMode=control-group"),
    ),
    "the next client does not find the container": Control(
        "test_a_container_outlives_the_service",
        (r"The next client does not find the container 'api-echo'\.", r"'stranger'"),
        service("ExecStopPost=podman rename api-echo stranger"),
    ),
}


@pytest.mark.parametrize(
    "control", [pytest.param(control, id=name, marks=control.marks) for name, control in CONTROLS.items()]
)
def test_red_for_its_own_reason(
    control: Control, harness_runtime: Runtime, built: Callable[[str], Image], tmp_path: Path
) -> None:
    """The test is red, and the text says why."""
    image = built("containers/echo")
    run = run_pytest(
        tmp_path,
        f"{SUITE}::{control.test}",
        f"--harness-base={harness_runtime.base}",
        *("-p", "tests.controls.mutations"),
        *(argument.replace("ECHO_IMAGE", image.reference) for argument in control.arguments),
    )
    assert run.outcomes == {control.test: "failed"}, run.output
    assert run.status in RED, run.output
    assert_has(run.texts[control.test], control.words)
