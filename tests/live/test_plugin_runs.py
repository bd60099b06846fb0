"""What the plugin does around a test with a service: bundles, errors, kept sessions, workers, other images."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.images.store import Image
from harness.runtime import leaks
from tests.helpers.contracts import GOOD
from tests.helpers.runs import ECHO, run_inner

#: What an inner run needs for one case of echo.
ONE_CASE = (f"--harness-contract={ECHO}", "--harness-transports=tcp4", "--harness-activation=unit")


# -- failures ---------------------------------------------------------------------------------------------------------


def test_bundle(inner: pytest.Pytester, echo_image: Image) -> None:
    """A failure leaves everything that a person needs who was not there, and says where."""
    inner.makepyfile(
        """
        def test_it(harness_service, harness_case):
            harness_service.ask_cold(harness_case.transport)
            harness_service.wait_active(harness_case.transport)
            assert not harness_service
        """
    )
    ended = run_inner(inner, *ONE_CASE)
    assert ended.outcomes == {"test_it[echo-unit-tcp4]": "failed"}, ended.output
    (bundle,) = inner.path.glob("harness-artifacts/*/")
    assert bundle.name == "test_bundle.py-test_it-echo-unit-tcp4"
    assert re.search(rf"^-+ harness bundle -+\n{re.escape(str(bundle))}: enter\.txt, ", ended.output, re.MULTILINE)
    files = {file.name: file.read_text(encoding="utf-8") for file in bundle.iterdir()}
    assert set(files) == {
        *("enter.txt", "manager.log", "processes.txt", "sockets.txt", "units.txt", "containers.json"),
        *("reproduce.txt", "replies.txt", "echo.socket", "echo.service", "echo.service.output.txt"),
    }
    assert all(name in ended.output for name in files), "the failure names every file"
    assert files["enter.txt"].endswith(" /bin/sh\n")
    assert "Listening on echo.socket" in files["manager.log"]
    assert re.search(r"^ *\d+ /usr/bin/python3 .*/echo\.py +\[.*3=socket:\[\d+\]", files["processes.txt"], re.MULTILINE)
    assert "127.0.0.1:" in files["sockets.txt"]
    assert re.search(r"^Id=echo\.socket\n(.*\n)*SubState=running$", files["units.txt"], re.MULTILINE)
    assert re.search(r"^Id=echo\.service\n(.*\n)*ActiveState=active$", files["units.txt"], re.MULTILINE)
    (container,) = json.loads(files["containers.json"])
    assert (container["Name"], container["State"]["Running"]) == ("echo", True)
    assert files["reproduce.txt"].startswith("printf %s 'hello\n' | ")
    assert files["reproduce.txt"].count("socat") == 1
    assert r"body=b'hello\n'" in files["replies.txt"]
    assert re.search(r"^ListenStream=127\.0\.0\.1:\d+$", files["echo.socket"], re.MULTILINE)
    assert f" {echo_image.reference}\n" in files["echo.service"]


def test_the_bundle_has_the_output_of_a_unit_of_the_tests_own(inner: pytest.Pytester) -> None:
    """Of this test's, and not of what another test's unit has printed in the same session."""
    inner.makepyfile(
        """
        from harness.core.deadline import Deadline

        def start(session, name):
            text = f"[Service]\\nType=oneshot\\nExecStart=/bin/sh -c 'echo {name} fails; exit 1'\\n"
            session.write(f"{session.paths.units}/{name}.service", text)
            session.manager.reload()
            session.manager.start(f"{name}.service", Deadline.after(10))

        def test_one(harness_session): start(harness_session, "one")
        def test_two(harness_session): start(harness_session, "two")
        """
    )
    ended = run_inner(inner, "-n0")
    for mine, other in (("one", "two"), ("two", "one")):
        assert f"  output of {mine}.service:\n    {mine} fails\n" in ended.texts[f"test_{mine}"]
        (folder,) = inner.path.glob(f"harness-artifacts/*test_{mine}")
        assert (folder / f"{mine}.service.output.txt").read_text(encoding="utf-8") == f"{mine} fails\n"
        assert not (folder / f"{other}.service.output.txt").exists()


def test_no_bundle_for_what_passes_or_has_no_session(inner: pytest.Pytester, echo_image: Image) -> None:
    inner.makepyfile(
        """
        def test_without(): assert False
        def test_with(harness_service, harness_case): harness_service.ask_cold(harness_case.transport)
        """
    )
    ended = run_inner(inner, *ONE_CASE)
    assert ended.outcomes == {"test_without": "failed", "test_with[echo-unit-tcp4]": "passed"}, ended.output
    assert not list(inner.path.glob("harness-artifacts/*/"))


def test_an_error_of_the_harness_is_its_own_text(inner: pytest.Pytester) -> None:
    """No traceback through the harness: the line of the test, then what happened. The report stays valid XML."""
    inner.makepyfile(
        r"""
        from harness.core.errors import ProbeFailed

        def test_it():
            raise ProbeFailed("It was '\x00\x1b[31m\ufffe'.", hint="Ask <again> & again.", evidence={"seen": "a\nb"})
        """
    )
    ended = run_inner(inner)
    assert ended.outcomes == {"test_it": "failed"}
    first, second, *rest = ended.texts["test_it"].splitlines()
    assert first == "test_an_error_of_the_harness_is_its_own_text.py:4: in test_it"
    assert second == r"It was '\x00\x1b[31m\ufffe'."
    assert rest == [
        *("  seen:", "    a", "    b"),
        *("Hint: Ask <again> & again.", "[image error: ProbeFailed]"),
    ]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_last_lines_of_a_run_give_the_reason(inner: pytest.Pytester, workers: str) -> None:
    """The summary has each error's first sentence, and not the place where the harness raised it."""
    inner.makepyfile(
        """
        import pytest
        from harness.core.errors import ProbeFailed, SessionError

        @pytest.fixture
        def broken(): raise SessionError("No session could be made.", hint="Look around.")

        def test_a(broken): pass
        def test_b(): raise ProbeFailed("The reply never came.", evidence={"output": "nothing"})
        """
    )
    output = run_inner(inner, "-n", workers).output
    name = "test_the_last_lines_of_a_run_give_the_reason.py"
    assert f"ERROR {name}::test_a - No session could be made." in output.splitlines()
    assert f"FAILED {name}::test_b - The reply never came." in output.splitlines()
    assert f"{name}:8: in test_b\nThe reply never came.\n  output:\n    nothing\n[image error: ProbeFailed]" in output


# -- kept sessions ----------------------------------------------------------------------------------------------------

#: A test that writes down which session it had.
NOTING = """
import json
from pathlib import Path

def test_it(harness_service, harness_case):
    session = harness_service.session
    harness_service.ask_cold(harness_case.transport)
    harness_service.wait_active(harness_case.transport)
    noted = {"init": session.init, "cgroup": str(session.cgroup), "home": session.paths.home}
    Path("noted.json").write_text(json.dumps(noted))
"""


@dataclass(frozen=True, slots=True)
class Noted:
    """A session of an inner run."""

    init: int
    cgroup: Path
    home: str

    @property
    def alive(self) -> bool:
        """Whether its first process and its cgroup are there."""
        return Path(f"/proc/{self.init}").exists() and self.cgroup.is_dir()


@contextlib.contextmanager
def noted(inner: pytest.Pytester) -> Iterator[Noted]:
    """Give the session that the last inner run wrote down; end it when it was kept."""
    told = json.loads((inner.path / "noted.json").read_text(encoding="utf-8"))
    session = Noted(told["init"], Path(told["cgroup"]), told["home"])
    try:
        yield session
    finally:
        if session.alive:
            leaks.end(session.cgroup)


@pytest.mark.parametrize(("keep", "passes"), [("always", True), ("on-failure", False)])
def test_a_kept_session_lives_on(keep: str, passes: bool, inner: pytest.Pytester, echo_image: Image) -> None:
    """Until somebody ends it; then nothing of it is left."""
    inner.makepyfile(NOTING if passes else f"{NOTING}    assert not harness_service\n")
    ended = run_inner(inner, *ONE_CASE, f"--harness-keep={keep}")
    assert ended.outcomes == {"test_it[echo-unit-tcp4]": "passed" if passes else "failed"}, ended.output
    with noted(inner) as session:
        assert session.alive
        for kept in (False, True):
            left = {remnant.session for remnant in leaks.leaks(kept=kept)}
            assert (session.cgroup.name in left) is kept, "it is a leak only for those who count what was kept"
    assert [remnant for remnant in leaks.find() if remnant.session == session.cgroup.name] == []


def test_the_way_into_a_kept_session(inner: pytest.Pytester, echo_image: Image) -> None:
    """The line in the bundle can be pasted into a shell as it is, and leads to the session's own manager."""
    inner.makepyfile(f"{NOTING}    assert not harness_service\n")
    run_inner(inner, *ONE_CASE, "--harness-keep=on-failure")
    with noted(inner) as session:
        (file,) = inner.path.glob("harness-artifacts/*/enter.txt")
        line = file.read_text(encoding="utf-8").strip()
        question = 'echo "$HOME"; systemctl --user show --property=ControlGroup'
        asked = inner.run("/bin/sh", "-c", f"echo '{question}' | {line}")
        home, group = asked.outlines
        assert home == session.home
        assert group.startswith("ControlGroup=")


@pytest.mark.parametrize("keep", ["always", "on-failure"])
def test_the_way_into_a_kept_session_is_shown(keep: str, inner: pytest.Pytester, echo_image: Image) -> None:
    inner.makepyfile(f"{NOTING}    assert not harness_service\n")
    ended = run_inner(inner, *ONE_CASE, f"--harness-keep={keep}")
    with noted(inner):
        (file,) = inner.path.glob("harness-artifacts/*/enter.txt")
        assert file.read_text(encoding="utf-8").strip() in ended.output


def test_the_way_into_a_kept_session_of_a_test_that_passed(inner: pytest.Pytester, echo_image: Image) -> None:
    inner.makepyfile(NOTING)
    ended = run_inner(inner, *ONE_CASE, "--harness-keep=always")
    with noted(inner) as session:
        assert f" HOME={session.home} " in ended.output


def test_the_service_in_a_kept_session(inner: pytest.Pytester, echo_image: Image) -> None:
    """The command that the failure calls 'reproduce' gets the reply."""
    inner.makepyfile(f"{NOTING}    assert not harness_service\n")
    run_inner(inner, *ONE_CASE, "--harness-keep=on-failure")
    with noted(inner):
        (file,) = inner.path.glob("harness-artifacts/*/reproduce.txt")
        asked = inner.run("/bin/sh", file)
        assert asked.outlines == ["hello"], asked.errlines


@pytest.mark.parametrize("keep", ["never", "on-failure"])
def test_other_sessions_end_with_the_run(keep: str, inner: pytest.Pytester, echo_image: Image) -> None:
    inner.makepyfile(NOTING)
    ended = run_inner(inner, *ONE_CASE, f"--harness-keep={keep}")
    assert ended.status == 0, ended.output
    with noted(inner) as session:
        assert not session.alive
        assert not session.cgroup.exists()
        assert "kept" not in ended.output


# -- workers ----------------------------------------------------------------------------------------------------------


def test_two_workers(inner: pytest.Pytester, echo_image: Image) -> None:
    """They run the tests of one process under the same ids, at the same time, on the same port."""
    inner.makepyfile(
        """
        import time
        from pathlib import Path

        import pytest

        def test_it(harness_service, harness_case, request, worker_id, tmp_path_factory):
            (endpoint,) = harness_service.activated.workload.endpoints.values()
            if harness_service.session.own_network:
                assert endpoint.port == 3000
            # Both services are up before either goes on.
            meeting = Path(request.config.rootpath, "meeting")
            meeting.mkdir(exist_ok=True)
            (meeting / worker_id).touch()
            limit = time.monotonic() + 60
            while len(list(meeting.iterdir())) < 2:
                assert time.monotonic() < limit, "the other worker has not come"
                time.sleep(0.01)
            harness_service.ask_cold(harness_case.transport)
        """
    )
    # The contract does not count for the image, which is that of echo.
    folder = shutil.copytree(ECHO, inner.path / "echo")
    (folder / "contract.toml").write_text(GOOD, encoding="utf-8")
    ended = run_inner(inner, "-n2", "-v", "--harness-contract=echo", "--harness-activation=launcher,unit")
    assert ended.outcomes == {"test_it[echo-launcher-tcp4]": "passed", "test_it[echo-unit-tcp4]": "passed"}, (
        ended.output
    )
    assert "[gw0]" in ended.output
    assert "[gw1]" in ended.output


@pytest.mark.harness_requires("ipv6_loopback")
def test_workers_and_bundles(inner: pytest.Pytester, echo_image: Image) -> None:
    """What one worker finds out arrives in the controller's report."""
    inner.makepyfile("def test_it(harness_service, harness_case): harness_service.wait_active(harness_case.transport)")
    given = (f"--harness-contract={ECHO}", "--harness-activation=unit", "--harness-transports=tcp4,udp6")
    ended = run_inner(inner, "-n2", *given, "--harness-timeout-scale=0.02")
    names = ("test_it[echo-unit-tcp4]", "test_it[echo-unit-udp6]")
    assert ended.outcomes == dict.fromkeys(names, "failed"), ended.output
    for name in names:
        assert "for the unit 'echo.service' to be active" in ended.texts[name]
        bundle = inner.path / "harness-artifacts" / f"test_workers_and_bundles.py-{name.replace('[', '-').rstrip(']')}"
        assert f"{bundle}: enter.txt" in ended.output


# -- another image ----------------------------------------------------------------------------------------------------


def test_an_image_by_its_name(inner: pytest.Pytester, echo_image: Image) -> None:
    """--harness-image puts an image that exists under an existing contract."""
    inner.makepyfile(
        """
        def test_it(harness_service, harness_case):
            harness_service.ask_cold(harness_case.transport)
            print(f"the image is {harness_service.image.reference}")
        """
    )
    contract = inner.mkdir("other")
    text = (ECHO / "contract.toml").read_text(encoding="utf-8").replace('"echo"', '"other"', 1)
    (contract / "contract.toml").write_text(text, encoding="utf-8")
    given = ("--harness-contract=other", "--harness-transports=tcp4", "--harness-activation=unit", "-rP")
    ended = run_inner(inner, *given, f"--harness-image=other={echo_image.reference}")
    assert ended.outcomes == {"test_it[other-unit-tcp4]": "passed"}, ended.output
    assert f"the image is {echo_image.reference}" in ended.output
