"""Whatever stands in a file: it is a contract or has mistakes, and nothing else ever comes of it."""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.contract import Contract, load, parse
from harness.core.errors import ContractError, UsageError
from tests.helpers.runs import SETTINGS

FILE = Path("contract.toml")

#: Many examples of each, since one costs less than a millisecond; the same in every run.
RANDOM = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

#: Longest reading of one text, in seconds; what hangs takes far longer, noise far less.
LIMIT_S = 20.0

WORDS = (
    "schema name description image sockets probe limits budgets containerfile reference command environment user",
    "read_only init network ready handover volumes tmpfs secrets options transports port path fixed_port cid probed",
    "kind send expect expect_pattern status header contains pattern stdin variable separator end files mode size",
    "SocketMode Backlog NoDelay cap-add userns cold_s warm_ms LISTEN_FDS a.b",
)
KEYS = st.sampled_from(" ".join(WORDS).split()) | st.text(max_size=8)

SCALARS = (
    st.none().map(lambda _: "")
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(
        [
            "tcp4",
            "udp6",
            "unix",
            "vsock",
            "bytes",
            "http",
            "exec",
            "{path}",
            "{secret:x}",
            "(",
            "0600",
            "/",
            "../..",
            3000,
        ]
    )
)

VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)


def understood(text: str) -> Contract | ContractError:
    """Return what becomes of a text; any other exception goes through."""
    started = time.monotonic()
    found: Contract | ContractError
    try:
        found = parse(text, FILE)
    except ContractError as error:
        found = error
    assert time.monotonic() - started < LIMIT_S
    if isinstance(found, ContractError):
        assert found.mistakes
        assert all(key and told for key, told in found.mistakes)
        assert str(found)
    return found


def toml(value: Any) -> str:
    """Return a value as TOML has it in a line."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{quoted(key)} = {toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return quoted(value)
        case _:
            return repr(value)


def quoted(text: str) -> str:
    """Return a text in double quotes; JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(table: dict[str, Any]) -> str:
    """Return a whole file."""
    return "".join(f"{quoted(key)} = {toml(value)}\n" for key, value in table.items())


@RANDOM
@given(st.text() | st.text(alphabet="[]{}=\"'\\\n.#,-_ a1"))
def test_any_text(text: str) -> None:
    """Mostly no TOML at all."""
    assert isinstance(understood(text), ContractError)


@RANDOM
@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_table(table: dict[str, Any]) -> None:
    """TOML with a contract's words in wrong places; the words that belong together are never all there."""
    found = understood(written(table))
    assert isinstance(found, ContractError)
    # What is no TOML at all is the only mistake of its file; a random key may have that name.
    assert [key for key, _said in found.mistakes] != ["TOML"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inner for found in ((*path, key), *places(item, (*path, key)))]


GOOD = json.loads(load(SETTINGS).model_dump_json(by_alias=True, exclude_none=True))


@RANDOM
@given(st.data())
def test_one_value_of_a_good_contract_changed(data: st.DataObject) -> None:
    """Replaced by anything, or left out."""
    table = copy.deepcopy(GOOD)
    *way, last = data.draw(st.sampled_from(places(GOOD)))
    parent = table
    for key in way:
        parent = parent[key]
    if data.draw(st.booleans()):
        parent[last] = data.draw(VALUES)
    else:
        del parent[last]
    understood(written(table))


def test_the_contract_that_is_changed_is_good() -> None:
    """Else the test before would prove little."""
    assert isinstance(understood(written(GOOD)), Contract)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 4000,
        "\n".join(["a = ["] * 20000),
        "\n".join("[" + ".".join("a" * 2000) + f".b{number}]" for number in range(15)),
        "schema = 0x" + "f" * 4000,
        "schema = " + "9" * 4090,
        "schema = " + "9" * 4900,
        "a = 1" * 2000,
        "#" * 70000,
        "x = 1\n" * 10000,
        "name = '" + "a" * 4000 + "'",
        "[probe]\nkind='bytes'\nsend='a'\nexpect_pattern='" + "(a*)*" * 200 + "'",
        "[probe]\nkind='bytes'\nsend='a'\nexpect_pattern='(x{1000}){1000}{1000}'",
    ],
    ids=lambda text: f"{text[:12]!r}... {len(text)}",
)
def test_what_is_made_to_be_slow(text: str) -> None:
    """Nested, long, many, big: refused at once."""
    assert isinstance(understood(text), ContractError)


def test_what_is_no_file(tmp_path: Path) -> None:
    """Reading a FIFO would wait for its writer, /dev/zero never ends."""
    fifo = tmp_path / "contract.toml"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        with pytest.raises(UsageError, match="no regular file"):
            load(path)
