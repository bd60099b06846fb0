"""The plugin's parameters, header and marks, in real runs."""

from __future__ import annotations

import re

import pytest

from harness.activation import activations
from harness.capabilities.table import Capabilities
from harness.core.errors import INFRASTRUCTURE
from harness.core.transports import Transport
from tests.helpers.runs import ECHO, REPOSITORY, run_inner


def collected(inner: pytest.Pytester, *arguments: str) -> list[str]:
    """Return the ids of what an inner run collects."""
    listed = inner.runpytest_inprocess("-p", "harness.plugin", "--collect-only", "-q", *arguments)
    return [line.partition("::")[2] for line in listed.outlines if "::" in line]


# -- what is left out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["0", "2"])
def test_tests_about_other_contracts_are_deselected(inner: pytest.Pytester, workers: str) -> None:
    """They are no errors, and a line says so, by xdist's workers, too."""
    inner.makepyfile(
        """
        import pytest
        from harness.plugin.fixtures import contract_fixture

        httpd, echo = contract_fixture("httpd"), contract_fixture("echo")
        several = contract_fixture("echo", "mariadb")

        @pytest.fixture
        def image(httpd): assert False

        def test_httpd(httpd): assert False

        def test_httpd_by_another_fixture(image): assert False

        def test_echo(echo): assert echo.name == "echo"

        def test_both(echo, httpd): assert False

        def test_several(several): assert several.name == "echo"
        """
    )
    run = run_inner(inner, f"--harness-contract={ECHO}", f"-n{workers}")

    assert (run.status, run.outcomes) == (0, {"test_echo": "passed", "test_several[echo]": "passed"})
    assert "harness: deselected tests that need the contracts httpd, mariadb: not given in this run" in run.output


def test_a_contract_past_the_fixture(inner: pytest.Pytester) -> None:
    """It can't be known at collection: an error that tells the way."""
    inner.makepyfile("def test_httpd(harness_runtime): harness_runtime.image('httpd')")
    run = run_inner(inner, f"--harness-contract={ECHO}")
    assert (run.status, run.outcomes) == (INFRASTRUCTURE, {"test_httpd": "failed"})
    assert "This run has no contract 'httpd'." in run.texts["test_httpd"]
    assert "fixture made by contract_fixture" in run.texts["test_httpd"]


def test_nothing_is_said_where_nothing_was_deselected(inner: pytest.Pytester) -> None:
    """Neither of fixtures that fit."""
    inner.makepyfile(
        "from harness.plugin.fixtures import contract_fixture\n"
        "echo = contract_fixture('echo')\n"
        "def test_echo(echo): pass\n"
    )
    assert "harness: deselected" not in run_inner(inner, f"--harness-contract={ECHO}").output


def contract_of(inner: pytest.Pytester, text: str) -> str:
    """Return the option for a contract in the inner folder."""
    file = inner.path / "contract.toml"
    file.write_text(f'schema = 1\nname = "one"\nimage = {{ reference = "localhost/no:1" }}\n{text}', encoding="utf-8")
    return f"--harness-contract={file}"


def test_an_activation_that_can_not(inner: pytest.Pytester) -> None:
    """Skipped with the reason, before any image is looked for; the others are not."""
    inner.makepyfile("def test_case(harness_case): pass")
    options = '[[sockets]]\ntransports = ["unix"]\npath = "a"\noptions = { SocketMode = "0600" }\n'
    probe = '[probe]\nkind = "bytes"\nsend = "a"\nexpect = "a"\n'
    run = run_inner(inner, contract_of(inner, options + probe), "--harness-strict", "-rs")

    assert run.outcomes["test_case[one-launcher-unix]"] == "skipped"
    assert run.outcomes["test_case[one-unit-unix]"] == "passed"
    assert "systemd-socket-activate(1) has no option for SocketMode of the contract" in run.output


@pytest.mark.parametrize(("strict", "outcome"), [("--no-harness-strict", "skipped"), ("--harness-strict", "error")])
def test_a_client_program_that_is_not_installed(inner: pytest.Pytester, strict: str, outcome: str) -> None:
    """Like a capability: skipped with the way out, and no silence in a strict run."""
    inner.makepyfile("def test_case(harness_case): pass")
    text = '[[sockets]]\ntransports = ["tcp4"]\nport = 3000\n[probe]\nkind = "exec"\ncommand = ["no-such-client"]\n'
    run = run_inner(inner, contract_of(inner, text), strict, "-rs", "--harness-activation=unit")

    assert run.outcomes == {"test_case[one-unit-tcp4]": outcome}
    assert "client program 'no-such-client' of the contract's probe is not installed" in run.output
    assert "give the probe an 'image' that has it" in run.output


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cases(inner: pytest.Pytester) -> pytest.Pytester:
    """An inner pytest with one test of every case of echo."""
    inner.makepyfile("def test_reply(harness_case): assert harness_case.transport != 'udp6'")
    inner.makeini(f"[pytest]\nharness_contracts = {ECHO}\n")
    return inner


def ways() -> list[str]:
    """Return the activations that this machine's own userland is capable of."""
    return [name for name, way in activations().items() if all(map(Capabilities().has, way.needs))]


def test_ids(cases: pytest.Pytester) -> None:
    """Contract, activation, transport, each in its order."""
    found = collected(cases)
    assert found == [f"test_reply[echo-{way}-{name}]" for way in ways() for name in Transport]
    assert "test_reply[echo-generate-udp6]" in found


def test_k(cases: pytest.Pytester) -> None:
    assert collected(cases, "-k", "udp6") == [f"test_reply[echo-{way}-udp6]" for way in ways()]
    assert collected(cases, "-k", "generate and unix") == ["test_reply[echo-generate-unix]"]


def test_fewer_transports_and_activations(cases: pytest.Pytester) -> None:
    given = ("--harness-transports=unix,tcp4", "--harness-activation=unit")
    assert collected(cases, *given) == ["test_reply[echo-unit-tcp4]", "test_reply[echo-unit-unix]"]


def test_several_contracts_in_the_order_of_their_names(cases: pytest.Pytester) -> None:
    given = [f"--harness-contract={REPOSITORY}/tests/broken/{name}" for name in ("slow", "honest", "first-only")]
    found = collected(cases, *given, "--harness-activation=unit", "--harness-transports=tcp4")
    assert found == ["test_reply[first-only-unit-tcp4]", "test_reply[honest-unit-tcp4]", "test_reply[slow-unit-tcp4]"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_no_case_is_not_green(workers: str, cases: pytest.Pytester) -> None:
    """A run that asked for what no contract has did not test what was asked for."""
    slow = f"--harness-contract={REPOSITORY}/tests/broken/slow"
    run = run_inner(cases, slow, "--harness-transports=unix,udp4", f"-n{workers}")
    assert run.status == pytest.ExitCode.USAGE_ERROR
    sentence = "No contract of this run (slow) has a socket of the transports that were asked for: udp4, unix."
    assert run.output.count(sentence) == 1
    assert "/pluggy/" not in run.output
    assert run_inner(cases, slow, "--harness-transports=tcp4", "--collect-only").status == 0


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_case_of_no_contract(workers: str, inner: pytest.Pytester) -> None:
    """One sentence, without the stack of what raised it."""
    inner.makepyfile("def test_reply(harness_case): pass")
    run = run_inner(inner, f"-n{workers}")
    assert run.status == pytest.ExitCode.USAGE_ERROR
    assert "\nA test takes 'harness_case', but the run has no contract. Hint: --harness-contract PATH\n" in run.output
    assert "/pluggy/" not in run.output


def test_an_error_in_a_file_is_no_usage_error(inner: pytest.Pytester) -> None:
    """What is none of the harness's mistakes keeps pytest's own status."""
    inner.makepyfile("import nothing_of_this_name")
    assert run_inner(inner).status == pytest.ExitCode.INTERRUPTED


@pytest.mark.harness_requires("ipv6_loopback")
def test_lf(cases: pytest.Pytester) -> None:
    """Ids are the same in the next run, so that it can be of what failed."""
    given = ("--harness-activation=launcher,unit", "--harness-transports=udp4,udp6")
    first = run_inner(cases, *given)
    assert first.outcomes == {
        "test_reply[echo-launcher-udp4]": "passed",
        "test_reply[echo-launcher-udp6]": "failed",
        "test_reply[echo-unit-udp4]": "passed",
        "test_reply[echo-unit-udp6]": "failed",
    }
    again = run_inner(cases, *given, "--lf")
    assert again.outcomes == {name: outcome for name, outcome in first.outcomes.items() if outcome == "failed"}


# -- the header -------------------------------------------------------------------------------------------------------


def test_header(cases: pytest.Pytester) -> None:
    """What the machine is, what is tested, on what images are built."""
    shown = cases.runpytest_inprocess("-p", "harness.plugin", "--collect-only", "--harness-base=debian")
    shown.stdout.re_match_lines(
        [
            r"harness: kernel \S+, python 3\.\d+\.\S+, systemd \d+.*, podman \d+\.\S+, (crun|runc) \S+",
            r"harness: contracts echo; base debian; lenient",
        ]
    )


def test_header_of_a_poor_machine(cases: pytest.Pytester) -> None:
    cases.makeconftest(POOR)
    shown = cases.runpytest_inprocess("-p", "harness.plugin", "--collect-only", "--harness-strict")
    shown.stdout.re_match_lines(
        [
            r"harness: kernel .*, no systemd, no podman, no runtime",
            r"harness: missing here: .*systemd.*podman.*crun or runc.*socat.*\(see 'python3 -m harness doctor'\)",
            r"harness: contracts echo; base \S+; strict",
        ]
    )


# -- requires(...) ----------------------------------------------------------------------------------------------------

#: A conftest.py for a machine that has no files at all.
POOR = """
import pytest
from harness.capabilities.table import Capabilities
from harness.core.machine import Machine
from harness.plugin.parametrize import RUNTIME
from pathlib import Path

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.stash[RUNTIME].capabilities = Capabilities(Machine(root=Path("/nonexistent")))
"""

REQUIRING = """
import pytest

@pytest.mark.harness_requires("socat")
def test_one(): pass

@pytest.mark.harness_requires("python", "curl")
def test_two(): pass

@pytest.mark.harness_requires("python")
def test_three(): pass
"""


def test_what_is_missing_is_skipped_with_its_remedy(inner: pytest.Pytester) -> None:
    inner.makeconftest(POOR)
    inner.makepyfile(REQUIRING)
    ended = run_inner(inner)
    assert ended.status == 0
    assert ended.outcomes == {"test_one": "skipped", "test_two": "skipped", "test_three": "passed"}
    assert re.search(
        r"This machine lacks the capability 'socat': .*\. Hint: python3 -m harness setup", ended.texts["test_one"]
    )
    assert "lacks the capability 'curl'" in ended.texts["test_two"]
    assert "Hint: " in run_inner(inner, "-rs").output


def test_what_is_missing_fails_when_strict(inner: pytest.Pytester) -> None:
    inner.makeconftest(POOR)
    inner.makepyfile(REQUIRING)
    ended = run_inner(inner, "--harness-strict")
    assert ended.status == INFRASTRUCTURE, "the image did nothing wrong"
    assert ended.outcomes == {"test_one": "error", "test_two": "error", "test_three": "passed"}
    text = ended.texts["test_one"]
    assert "This machine lacks the capability 'socat'" in text
    assert "Hint: python3 -m harness setup" in text
    assert "The run is strict: a missing capability fails." in text
    assert "plugin.py" not in text, "no traceback"


def test_what_is_missing_is_said_once(inner: pytest.Pytester) -> None:
    inner.makeconftest(POOR)
    inner.makepyfile(REQUIRING)
    text = run_inner(inner, "--harness-strict").texts["test_one"]
    assert text.count("This machine lacks the capability 'socat'") == 1


def test_strict_by_default_in_ci(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    inner.makeconftest(POOR)
    inner.makepyfile(REQUIRING)
    assert run_inner(inner).outcomes["test_one"] == "error"
    assert run_inner(inner, "--no-harness-strict").outcomes["test_one"] == "skipped"


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("'warp_drive'", r"There is no capability 'warp_drive'\.\nHint: Use one of: .*podman, .*socat"),
        ("", r"the mark 'harness_requires' takes names of capabilities"),
        ("name='podman'", r"the mark 'harness_requires' takes names of capabilities"),
    ],
)
def test_a_wrong_mark(mark: str, words: str, inner: pytest.Pytester) -> None:
    """It fails, in a lenient run too: a misspelt name must not skip for ever."""
    inner.makepyfile(f"import pytest\n\n@pytest.mark.harness_requires({mark})\ndef test_it(): pass\n")
    ended = run_inner(inner)
    assert ended.outcomes == {"test_it": "error"}
    assert re.search(words, ended.texts["test_it"])


def test_a_measurement_without_a_case(inner: pytest.Pytester) -> None:
    """It runs last, whether or not any image is to be measured; one of a case runs only for such images."""
    inner.makepyfile(
        """
        import pytest

        @pytest.mark.harness_benchmark
        def test_measures(): pass

        @pytest.mark.harness_benchmark
        def test_measures_images(harness_case): pass

        def test_other(): pass
        """
    )
    ended = run_inner(inner, f"--harness-contract={ECHO}")
    assert list(ended.outcomes) == ["test_other", "test_measures"]
