"""The way of an ordinary user: no root, sessions in a scope that the user's own `systemd --user` delegates.

Root makes a session here and plays the login with it: in there is an account with its own `systemd --user`, and as
that account the harness runs once more, sessions in the session.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import INFRASTRUCTURE
from harness.core.process import Completed
from harness.images.store import Image
from harness.runtime.runtime import Runtime
from harness.session import factory
from harness.session.session import Session
from harness.session.spec import Bind
from tests.helpers.runs import REPOSITORY, read_junit
from tests.helpers.sessions import isolated
from tests.helpers.units import of
from tests.hostile.test_hostile import hostile

pytestmark = isolated

#: Longest run inside, in seconds.
LIMIT_S = 280.0

#: Where the login sees what it needs: Python and its packages may lie in a folder that only root can enter.
SOURCE, PACKAGES, PYTHON, RECORDS = (f"/run/harness/{name}" for name in ("source", "packages", "python", "records"))


@contextmanager
def login(runtime: Runtime, folder: Path, **etc: str) -> Iterator[Session]:
    """Open the session that plays the login; `etc` replaces its files below /etc."""
    records = folder / "records"
    shutil.copytree(runtime.store.folder / "images", records)
    records.chmod(0o755)
    binds = [
        Bind(os.fspath(REPOSITORY), SOURCE),
        Bind(sysconfig.get_paths()["purelib"], PACKAGES),
        Bind(sys.base_prefix, PYTHON),
        Bind(os.fspath(records), RECORDS),
    ]
    described = factory._spec(runtime.store.graph, *binds, writing=False)
    with factory._open(replace(described, etc={**described.etc, **etc})) as session:
        cache = f"{session.paths.home}/cache"
        session.run(["mkdir", "-p", cache])
        session.run(["cp", "-r", RECORDS, f"{cache}/images"])
        session.run(["ln", "-s", factory.STORE, f"{cache}/store"])
        yield session


def python(session: Session, *arguments: str) -> list[str]:
    """Return the command that runs Python inside, in a unit of its own as a terminal's shell would be."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    variables = {
        "HARNESS_CACHE": f"{session.paths.home}/cache",
        "LD_LIBRARY_PATH": f"{PYTHON}/lib",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{SOURCE}:{PACKAGES}",
    }
    options = [f"--setenv={name}={value}" for name, value in variables.items()]
    unit = ["systemd-run", "--user", "--quiet", "--collect", f"--working-directory={SOURCE}", *options]
    return [*unit, *arguments[:1], f"{PYTHON}/bin/{version}", *arguments[1:]]


def run(session: Session, *arguments: str) -> Completed:
    """Run Python inside to its end."""
    return session.run(
        [
            word
            for word in python(session, "--pipe", *arguments)
            for word in ([word, "--wait"] if word == "--pipe" else [word])
        ],
        timeout_s=LIMIT_S,
        check=False,
    )


def left_behind(session: Session) -> list[str]:
    """Return the sessions in the session: their folders and their cgroups."""
    runtime = session.outside(session.paths.runtime)
    # os.walk and not rglob: folders may go while one looks.
    cgroups = [f"{path}/{name}" for path, names, _files in os.walk(session.cgroup) for name in names]
    return [
        *(os.fspath(folder) for folder in runtime.glob("harness-*")),
        *(folder for folder in cgroups if Path(folder).name.startswith("harness-")),
    ]


@pytest.fixture(autouse=True)
def images(built: Callable[[str], Image]) -> None:
    """Build what the login will find in the store, which it can't write to."""
    for name in ("echo", "handover", "httpd"):
        built(f"containers/{name}")


#: The suites that ask most of a session: every activation, who holds what on the way, other users, the clocks.
SUITES = tuple(
    f"suites/test_{name}.py" for name in ("replies", "tutorial_echo", "tutorial_httpd", "chain", "isolation", "timing")
)

CONTRACTS = tuple(f"--harness-contract=containers/{name}" for name in ("echo", "handover", "httpd"))


def test_the_suites_pass(harness_runtime: Runtime, tmp_path: Path) -> None:
    """The suites are green with two workers, which share the network and therefore choose their ports."""
    with login(harness_runtime, tmp_path) as session:
        report = f"{session.paths.home}/report.xml"
        arguments = [
            "-n",
            "2",
            "-k",
            "not vsock",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
            "--no-harness-strict",
        ]
        artifacts = f"--harness-artifacts-dir={session.paths.home}/artifacts"
        done = run(session, "-m", "pytest", "-p", "xdist", *SUITES, *CONTRACTS, *arguments, artifacts)
        outcomes, texts = read_junit(session.outside(report))
        assert done.status == 0, f"{done.text}\n{texts}"
        assert set(outcomes.values()) == {"passed"}
        assert {"test_reply[echo-launcher-udp6]", "test_reply[httpd-generate-tcp4]"} <= set(outcomes)
        assert left_behind(session) == []


#: Folders of unit files -> which tests of them are run.
UNITS = {
    "three-unit-proxy": "tcp4 and (every_socket or same_run or idle or crash)",
    "accept": "instances",
}


@pytest.mark.parametrize("name", UNITS)
def test_unit_files_as_people_write_them(name: str, harness_runtime: Runtime, tmp_path: Path) -> None:
    """A container behind a proxy, with a port that it publishes, and one for each client."""
    folder = f"examples/{name}"
    with of(REPOSITORY / folder, harness_runtime) as own:
        (contract,) = own.contracts.values()
        own.image(contract)
    with login(harness_runtime, tmp_path) as session:
        report = f"{session.paths.home}/report.xml"
        chosen = ("-k", UNITS[name], "-n", "0", "-p", "no:cacheprovider")
        where = (f"--junitxml={report}", f"--harness-artifacts-dir={session.paths.home}/artifacts")
        units = f"--harness-units={folder}"
        done = run(session, "-m", "pytest", "-p", "xdist", "suites/test_battery.py", units, *chosen, *where)
        outcomes, texts = read_junit(session.outside(report))
        assert done.status == 0, f"{done.text}\n{texts}"
        assert set(outcomes.values()) == {"passed"}
        assert left_behind(session) == []


def test_a_container_s_walls_stand(harness_runtime: Runtime, tmp_path: Path) -> None:
    """What hostile images try is tried with one wall only: a session has no namespaces of its own here."""
    harness_runtime.image(hostile("none"))
    with login(harness_runtime, tmp_path) as session:
        report = f"{session.paths.home}/report.xml"
        chosen = ("-k", "reaches_nothing or activated", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}")
        where = f"--harness-artifacts-dir={session.paths.home}/artifacts"
        done = run(session, "-m", "pytest", "-p", "xdist", "tests/hostile/test_walls.py", *chosen, where)
        outcomes, texts = read_junit(session.outside(report))
        assert done.status == 0, f"{done.text}\n{texts}"
        assert set(outcomes.values()) == {"passed"}
        assert {f"test_nor_does_an_activated_one[{name}]" for name in ("generate", "launcher", "unit")} <= set(outcomes)
        assert left_behind(session) == []


def test_sigkill_leaves_nothing(harness_runtime: Runtime, tmp_path: Path) -> None:
    """When the run is killed, its supervisor ends the session and removes its folder, files of containers too."""
    with login(harness_runtime, tmp_path) as session:
        command = python(session, "--unit=victim", "-m", "pytest", "suites/test_replies.py", "-p", "no:cacheprovider")
        session.run(command)
        wait_until(
            lambda: session.run(["pgrep", "-f", "/echo.py"], check=False).status,
            lambda status: status == 0,
            Deadline.after(60),
            "a container of the run",
        )
        assert len(left_behind(session)) == 2
        session.run(["systemctl", "--user", "kill", "--kill-who=main", "--signal=KILL", "victim.service"])
        wait_until(lambda: left_behind(session), lambda left: not left, Deadline.after(20), "nothing to be left")


def test_doctor_finds_all_that_is_needed(harness_runtime: Runtime, tmp_path: Path) -> None:
    """`doctor` says that the suites can run, and that the cgroup is a delegated one."""
    with login(harness_runtime, tmp_path) as session:
        done = run(session, "-m", "harness", "doctor", "--json")
        assert done.status == 0, done.text
        found = {item["name"]: item for item in json.loads(done.text)["capabilities"]}
        assert found["cgroup_v2"]["version"] == "delegated"
        assert found["user_manager"]["present"]


def test_an_account_without_subordinate_ids_is_told_so(harness_runtime: Runtime, tmp_path: Path) -> None:
    """Without a line in /etc/subuid, the error names the capability and the way out, and nothing is left."""
    with login(harness_runtime, tmp_path, subuid="", subgid="") as session:
        done = run(session, "-m", "pytest", "suites/test_replies.py", "-k", "echo-unit-tcp4", "-p", "no:cacheprovider")
        assert done.status == INFRASTRUCTURE, done.text
        assert "This machine lacks the capability 'subids'" in done.text
        assert "[environment error: CapabilityMissing]" in done.text
        assert left_behind(session) == []
