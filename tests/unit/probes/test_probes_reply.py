"""What is wrong with a reply, in words; and the line that asks for it again."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from harness.contract import BytesProbe, ConnectProbe, ExecProbe, HttpProbe
from harness.core.transports import Endpoint, Transport
from harness.probes import Client, Reply, Times, clients, judge
from harness.probes.reading import settled

BYTES = BytesProbe(kind="bytes", send="é\n", expect="é\n")
PAGE = HttpProbe(kind="http", status=(200, 403), contains="títle")
ENDPOINT = Endpoint(Transport.TCP4, 3000)


def reply(
    body: bytes = b"", complaint: str = "", status: int = 0, *, sent: bytes = b"", command: tuple[str, ...] = ()
) -> Reply:
    """Return a reply that took from second 10 to second 12.5."""
    return Reply(ENDPOINT, "socat", sent, body, Times(10, None, None, 12.5), complaint, status, command)


@pytest.mark.parametrize(
    ("body", "complaint", "wrong"),
    [
        ("é\n".encode(), "", ""),
        ("é\n".encode(), "a reset", r"got '\xc3\xa9\n' as expected, but a reset"),
        (b"", "", r"expected '\xc3\xa9\n', got nothing"),
        (b"", "Connection refused", r"expected '\xc3\xa9\n', got nothing: Connection refused"),
        ("é".encode(), "", r"expected '\xc3\xa9\n', got '\xc3\xa9'"),
        ("é\né\n".encode(), "", r"expected '\xc3\xa9\n', got '\xc3\xa9\n\xc3\xa9\n'"),
        (b"\xff'", "", "expected '\\xc3\\xa9\\n', got \"\\xff'\""),
        (b"E\n", "reset", r"expected '\xc3\xa9\n', got 'E\n'"),
        (b"x" * 80, "", r"expected '\xc3\xa9\n', " + f"got '{'x' * 80}'"),
        (b"x" * 81, "", r"expected '\xc3\xa9\n', " + f"got '{'x' * 80}' and 1 more bytes"),
    ],
)
def test_bytes_are_compared_one_by_one(body: bytes, complaint: str, wrong: str) -> None:
    """What came is shown as it is, unless it is long; what the client said counts, too."""
    assert judge(reply(body, complaint), BYTES) == wrong


@pytest.mark.parametrize(
    ("body", "status", "complaint", "wrong"),
    [
        ("a títle".encode(), 200, "", ""),
        ("a títle".encode(), 403, "", ""),
        ("a títle".encode(), 500, "", "expected the HTTP status 200 or 403, got 500"),
        (b"", 500, "", "expected the HTTP status 200 or 403, got 500"),
        ("a títle".encode(), 200, "curl: (18) cut", "got a page as expected, but curl: (18) cut"),
        (b"a title", 200, "", "expected a page that contains 'títle', got one of 7 bytes that does not"),
        (b"", 200, "", "expected a page that contains 'títle', got one of 0 bytes that does not"),
        (b"", 0, "", "expected a page, got nothing"),
        (b"", 0, "curl: (7) no", "expected a page, got nothing: curl: (7) no"),
    ],
)
def test_a_page_has_a_status_and_a_text(body: bytes, status: int, complaint: str, wrong: str) -> None:
    """The status is told before the text: a page of an error rarely has the right one."""
    assert judge(reply(body, complaint, status), PAGE) == wrong


def test_a_connection_is_accepted_or_not() -> None:
    """Nothing has to come of it."""
    assert judge(reply(), ConnectProbe(kind="connect")) == ""
    wrong = judge(reply(complaint="timed out after 3.0 s"), ConnectProbe(kind="connect"))
    assert wrong == "expected to be accepted, and was not: timed out after 3.0 s"


MATCHED = BytesProbe(kind="bytes", send="a", expect_pattern=r"^a+\n$")
HEADED = HttpProbe(kind="http", header={"Server": "^nginx/", "X-Two": "b"}, pattern=r"^title\b")
PROGRAM = ExecProbe(kind="exec", command=("client",), status=(0, 3), contains="well", pattern=r"\d$")


@pytest.mark.parametrize(
    ("body", "complaint", "wrong"),
    [
        (b"aaa\n", "", ""),
        (b"aaa\n", "a reset", r"got 'aaa\n' as expected, but a reset"),
        (b"aab\n", "", r"expected what matches '^a+\n$', got 'aab\n'"),
        (b"", "", r"expected what matches '^a+\n$', got nothing"),
        (b"\xffaaa\n", "", r"expected what matches '^a+\n$', got '\xffaaa\n'"),
    ],
)
def test_bytes_may_match_a_pattern(body: bytes, complaint: str, wrong: str) -> None:
    """The pattern is shown as the contract has it."""
    assert judge(reply(body, complaint), MATCHED) == wrong


@pytest.mark.parametrize(
    ("headers", "body", "wrong"),
    [
        ({"server": ("nginx/1.2",), "x-two": ("a", "b")}, b"title", ""),
        ({"x-two": ("b",)}, b"title", "expected a header 'Server' that matches '^nginx/', got none"),
        (
            {"server": ("httpd",), "x-two": ("b",)},
            b"title",
            "expected a header 'Server' that matches '^nginx/', got 'httpd'",
        ),
        (
            {"server": ("nginx/1",), "x-two": ("a", "c")},
            b"title",
            "expected a header 'X-Two' that matches 'b', got 'a' and 'c'",
        ),
        (
            {"server": ("nginx/1",), "x-two": ("b",)},
            b"titles",
            r"expected a page that matches '^title\b', got one of 6 bytes that does not",
        ),
    ],
)
def test_a_page_has_headers(headers: dict[str, tuple[str, ...]], body: bytes, wrong: str) -> None:
    """Whatever the case of their names; one value of several is enough."""
    assert judge(replace(reply(body, status=200), headers=headers), HEADED) == wrong


#: Of what a program says the beginning and the end stay: the reason is in either.
MUCH = r"expected the exit status 0 or 3, got 1 and the error 'first\n[50 lines left out]\nlast'"


@pytest.mark.parametrize(
    ("status", "body", "complaint", "wrong"),
    [
        (0, b"all is well 1", "", ""),
        (3, b"all is well 1", "a warning", ""),
        (1, b"all is well 1", "", "expected the exit status 0 or 3, got 1"),
        (1, b"", "no such host", "expected the exit status 0 or 3, got 1 and the error 'no such host'"),
        (0, b"ill 1", "", "expected an output that contains 'well', got 'ill 1'"),
        (0, b"well", "a warning", r"expected an output that matches '\d$', got 'well' and the error 'a warning'"),
        (None, b"", "too late", "expected the exit status 0 or 3, got none: too late"),
        (1, b"", "first\n" + "between\n" * 50 + "last", MUCH),
    ],
)
def test_a_program_has_a_status_and_an_output(status: int | None, body: bytes, complaint: str, wrong: str) -> None:
    """What it complained of counts only where something is wrong: many programs warn."""
    assert judge(replace(reply(body, complaint), exit_status=status), PROGRAM) == wrong


HALF_CLOSING = BytesProbe(kind="bytes", send="a", half_close=True, expect="ab")


@pytest.mark.parametrize(
    ("promised", "undecided", "decided"),
    [
        (BytesProbe(kind="bytes", expect="ab"), (b"", b"a"), (b"ab", b"abc", b"b", b"ac")),
        (BytesProbe(kind="bytes", expect_pattern="b$"), (b"", b"a"), (b"b", b"ab", b"\xffb")),
        # A reply that has not begun is none, whatever matches it.
        (BytesProbe(kind="bytes", expect_pattern="^a*"), (b"",), (b"a", b"b")),
    ],
)
def test_when_a_reply_is_settled(
    promised: BytesProbe, undecided: tuple[bytes, ...], decided: tuple[bytes, ...]
) -> None:
    """When all has come that was expected, or what can't become that any more."""
    told = settled(promised)
    assert told is not None
    assert [told(body) for body in undecided] == [False] * len(undecided)
    assert [told(body) for body in decided] == [True] * len(decided)


def test_the_reply_to_a_half_closing_client_ends_with_its_connection() -> None:
    """No bytes can tell that the service closes."""
    assert settled(HALF_CLOSING) is None


def test_no_pattern_hangs() -> None:
    """One that takes other engines for ever, see catastrophic backtracking."""
    slow = BytesProbe(kind="bytes", send="a", expect_pattern="^(a+)+$")
    assert judge(reply(b"a" * 60000 + b"b"), slow).startswith("expected what matches '^(a+)+$', got 'aaa")


def test_how_long_it_took() -> None:
    """From the client's start to its end."""
    assert reply().times.whole_s == 2.5


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"", "socat - 'a b' </dev/null"),
        (b"hello\n", "printf %s 'hello\n' | socat - 'a b'"),
        (b"it's", """printf %s 'it'"'"'s' | socat - 'a b'"""),
    ],
)
def test_the_line_that_asks_again(sent: bytes, line: str) -> None:
    """Quoted for a shell."""
    made = reply(sent=sent, command=("socat", "-", "a b"))

    assert made.reproducer == line
    assert "a b" in shlex.split(line)


def test_no_line_without_a_program() -> None:
    """The native client is named by what it did."""
    assert reply(sent=b"x").reproducer == "(a socket of the harness's own, connected to tcp4:127.0.0.1:3000)"


def test_who_asks_for_bytes() -> None:
    """The client of the tutorial first."""
    assert clients(BYTES) == (Client.SOCAT, Client.NATIVE)
