"""The `.container` file of a workload: the tutorial's lines, each option by its own key, the rest by PodmanArgs=."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.activation import activations, quadlet
from harness.contract import Handover, Ready, load
from harness.contract.image import OptionsTable
from tests.helpers.runs import REPOSITORY
from tests.helpers.workloads import LISTENERS, WORKLOAD


def test_the_file_of_the_tutorial() -> None:
    """The service needs its socket, has no network and pulls nothing; no [Install], since the socket starts it."""
    assert quadlet.ACTIVATION.preview(replace(WORKLOAD, command=()))["echo.container"] == (
        "[Unit]\n"
        "Description=echo in a container\n"
        "Requires=echo.socket\n"
        "After=echo.socket\n"
        "\n"
        "[Container]\n"
        "Image=localhost/echo:1\n"
        "ContainerName=echo\n"
        "Pull=never\n"
        "Network=none\n"
    )


def test_the_socket_unit_is_that_of_the_other_activations() -> None:
    """Quadlet knows nothing of sockets, so that they are a unit of the user's."""
    assert list(quadlet.ACTIVATION.preview(WORKLOAD)) == ["echo.socket", "echo.container"]
    unit = activations()["unit"].preview(WORKLOAD)
    assert quadlet.ACTIVATION.preview(WORKLOAD)["echo.socket"] == unit["echo.socket"]


#: Podman's option -> the line that says it.
LINES = {
    "--cap-add=CAP_CHOWN": "AddCapability=CAP_CHOWN",
    "--cap-drop=all": "DropCapability=all",
    "--entrypoint=/bin/a": "PodmanArgs=--entrypoint=/bin/a",
    "--entrypoint=": "PodmanArgs=--entrypoint=",
    "--env=A=b c": 'Environment="A=b c"',
    "--env=A=": "Environment=A=",
    "--env=A=100% $x": 'Environment="A=100%% $$x"',
    "--group-add=keep-groups": "PodmanArgs=--group-add=keep-groups",
    "--hostname=teller": "HostName=teller",
    "--init": "RunInit=true",
    "--network=private": "Network=private",
    "--pid=host": "PodmanArgs=--pid=host",
    "--pull=missing": "Pull=missing",
    "--read-only": "ReadOnly=true",
    "--runtime=crun": "PodmanArgs=--runtime=crun",
    "--secret=harness-echo-a,type=env,target=A": "Secret=harness-echo-a,type=env,target=A",
    "--security-opt=label=disable": "SecurityLabelDisable=true",
    "--security-opt=no-new-privileges": "NoNewPrivileges=true",
    "--security-opt=seccomp=x": "PodmanArgs=--security-opt=seccomp=x",
    "--memory=128m": "PodmanArgs=--memory=128m",
    "--pids-limit=64": "PodmanArgs=--pids-limit=64",
    "--shm-size=1m": "ShmSize=1m",
    "--stop-signal=SIGQUIT": "PodmanArgs=--stop-signal=SIGQUIT",
    "--tmpfs=/x:mode=1777,size=64m": "Tmpfs=/x:mode=1777,size=64m",
    "--ulimit=nofile=5:6": "Ulimit=nofile=5:6",
    "--umask=0027": "PodmanArgs=--umask=0027",
    "--user=12:34": "User=12:34",
    "--userns=keep-id": "UserNS=keep-id",
    "--volume=harness-echo-data:/data:ro": "Volume=harness-echo-data:/data:ro",
    "--workdir=/usr": "WorkingDir=/usr",
    # Quadlet takes these values as they stand, and systemd would not.
    "--volume=a b:/x": 'PodmanArgs="--volume=a b:/x"',
    "--tmpfs=/%x": "PodmanArgs=--tmpfs=/%%x",
}


@pytest.mark.parametrize("option", LINES)
def test_an_option_of_podman(option: str) -> None:
    """A key where Quadlet has one, quoted as it parses that."""
    before, after = (quadlet.text(replace(WORKLOAD, options=options)).splitlines() for options in ((), (option,)))
    assert [line for line in after if line not in before] == [LINES[option]]


def test_every_option_of_a_contract_is_among_them() -> None:
    """A new one has to be thought of here."""
    options = {f"--{info.alias or name}" for name, info in OptionsTable.model_fields.items()}
    assert options <= {option.partition("=")[0] for option in LINES}


def test_what_the_container_runs() -> None:
    """Its command, each argument quoted for Quadlet and for systemd behind it; who says that it is ready."""
    said = quadlet.text(replace(WORKLOAD, ready=Ready.CONTAINER, handover=Handover(variable="NGINX", end=";")))
    assert said.endswith('\nEnvironment="NGINX=3:4:5:6:7;"\nNotify=true\nExec="/bin/a b" 100%%\n')


def test_several_socket_units() -> None:
    """The service needs all of them."""
    workload = replace(WORKLOAD, listeners=(LISTENERS[0], replace(LISTENERS[2], name="other")))
    lines = quadlet.text(workload).splitlines()
    assert [line for line in lines if "socket" in line] == [
        "Requires=echo.socket echo-2.socket",
        "After=echo.socket echo-2.socket",
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ready": Ready.EXEC}, "makes no service of Type=exec"),
        ({"command": ("a", "", "b")}, "takes an empty argument in Exec= for the end"),
        ({"command": ("a", ";", "b")}, "writes the argument ';' without the quotes"),
        ({"command": ("a", "b\x80")}, "writes the character U+0080 as a byte"),
        ({"environment": {"A": "\x80"}}, "writes the character U+0080 as a byte"),
        ({"command": ("a", "; b", ";;")}, ""),
    ],
)
def test_what_quadlet_has_no_words_for(changes: dict[str, object], why: str) -> None:
    """It is refused before anything is started: Quadlet itself would start something else without a word."""
    echo = load(REPOSITORY / "containers" / "echo")
    refusal = quadlet.ACTIVATION.refusal(echo.model_copy(update={"image": echo.image.model_copy(update=changes)}))
    assert why in refusal
    assert bool(refusal) is bool(why)
