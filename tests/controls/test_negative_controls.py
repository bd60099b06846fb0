"""Negative controls: the real suite, run over images that break one promise each, is red for the right reason.

Each assertion of suites/test_replies.py has an image, a unit or an uninvited client here that it notices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.contract import load
from harness.core.errors import Blame, CommandError, ProbeFailed
from harness.core.transports import ROWS, Transport
from harness.images.store import Image
from harness.runtime.runtime import Runtime
from tests.helpers.controls import NEVER_WAS, assert_has
from tests.helpers.runs import RED, REPOSITORY, run_pytest

BROKEN = "tests/broken"
SUITE = "suites/test_replies.py"


CONTRACT = load(REPOSITORY / BROKEN / "honest")
GONE = Image("honest", NEVER_WAS, id="0" * 64, base="", source="0" * 64, build_s=0.0)

ACTIVE = "'ActiveState': 'active'"
FAILED = "'ActiveState': 'failed'"

#: What is said where the connection was closed or reset.
CLOSED = r"expected 'hello\\n', got nothing"


#: What is said of a service whose program has gone after a reply: it depends on who notices first, and on whether
#: somebody starts it again.
AWAY = r"(did not stay awake: |failed its warm probe by socat over tcp4: (another run answered: |expected .*; ))"


#: SIGABRT, or as process 1, which no signal of its own ends, the illegal instruction behind it.
ABORTED = "the program ended with status 13[0-9]"


def silence(seconds: int) -> str:
    """Return what is said where the client waited in vain, or has found out that nothing can come."""
    limit = rf"\(\d+\.\d s of {seconds} s\)\.$"
    return rf"expected 'hello\\n', got nothing(: timed out after \d+\.\d s)? {limit}"


@dataclass(frozen=True, slots=True)
class Control:
    """A broken image, what the suite is to say of it, and what a stranger is to learn from that."""

    #: Name of the folder below tests/broken.
    image: str
    #: A test and a transport -> the outcome; nothing else is run.
    outcomes: Mapping[str, str]
    #: Regular expressions for the text of every failure, in the order in which they have to match.
    words: tuple[str, ...] = ()
    activation: str = "unit"
    #: More arguments for pytest.
    arguments: tuple[str, ...] = ()

    @property
    def transports(self) -> list[str]:
        """The transports that are probed."""
        return sorted({key.split()[1] for key in self.outcomes})

    @property
    def tests(self) -> list[str]:
        """The tests that are run."""
        return sorted({f"{SUITE}::{key.split()[0]}" for key in self.outcomes})

    @property
    def expected(self) -> dict[str, str]:
        """Name of each test in the report -> its outcome."""
        return {
            f"{test}[{self.image}-{self.activation}-{transport}]": outcome
            for (test, transport), outcome in ((key.split(), outcome) for key, outcome in self.outcomes.items())
        }


def probe_failed(kind: str, transport: str, reply: str, *seen: str) -> tuple[str, ...]:
    """Return what must be said of a failed probe: who asked whom and how, what came back, what the units say.

    Before what came back stands why, as far as it shows; tests/faults has the words.
    """
    return (
        rf"\A{SUITE}:\d+: in test_reply",
        rf"^The service '[a-z-]+' \([a-z]+\) failed its {kind} probe by socat "
        rf"over {transport}: (.+; )?{reply}",
        r"^  sent:\n    'hello\\n'$",
        r"^  reproduce:\n    printf %s 'hello\n    ' \| .* socat -t \d+ - ",
        r"^  units:\n",
        *seen,
        r"^  systemd --user:\n",
        r"^Hint: .*--harness-keep=on-failure",
        r"^\[image error: ProbeFailed\]\Z",
    )


CONTROLS = {
    "keeps every promise": Control(
        "honest",
        {"test_reply tcp4": "passed", "test_reply_again tcp4": "passed"},
    ),
    "ignores its sockets": Control(
        "ignores-sockets",
        {"test_reply tcp4": "failed", "test_reply udp4": "failed"},
        probe_failed(
            "cold",
            "(tcp4|udp4)",
            silence(3),
            rf"^    ignores-sockets\.socket: .*{ACTIVE}.*\n    ignores-sockets\.service: .*{ACTIVE}",
        ),
    ),
    "answers wrong bytes over udp6": Control(
        "wrong-bytes",
        {
            "test_reply tcp4": "passed",
            "test_reply tcp6": "passed",
            "test_reply udp4": "passed",
            "test_reply udp6": "failed",
            "test_reply unix": "passed",
        },
        probe_failed("cold", "udp6", r"expected 'hello\\n', got 'HELLO\\n' \(\d+\.\d s of 15 s\)\.$"),
        activation="generate",
    ),
    "serves only the first of its sockets": Control(
        "first-only",
        {"test_reply tcp4": "passed", "test_reply tcp6": "failed"},
        probe_failed(
            "cold",
            "tcp6",
            silence(5),
            rf"^    first-only\.service: .*{ACTIVE}",
        ),
    ),
    "is not the process of LISTEN_PID": Control(
        "shell-wrapper",
        {"test_reply tcp4": "failed"},
        probe_failed(
            "cold",
            "tcp4",
            CLOSED,
            rf"^    shell-wrapper\.socket: .*{FAILED}.*'service-start-limit-hit'",
            rf"^    shell-wrapper\.service: .*{FAILED}.*'exit-code'",
            r"^  output of shell-wrapper\.service:\n",
            r"^    broken: LISTEN_PID is 1, but this is process [2-9]",
        ),
    ),
    "dies on start": Control(
        "dies-on-start",
        {"test_reply tcp4": "failed"},
        probe_failed(
            "cold",
            "tcp4",
            CLOSED,
            rf"^    dies-on-start\.socket: .*{FAILED}.*'service-start-limit-hit'",
            rf"^    dies-on-start\.service: .*{FAILED}.*'exit-code'",
            r"^  output of dies-on-start\.service:\n",
            r"^    broken: dies on start$",
        ),
    ),
    "dies on start, by the launcher": Control(
        "dies-on-start",
        {"test_reply tcp4": "failed"},
        probe_failed(
            "cold",
            "tcp4",
            CLOSED,
            r"^  output of dies-on-start-stream\.service:\n",
            r"^    broken: dies on start$",
        ),
        activation="launcher",
    ),
    "ends on start": Control(
        "exits-zero",
        {"test_reply tcp4": "failed"},
        probe_failed(
            "cold",
            "tcp4",
            CLOSED,
            rf"^    exits-zero\.socket: .*{FAILED}.*'service-start-limit-hit'",
            rf"^    exits-zero\.service: .*{FAILED}.*'start-limit-hit'",
        ),
    ),
    "answers too late": Control(
        "slow",
        {"test_reply tcp4": "failed"},
        probe_failed("cold", "tcp4", silence(1)),
    ),
    "is given more time": Control(
        "slow",
        {"test_reply tcp4": "passed"},
        arguments=("--harness-timeout-scale=15",),
    ),
    "sends more than promised": Control(
        "extra-bytes",
        {"test_reply tcp4": "failed", "test_reply udp4": "failed"},
        probe_failed("cold", "(tcp4|udp4)", r"expected 'hello\\n', got 'hello\\nbye\\n' "),
    ),
    "never ends its reply": Control(
        "never-closes",
        {"test_reply tcp4": "failed"},
        probe_failed(
            "cold", "tcp4", r"got 'hello\\n' as expected, but timed out after \d+\.\d s \(\d+\.\d s of 4 s\)\.$"
        ),
    ),
    "answers only its first client": Control(
        "answers-once",
        {"test_reply tcp4": "failed", "test_reply_again tcp4": "passed"},
        probe_failed("warm", "tcp4", silence(2)),
    ),
    "spoils systemd's socket at its end": Control(
        "shuts-down",
        {"test_reply tcp4": "passed", "test_reply_again tcp4": "failed"},
        (
            *probe_failed(
                "cold",
                "tcp4",
                r"expected 'hello\\n', got nothing: .*Connection refused \(",
                rf"^    shuts-down\.socket: .*{FAILED}",
            )[:-3],
            r"shuts-down\.socket: .*The service probably invoked shutdown\(\)",
        ),
    ),
    # It listens anew at each start: the same image is no trouble there.
    "spoils the launcher's socket at its end": Control(
        "shuts-down",
        {"test_reply tcp4": "passed", "test_reply_again tcp4": "passed"},
        activation="launcher",
    ),
    **{
        f"aborts after each reply, by {activation}": Control(
            "aborts",
            {"test_reply tcp4": "failed"},
            (
                rf"\A{SUITE}:\d+: in test_reply",
                rf"^The service 'aborts' \({activation}\) {AWAY}{ABORTED} after its first reply\.$",
                r"^\[image error: ProbeFailed\]\Z",
            ),
            activation=activation,
        )
        for activation in ("unit", "generate", "launcher")
    },
    "aborts after every third reply": Control(
        "aborts-at-times",
        {"test_reply tcp4": "failed"},
        (rf"another run answered: {ABORTED} after 3 replies\.$",),
    ),
    "aborts after every third reply, by the launcher": Control(
        "aborts-at-times",
        {"test_reply tcp4": "failed"},
        (rf"expected 'hello\\n', got nothing: .*refused \(.*\); {ABORTED} after 3 replies\.$",),
        activation="launcher",
    ),
    "does not stop": Control(
        "ignores-stop",
        {"test_reply tcp4": "passed", "test_reply_again tcp4": "failed"},
        (
            rf"\A{SUITE}:\d+: in test_reply_again",
            r"^Waited \d+\.\d s for the job of 'ignores-stop\.service'; the last thing seen was '.*'deactivating'",
            r"^Hint: As process 1 a program gets SIGTERM only if it handles it\. .*init = true",
            r"^\[image error: WaitTimeout\]\Z",
        ),
    ),
    "wakes before its first client": Control(
        "honest",
        {"test_reply tcp4": "failed", "test_reply_again tcp4": "failed"},
        (
            r"^The service 'honest' \(unit\) was awake before its first client came\.$",
            rf"^  units:\n    honest\.socket: .*{ACTIVE}",
            r"^\[image error: ProbeFailed\]\Z",
        ),
        arguments=("-p", "tests.controls.mutations", "--sabotage=early-client"),
    ),
    "wakes before the launcher's first client": Control(
        "honest",
        {"test_reply tcp4": "failed"},
        (r"^The service 'honest' \(launcher\) was awake before its first client came\.$", rf"^  units:\n.*{ACTIVE}"),
        activation="launcher",
        arguments=("-p", "tests.controls.mutations", "--sabotage=early-client"),
    ),
    "answers but is never ready": Control(
        "honest",
        {"test_reply tcp4": "failed"},
        (
            r"^Waited \d+\.\d s for the unit 'honest\.service' to be active; .*'ActiveState': 'activating'",
            r"^\[image error: ",
        ),
        arguments=("-p", "tests.controls.mutations", "--sabotage=never-ready", "--harness-timeout-scale=0.3"),
    ),
}


def _marks(control: Control) -> list[pytest.MarkDecorator]:
    needed = sorted({row for name in control.transports if (row := ROWS[Transport(name)].capability)})
    return [pytest.mark.harness_requires(*needed)] if needed else []


@pytest.mark.parametrize(
    "control", [pytest.param(control, id=name, marks=_marks(control)) for name, control in CONTROLS.items()]
)
def test_red_for_its_own_reason(
    control: Control, harness_runtime: Runtime, built: Callable[[str], Image], tmp_path: Path
) -> None:
    """Exactly the tests of the broken promise are red, with a bundle each, and the text says why."""
    folder = f"{BROKEN}/{control.image}"
    built(folder)
    run = run_pytest(
        tmp_path,
        *control.tests,
        f"--harness-contract={folder}",
        f"--harness-base={harness_runtime.base}",
        f"--harness-activation={control.activation}",
        f"--harness-transports={','.join(control.transports)}",
        *control.arguments,
    )
    assert run.outcomes == control.expected, run.output
    red = sorted(name for name, outcome in control.expected.items() if outcome == "failed")
    assert run.status == (1 if red else 0), run.output
    assert sorted(run.texts) == red
    for name in red:
        assert_has(run.texts[name], control.words)
        assert "Traceback" not in run.texts[name]
    assert sorted(bundle.name for bundle in tmp_path.glob("artifacts/*/")) == sorted(map(bundle_name, red))
    for name in red:
        assert f"{tmp_path}/artifacts/{bundle_name(name)}: " in run.output, "the failure tells where its bundle is"


def test_an_image_that_does_not_exist(tmp_path: Path) -> None:
    """The error names the image and every place that was searched."""
    run = run_pytest(
        tmp_path,
        f"{SUITE}::test_reply",
        f"--harness-contract={BROKEN}/missing-image",
        "--harness-activation=unit",
    )
    name = "test_reply[missing-image-unit-tcp4]"
    assert run.status in RED, run.output
    assert run.outcomes == {name: "error"}, run.output
    assert_has(
        run.texts[name],
        (
            rf"^The image '{NEVER_WAS}' for 'missing-image' is neither in the harness's store, nor in your own podman",
            r"^Hint: Build it with 'podman build', or correct its name\.$",
            r"^\[image error: ImageError\]\Z",
        ),
    )
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("activation", "states"),
    [
        (
            "unit",
            (rf"^    honest\.socket: .*{FAILED}.*'service-start-limit-hit'", rf"^    honest\.service: .*{FAILED}"),
        ),
        # Its client is rid of podman a moment before systemd is.
        ("launcher", ()),
    ],
)
def test_pull_never(activation: str, states: tuple[str, ...], harness_runtime: Runtime) -> None:
    """An image that is gone when the first client comes: the words of podman are shown, and what systemd made of it."""
    with (
        harness_runtime.service(CONTRACT, activation, GONE) as service,
        pytest.raises(ProbeFailed) as caught,
    ):
        service.ask_cold(Transport.TCP4)
    assert caught.value.blame is Blame.IMAGE
    assert_has(
        str(caught.value),
        (
            rf"\AThe service 'honest' \({activation}\) failed its cold probe by socat over tcp4: {CLOSED}",
            r"^  units:\n",
            *states,
            r"^  output of honest(-stream)?\.service:\n",
            rf"^    Error: {NEVER_WAS}: image not known$",
        ),
    )


def test_pull_never_while_generating(harness_runtime: Runtime) -> None:
    """`podman generate systemd` needs a container, so there the missing image is noticed before any client."""
    with (
        pytest.raises(CommandError) as caught,
        harness_runtime.service(CONTRACT, "generate", GONE),
    ):
        pytest.fail("there can be no service")
    assert caught.value.status == 125
    assert caught.value.blame is Blame.IMAGE
    assert_has(
        str(caught.value), (r"^    .*podman create .*--pull=never", rf"^    Error: {NEVER_WAS}: image not known$")
    )


def bundle_name(test: str) -> str:
    """Return the name of the folder of a test's bundle."""
    return "suites-test_replies.py-" + test.replace("[", "-").removesuffix("]")
