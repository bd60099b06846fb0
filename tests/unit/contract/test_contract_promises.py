"""The kind `echo`, and the promises that a contract waives."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contract import EchoProbe, Promise, load
from harness.core.transports import Transport
from tests.helpers.contracts import BYTES, HEAD, TCP, mistakes_of, written

ECHO = '[probe]\nkind = "echo"\n'
GOOD = HEAD + TCP + BYTES
REASON = '"one client at a time, by design"'


def waiving(promise: str, text: str = GOOD, reason: str = REASON) -> str:
    """Return a contract that waives a promise."""
    return f"{text}[promises]\n{promise} = {reason}\n"


def test_an_echo_says_what_comes_back(tmp_path: Path) -> None:
    probe = load(written(tmp_path, HEAD + TCP + ECHO + 'send = "é"\nlargest = 70000\n')).probe(Transport.TCP4)
    assert isinstance(probe, EchoProbe)
    assert (probe.expected, probe.largest) == ("é".encode(), 70000)


def test_all_promises_are_made_by_default(tmp_path: Path) -> None:
    contract = load(written(tmp_path, GOOD))
    assert contract.promises == {}
    assert contract.limits.output_kib == 64
    assert contract.limits.idle_exit_s is None


def test_a_waiver_has_its_reason(tmp_path: Path) -> None:
    contract = load(written(tmp_path, waiving("rude_clients")))
    assert contract.promises == {Promise.RUDE_CLIENTS: "one client at a time, by design"}


IDLING = f"{GOOD}[limits]\nidle_exit_s = 1.0\n"


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            HEAD + TCP + ECHO + 'expect = "a"\n',
            "probe.expect",
            "known are transports, socket, send, half_close",
        ),
        (HEAD + TCP + ECHO + 'send = ""\n', "probe.send", "at least 1 character"),
        (HEAD + TCP + ECHO + "largest = 0\n", "probe.largest", "greater than or equal to 1"),
        (waiving("rude_clients", reason='""'), "promises.rude_clients", "at least 10 characters"),
        (waiving("rude_clients", reason="true"), "promises.rude_clients", "valid string"),
        (waiving("rudeness"), "promises.rudeness", "'every_socket', 'same_run', 'crowd'"),
        (waiving("sizes"), "promises.sizes", "nothing to waive: only a probe of the kind 'echo' promises it"),
        (waiving("idle"), "promises.idle", "nothing to waive: only 'limits.idle_exit_s' promises it"),
        (waiving("ready"), "promises.ready", "only 'image.ready = \"container\"' promises it"),
        (waiving("idle", IDLING), "promises.idle", "waived here and promised by 'limits.idle_exit_s'"),
        (f"{GOOD}[limits]\noutput_kib = 0\n", "limits.output_kib", "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(text: str, key: str, said: str, tmp_path: Path) -> None:
    mistakes = mistakes_of(tmp_path, text)
    assert list(mistakes) == [key]
    assert said in mistakes[key]


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = f'{HEAD}{TCP}{ECHO}expect = "a"\n[promises]\nidle = {REASON}\nquiet = ""\n'
    assert list(mistakes_of(tmp_path, text)) == ["probe.expect", "promises.quiet"]
    assert list(mistakes_of(tmp_path, waiving("idle") + f"sizes = {REASON}\n")) == ["promises.sizes", "promises.idle"]
