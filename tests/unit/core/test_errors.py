"""Every error names the thing, shows what was seen, tells the way out and who has to act."""

from __future__ import annotations

import pytest

from harness.core import errors
from harness.core.errors import (
    SHOWN_LINES,
    Blame,
    CapabilityMissing,
    CommandError,
    ContractError,
    HarnessError,
    ImageError,
    LockBusy,
    ProbeFailed,
    SessionError,
    UnitFailed,
    UsageError,
    WaitTimeout,
    middle,
    tail,
)
from harness.core.hints import hint

BLAME = {
    UsageError: Blame.INPUT,
    ContractError: Blame.INPUT,
    CapabilityMissing: Blame.MACHINE,
    LockBusy: Blame.MACHINE,
    SessionError: Blame.MACHINE,
    CommandError: Blame.HARNESS,
    ImageError: Blame.IMAGE,
    UnitFailed: Blame.UNKNOWN,
    WaitTimeout: Blame.HARNESS,
    ProbeFailed: Blame.IMAGE,
}


# -- rendering --------------------------------------------------------------------------------------------------------


def test_the_whole_text_in_the_order_in_which_to_read_it() -> None:
    """The sentence, the evidence as it was given, the way out, the blame; nothing else."""
    error = ImageError("The image 'x' is bad.", hint="Mend it.", evidence={"b": "one\ntwo\n", "a": "three"})

    assert str(error).split("\n") == [
        "The image 'x' is bad.",
        "  b:",
        "    one",
        "    two",
        "  a:",
        "    three",
        "Hint: Mend it.",
        "[image error: ImageError]",
    ]


def test_what_is_empty_is_not_shown() -> None:
    """Neither a blank piece of evidence nor a missing hint leaves a line."""
    assert str(HarnessError("It broke.", evidence={"stdout": "", "stderr": " \n"})) == (
        "It broke.\n[harness error: HarnessError]"
    )


def test_an_error_shows_the_last_lines_of_long_output() -> None:
    """The end is where the reason is; how much is left out is said, and the error itself holds all of it."""
    output = "\n".join(f"line {number}" for number in range(SHOWN_LINES + 10))
    error = HarnessError("It broke.", evidence={"output": output})

    shown = [line.strip() for line in str(error).split("\n")[2:-1]]

    assert shown[:2] == ["[10 lines left out]", "line 10"]
    assert shown[-1] == f"line {SHOWN_LINES + 9}"
    assert error.evidence["output"] == output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("a\nb\nc", "a\nb\nc"),
        ("a\nb\nc\n\n", "a\nb\nc"),
        ("a\nb\nc\nd", "[1 lines left out]\nb\nc\nd"),
        ("a\n\n\n\nb", "[2 lines left out]\n\n\nb"),
    ],
)
def test_tail(text: str, shown: str) -> None:
    """At most so many lines, empty ones at the end not counted."""
    assert tail(text, 3) == shown


def test_the_caller_keeps_its_own_evidence() -> None:
    """What an error is given is copied, so that changing it later changes no error."""
    seen = {"a": "one"}
    error = HarnessError("It broke.", evidence=seen)
    seen["a"] = "two"

    assert error.evidence == {"a": "one"}


# -- the classes ------------------------------------------------------------------------------------------------------


def test_every_error_belongs_to_the_tree() -> None:
    """Whoever catches the root catches all of them, and each says what it is for and who has to act."""
    known = {item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)}
    ours = {item for item in known if issubclass(item, HarnessError)}

    assert set(BLAME) < ours == known
    assert [item for item in ours if not item.__doc__ or item.blame not in Blame] == []


@pytest.mark.parametrize(("kind", "blame"), BLAME.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_who_has_to_act(kind: type[HarnessError], blame: Blame) -> None:
    """The blame belongs to the class."""
    assert kind.blame is blame


@pytest.mark.parametrize(
    ("mistakes", "count"),
    [([("name", "bad")], "has 1 mistake."), ([("name", "bad"), ("probe", "x")], "has 2 mistakes.")],
)
def test_a_contract_error_has_all_mistakes(mistakes: list[tuple[str, str]], count: str) -> None:
    """The file, how many, and one line for each."""
    error = ContractError("a/contract.toml", mistakes)

    assert error.sentence == f"The contract 'a/contract.toml' {count}"
    assert error.mistakes == tuple(mistakes)
    assert [line.strip() for line in str(error).split("\n")[2 : 2 + len(mistakes)]] == [
        f"{key}: {text}" for key, text in mistakes
    ]
    assert error.hint


@pytest.mark.parametrize(
    ("status", "timeout_s", "ending"),
    [
        (3, None, "ended with status 3"),
        (126, None, "ended with status 126"),
        (127, None, "could not be started (status 127: not found)"),
        (-9, None, "was killed by signal 9"),
        (None, 1.5, "did not end within 1.5 s"),
        (None, None, "did not end"),
    ],
)
def test_how_a_program_ended(status: int | None, timeout_s: float | None, ending: str) -> None:
    """Each way to end has words of its own."""
    error = CommandError(["podman", "run"], status, timeout_s=timeout_s)

    assert error.sentence == f"The program 'podman' {ending}."
    assert (error.command, error.status, error.timeout_s) == (("podman", "run"), status, timeout_s)


def test_a_command_error_can_be_pasted_into_a_shell() -> None:
    """The command is quoted; output that is no text is shown as well as can be."""
    error = CommandError(["sh", "-c", "echo $HOME; false"], 1, stdout=b"out\n", stderr=b"\xff!\n")

    assert error.evidence == {"command": "sh -c 'echo $HOME; false'", "stdout": "out\n", "stderr": "\ufffd!\n"}
    assert (error.stdout, error.stderr) == (b"out\n", b"\xff!\n")


def test_a_missing_capability_names_itself_and_the_remedy() -> None:
    """What is missing, what was found instead, how to get it."""
    error = CapabilityMissing("ipv6_loopback", "no ::1", "boot without ipv6.disable=1")

    assert (error.capability, error.found) == ("ipv6_loopback", "no ::1")
    assert str(error).split("\n") == [
        "This machine lacks the capability 'ipv6_loopback': no ::1.",
        "Hint: boot without ipv6.disable=1",
        "[environment error: CapabilityMissing]",
    ]


def test_a_failed_unit_says_its_state() -> None:
    """systemd's own properties are in the sentence and in the object."""
    properties = {"ActiveState": "failed", "Result": "exit-code"}
    error = UnitFailed("a.service", properties, evidence={"output": "no"})

    assert error.sentence == "The unit 'a.service' failed: ActiveState=failed, Result=exit-code."
    assert (error.unit, error.properties, error.evidence) == ("a.service", properties, {"output": "no"})


def test_a_timeout_says_what_was_seen_instead() -> None:
    """What was awaited, for how long, the last thing seen."""
    error = WaitTimeout("a socket", 2.04, {"SubState": "dead"})

    assert error.sentence == "Waited 2.0 s for a socket; the last thing seen was '{'SubState': 'dead'}'."
    assert (error.awaited, error.waited_s, error.seen) == ("a socket", 2.04, {"SubState": "dead"})


@pytest.mark.parametrize(
    "error",
    [
        ImageError("The disk is full.", blame=Blame.MACHINE),
        UnitFailed("a.service", {}, evidence={}, blame=Blame.MACHINE),
    ],
    ids=["image", "unit"],
)
def test_one_error_may_know_better_than_its_class(error: HarnessError) -> None:
    """What is known of the message decides who has to act; the class stays as it is."""
    assert str(error).endswith(f"[environment error: {type(error).__name__}]")
    assert type(error).blame is not Blame.MACHINE


# -- advice -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("write /x: no space left on device", "images prune"),
        ("No Space Left On Device", "images prune"),
        ("Temporary failure resolving 'deb'", "resolved"),
        ("curl: (6) Could not resolve host: x", "resolved"),
        ("dial tcp: lookup example on 10.0.0.1:53: no such host", "resolved"),
        ("lookup example: server misbehaving", "resolved"),
        ("cannot set up namespace using newuidmap", "subuid(5)"),
        ("newuidmap: write to uid_map failed: Operation not permitted", "subuid(5)"),
        ("no subuid ranges found for user", "subuid(5)"),
        ("a.service: Cannot find unit for notify message of PID 7, ignoring.", "podman unshare true"),
    ],
)
def test_known_messages_have_a_way_out(output: str, advice: str) -> None:
    """The message may stand anywhere in the output, in any case; all of these are the machine's to mend."""
    found = hint(f"first line\n{output}\nlast line")

    assert advice in found.advice
    assert found.blame is Blame.MACHINE


@pytest.mark.parametrize("output", ["", "exit status 1", "lookup of the answer", "namespace"])
def test_an_unknown_message_gets_no_advice(output: str) -> None:
    """No advice is better than a wrong one."""
    assert (hint(output).advice, hint(output).blame) == ("", None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("a\nb\nc\nd\n", "a\nb\nc\nd"),
        ("a\nb\nc\nd\ne", "a\n[2 lines left out]\nd\ne"),
        ("x" * 30, "x" * 30),
        ("first" + "x" * 90 + "last!", "firstxxxxxxxxxx[70 characters left out]xxxxxxxxxxlast!"),
    ],
)
def test_middle(text: str, shown: str) -> None:
    """The beginning and the end stay."""
    assert middle(text, 4, 30) == shown
