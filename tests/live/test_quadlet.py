"""Quadlet in a userland that has it: its generator, what it makes of a file and what it says of a mistake in one."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.activation import Workload, activations, quadlet
from harness.core.cache import default_folder
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import Blame, CapabilityMissing, UnitRejected
from harness.core.transports import Listener, Transport
from harness.core.userland import Userland
from harness.images.store import Image
from harness.plugin.parametrize import RUNTIME
from harness.probes import native
from harness.session import factory
from harness.session.session import Session
from harness.userlands.store import UserlandStore
from tests.helpers.runs import run_pytest
from tests.helpers.sessions import isolated
from tests.helpers.workloads import ARGUMENTS, left

pytestmark = isolated

NAME = "tested"
UNIT = f"{NAME}.service"

#: The oldest Debian whose Podman has Quadlet.
USERLAND = "trixie"

TCP4 = Transport.TCP4

#: What Quadlet can hand on: no empty argument, no lone semicolon, and not the one character above ASCII that it takes
#: for a control character and writes as a byte of its own.
TEXTS = [text for text in ARGUMENTS.values() if text not in ("", ";")]
TEXT = st.text(st.characters(exclude_characters="\0\x80", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text != ";"
)

#: Few examples with many texts each: every example is a container.
RANDOM = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def with_quadlet(request: pytest.FixtureRequest) -> Userland:
    """A userland with Quadlet, unpacked at its first use, outside the tests' time limits."""
    return UserlandStore(default_folder(), request.config.stash[RUNTIME].progress).get(USERLAND)


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest, with_quadlet: Userland) -> Iterator[Session]:
    """A session in it."""
    store = request.config.stash[RUNTIME].store
    store.ready()
    with factory.open_session(store.graph, userland=with_quadlet) as opened:
        yield opened


@pytest.fixture
def workload(session: Session, echo_image: Image) -> Workload:
    """The echo image behind a socket."""
    return Workload(NAME, echo_image.reference, session.assign_addresses([Listener((TCP4,), 5000)]))


def ended(session: Session, workload: Workload) -> bytes:
    """Run a workload whose container ends by itself, and return what it has printed."""
    with activations()["quadlet"].install(session, workload):
        session.manager.start(UNIT, Deadline.after(20))
        wait_until(
            lambda: session.manager.state(UNIT),
            lambda state: state["ActiveState"] == "inactive",
            Deadline.after(20),
            f"the unit '{UNIT}' to end",
        )
        # As bytes: reading text makes one thing of all line breaks.
        return session.outside(f"{session.paths.output}/{UNIT}.log").read_bytes()


# -- what arrives -----------------------------------------------------------------------------------------------------


@RANDOM
@given(st.lists(TEXT, min_size=1, max_size=30))
def test_arguments_arrive(session: Session, workload: Workload, texts: list[str]) -> None:
    """A real container prints its arguments, each with a NUL behind it: the very same bytes, in their order."""
    arguments = [*TEXTS, *texts]
    command = ("/usr/bin/printf", r"%s\0", "--", *arguments)
    printed = ended(session, replace(workload, options=("--network=none", "--entrypoint="), command=command))
    assert printed.decode().split("\0")[:-1] == ["--", *arguments]


@RANDOM
@given(st.lists(TEXT, min_size=1, max_size=30))
def test_variables_arrive(session: Session, workload: Workload, texts: list[str]) -> None:
    """A real container prints its environment; an empty variable is one, too."""
    wanted = {f"V{number}": text for number, text in enumerate([*ARGUMENTS.values(), *texts])}
    options = ("--network=none", "--entrypoint=", *(f"--env={name}={text}" for name, text in wanted.items()))
    printed = ended(session, replace(workload, options=options, command=("/usr/bin/env", "--null")))
    found = dict(line.split("=", 1) for line in printed.decode().split("\0")[:-1])
    assert {name: found.get(name) for name in wanted} == wanted


@RANDOM
@given(st.lists(TEXT, min_size=1, max_size=30))
def test_other_options_arrive(session: Session, workload: Workload, texts: list[str]) -> None:
    """What has no key of its own, as Podman has it in its records."""
    wanted = {f"l{number}": text for number, text in enumerate([*ARGUMENTS.values(), *texts])}
    options = ("--network=none", *(f"--label={name}={text}" for name, text in wanted.items()))
    with activations()["quadlet"].activate(session, replace(workload, options=options)) as activated:
        session.manager.start(UNIT, Deadline.after(20))
        found = json.loads(session.run(["podman", "inspect", "--format={{json .Config.Labels}}", NAME]).text)
        activated.stop_service(Deadline.after(20))
    assert {name: found.get(name) for name in wanted} == wanted


# -- what Quadlet can't hand on ---------------------------------------------------------------------------------------


def test_an_empty_argument_ends_the_command(session: Session, workload: Workload) -> None:
    """The reason of a refusal; when this fails, Quadlet has learnt it."""
    command = ("/usr/bin/printf", r"%s\0", "a", "", "b")
    printed = ended(session, replace(workload, options=("--network=none", "--entrypoint="), command=command))
    assert printed == b"a\0"


def test_a_lone_semicolon_loses_its_quotes(session: Session, workload: Workload) -> None:
    """The reason of another refusal: systemd takes it for the end of a command."""
    command = ("/usr/bin/printf", r"%s\0", "a", ";", "/bin/b")
    with pytest.raises(UnitRejected, match=f"systemd does not load '{UNIT}'"):
        ended(session, replace(workload, options=("--network=none", "--entrypoint="), command=command))


def test_a_character_becomes_a_byte(session: Session, workload: Workload) -> None:
    """The reason of the last refusal: systemd has a command that is no text, and can't tell it over D-Bus."""
    file = f"{session.paths.quadlets}/{NAME}.container"
    session.write(file, quadlet.text(replace(workload, command=("/bin/true", "\x80"))))
    said = session.run([quadlet.generator(session), "-user", "-dryrun"], check=False).text
    session.remove(file)
    assert said.rstrip().endswith(r'/bin/true "\x80"')


# -- the files --------------------------------------------------------------------------------------------------------


def test_the_files_of_a_service(session: Session, workload: Workload) -> None:
    """For a bundle: the socket, the file, and the service that Quadlet has made of it, which systemd finds right."""
    with activations()["quadlet"].activate(session, workload) as activated:
        assert list(activated.files) == [f"{NAME}.socket", f"{NAME}.container", UNIT]
        assert activated.files[f"{NAME}.container"] == quadlet.text(workload)
        fragment = session.manager.properties(UNIT)["FragmentPath"]
        assert activated.files[UNIT] == session.run(["cat", fragment]).text
        assert "/podman run --name tested" in activated.files[UNIT]
        said = session.run(["systemd-analyze", "--user", "verify", "--man=no", fragment], check=False)
    assert (said.status, said.stdout + said.stderr) == (0, b"")


def test_nobody_waits_for_the_network(session: Session, workload: Workload) -> None:
    """Quadlet's services wait for a target of the system's manager, of which a session has none: 90 s."""
    with activations()["quadlet"].activate(session, workload) as activated:
        assert "podman-user-wait-network-online.service" in activated.files[UNIT]
        assert session.manager.properties("podman-user-wait-network-online.service")["LoadState"] == "masked"
        assert native.ask(session, workload.endpoints[TCP4], b"hello", Deadline.after(20)).body == b"hello"


def test_without_the_mask_they_would(session: Session, workload: Workload) -> None:
    """The client is not answered while the service waits, which is long before the 90 s are over."""
    mask = f"{session.paths.units}/podman-user-wait-network-online.service"
    session.remove(mask)
    try:
        with activations()["quadlet"].activate(session, workload):
            assert native.ask(session, workload.endpoints[TCP4], b"hello", Deadline.after(1)).body == b""
            state = session.manager.state("podman-user-wait-network-online.service")
            session.manager.kill("podman-user-wait-network-online.service", signal.SIGKILL)
    finally:
        session.write(mask, "")
        session.manager.reload()
    assert state["ActiveState"] == "activating"
    assert left(session) == {}


# -- mistakes ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def drop_in(session: Session, text: str) -> Iterator[None]:
    """Change the `.container` file by a drop-in, for a while."""
    folder = f"{session.paths.quadlets}/{NAME}.container.d"
    session.write(f"{folder}/10-tested.conf", text)
    try:
        yield
    finally:
        session.run(["rm", "-r", folder])


@pytest.mark.parametrize(
    ("text", "said", "blame"),
    [
        ("[Container]\nImage=\n", "no Image or Rootfs key specified", Blame.INPUT),
        ("[Container]\nImages=x\n", "unsupported key 'Images' in group 'Container' in ", Blame.MACHINE),
        ("[Service]\nType=exec\n", "invalid service Type 'exec'", Blame.INPUT),
        ("[Service]\nKillMode=none\n", "invalid KillMode 'none'", Blame.INPUT),
    ],
    ids=["no image", "unknown key", "Type=", "KillMode="],
)
def test_a_file_that_quadlet_refuses(session: Session, workload: Workload, text: str, said: str, blame: Blame) -> None:
    """The generator's own words, and nothing is left."""
    with (
        drop_in(session, text),
        pytest.raises(UnitRejected) as caught,
        activations()["quadlet"].activate(session, workload),
    ):
        pytest.fail("it was activated")
    assert caught.value.sentence == f"Quadlet made no service of '{NAME}.container'."
    assert f'converting "{NAME}.container": {said}' in str(caught.value)
    assert f"ContainerName={NAME}" in str(caught.value)
    assert caught.value.blame is blame
    assert left(session) == {}


def test_a_service_that_systemd_refuses(session: Session, workload: Workload) -> None:
    """Quadlet passes on what it does not know; the unit is there, but is not loaded."""
    with (
        drop_in(session, "[Service]\nExecStart=/a\n"),
        pytest.raises(UnitRejected) as caught,
        activations()["quadlet"].activate(session, workload),
    ):
        pytest.fail("it was activated")
    assert caught.value.sentence == f"systemd does not load '{UNIT}', which Quadlet made: its state is 'bad-setting'."
    assert f"{UNIT}: Service has more than one ExecStart= setting" in str(caught.value)
    assert left(session) == {}


def test_a_machine_without_quadlet(harness_session: Session, echo_image: Image) -> None:
    """Podman older than 4.4 has no generator: that is said, and nothing is left."""
    workload = Workload(NAME, echo_image.reference, harness_session.assign_addresses([Listener((TCP4,), 5000)]))
    if quadlet.generator(harness_session):
        pytest.skip("this machine has Quadlet")
    with pytest.raises(CapabilityMissing) as caught, activations()["quadlet"].activate(harness_session, workload):
        pytest.fail("it was activated")
    assert caught.value.capability == "quadlet"
    assert left(harness_session) == {}


# -- the tests of all activations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["test_activation", "test_container_settings", "test_service", "test_timeline"])
def test_what_every_activation_does(
    with_quadlet: Userland, built: Callable[[str], Image], tmp_path: Path, module: str
) -> None:
    """The harness's own tests of activations, by Quadlet."""
    for folder in ("containers/echo", "tests/settings", "tests/broken/dies-on-start"):
        built(folder)
    where = (
        f"--harness-userland={with_quadlet.name}",
        "--harness-activation=quadlet",
        f"tests/live/{module}.py",
        "-kquadlet",
    )
    run = run_pytest(tmp_path, *where)
    assert run.status == 0, run.output
    assert "passed" in run.outcomes.values()
