"""Every rule of a contract is refused with file, key and what is allowed, and all mistakes come at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contract import load
from harness.core.transports import Transport
from tests.helpers.contracts import BYTES, GOOD, HEAD, HTTP, TCP, UNIX, mistakes_of

# -- one mistake each -------------------------------------------------------------------------------------------------

RULES: dict[str, tuple[str, str, str]] = {
    # what is wrong: the contract, the key, a part of what is said of it
    "no schema": (GOOD.replace("schema = 1\n", ""), "schema", "required key is missing"),
    "newer schema": (GOOD.replace("schema = 1", "schema = 2"), "schema", "should be 1, not 2"),
    "schema as text": (GOOD.replace("schema = 1", 'schema = "1"'), "schema", "should be 1, not '1'"),
    "no name": (GOOD.replace('name = "echo"\n', ""), "name", "required key is missing"),
    "capitals": (GOOD.replace('"echo"', '"Echo"'), "name", "pattern"),
    "long name": (GOOD.replace('"echo"', f'"{"a" * 33}"'), "name", "pattern"),
    "hyphen last": (GOOD.replace('"echo"', '"echo-"'), "name", "pattern"),
    "empty name": (GOOD.replace('"echo"', '""'), "name", "pattern"),
    "path as name": (GOOD.replace('"echo"', '"../echo"'), "name", "pattern"),
    "line break in a name": (GOOD.replace('"echo"', '"echo\\n"'), "name", "pattern"),
    "number as name": (GOOD.replace('"echo"', "5"), "name", "valid string, not 5"),
    "no sockets": (HEAD + BYTES, "sockets", "required key is missing"),
    "empty sockets": (HEAD + "sockets = []\n" + BYTES, "sockets", "at least one is needed"),
    "no transports": (GOOD.replace('["tcp4"]', "[]"), "sockets[0].transports", "at least 1 item"),
    "unknown transport": (GOOD.replace('"tcp4"', '"tcp5"'), "sockets[0].transports[0]", "'vsock', not 'tcp5'"),
    "text for a list": (GOOD.replace('["tcp4"]', '"tcp4"'), "sockets[0].transports", "array, not 'tcp4'"),
    "twice the same": (GOOD.replace('["tcp4"]', '["tcp4", "tcp4"]'), "sockets[0]", "'tcp4' with 'tcp6'"),
    "stream with datagram": (GOOD.replace('["tcp4"]', '["tcp4", "udp4"]'), "sockets[0]", "'udp4' with 'udp6'"),
    "three at once": (GOOD.replace('["tcp4"]', '["tcp4", "tcp6", "udp4"]'), "sockets[0]", "one socket serves"),
    "tcp without port": (GOOD.replace("port = 3000\n", ""), "sockets[0]", "'tcp4' socket takes 'port' and no 'path'"),
    "tcp with path": (GOOD.replace("port = 3000\n", 'port = 3000\npath = "a"\n'), "sockets[0]", "no 'path'"),
    "unix with port": (HEAD + UNIX + "port = 3000\n" + BYTES, "sockets[0]", "takes 'path' and no 'port'"),
    "unix without path": (HEAD + UNIX.replace('path = "echo"\n', "") + BYTES, "sockets[0]", "takes 'path'"),
    "fixed unix": (HEAD + UNIX + "fixed_port = true\n" + BYTES, "sockets[0]", "'fixed_port' is for IP sockets"),
    "fixed vsock": (HEAD + TCP.replace("tcp4", "vsock") + "fixed_port = true\n" + BYTES, "sockets[0]", "IP sockets"),
    "fixed as text": (HEAD + TCP + 'fixed_port = "yes"\n' + BYTES, "sockets[0].fixed_port", "boolean, not 'yes'"),
    "port of root's": (GOOD.replace("3000", "1023"), "sockets[0].port", "expected a number from 1024 on, got 1023"),
    "port too high": (GOOD.replace("3000", "65536"), "sockets[0].port", "less than or equal to 65535, not 65536"),
    "port as text": (GOOD.replace("3000", '"3000"'), "sockets[0].port", "valid integer, not '3000'"),
    "port as truth": (GOOD.replace("3000", "true"), "sockets[0].port", "valid integer, not True"),
    "path upwards": (HEAD + UNIX.replace('"echo"', '"../echo"') + BYTES, "sockets[0].path", "expected a file name"),
    "path in a folder": (HEAD + UNIX.replace('"echo"', '"a/echo"') + BYTES, "sockets[0].path", "expected a file name"),
    "absolute path": (HEAD + UNIX.replace('"echo"', '"/echo"') + BYTES, "sockets[0].path", "expected a file name"),
    "long path": (HEAD + UNIX.replace('"echo"', f'"{"a" * 42}"') + BYTES, "sockets[0].path", "expected a file name"),
    "same address twice": (HEAD + UNIX + TCP + TCP + BYTES, "sockets", "twice: ListenStream=127.0.0.1:3000"),
    "same path twice": (HEAD + UNIX + UNIX + BYTES, "sockets", "stands twice: ListenStream=echo"),
    "no probe": (HEAD + TCP, "probe", "required key is missing"),
    "no kind": (GOOD.replace('kind = "bytes"\n', ""), "probe", "'kind'"),
    "unknown kind": (GOOD.replace('"bytes"', '"ftp"'), "probe", "'ftp'; known are bytes, connect, echo, exec, http"),
    "a connection over datagrams": (
        HEAD + TCP.replace("tcp", "udp") + '[probe]\nkind = "connect"\n',
        "probe.kind", "'connect' is for tcp4, tcp6 and unix, not for udp4",
    ),
    "half-close by datagrams": (
        HEAD + TCP + TCP.replace("tcp", "udp") + BYTES + "half_close = true\n",
        "probe.half_close", "not udp4; give the datagrams a probe of their own",
    ),
    "half-close by http": (
        HEAD + TCP + HTTP + "half_close = true\n",
        "probe.half_close", "'half_close' is for probes of the kind 'bytes'",
    ),
    "half-close by a program": (
        HEAD + TCP + '[probe]\nkind = "exec"\ncommand = ["a"]\nhalf_close = true\n',
        "probe.half_close", "'half_close' is for probes of the kind 'bytes'",
    ),
    "half-close as text": (GOOD + 'half_close = "yes"\n', "probe.half_close", "boolean, not 'yes'"),
    "first start shorter than others": (
        GOOD + "[limits]\nfirst_s = 3\n",
        "limits", "'first_s' is 3 and shorter than 'cold_s', which is 15",
    ),
    "no time for the first start": (GOOD + "[limits]\nfirst_s = 0\n", "limits.first_s", "greater than 0, not 0"),
    "nothing expected": (GOOD.replace('expect = "a"', 'expect = ""'), "probe.expect", "at least 1 character"),
    "too much sent": (GOOD.replace('send = "a"', f'send = "{"a" * 1025}"'), "probe.send", "at most 1024 characters"),
    "http over udp": (HEAD + TCP + TCP.replace("tcp", "udp") + HTTP, "probe.kind", "not over udp4"),
    "http over vsock": (HEAD + TCP.replace("tcp4", "vsock") + HTTP, "probe.kind", "tcp4, tcp6 and unix, not over v"),
    "page without slash": (HEAD + TCP + HTTP + 'path = "a"\n', "probe.path", "pattern"),
    "page with a space": (HEAD + TCP + HTTP + 'path = "/a b"\n', "probe.path", "pattern"),
    "low HTTP status": (HEAD + TCP + HTTP + "status = [200, 99]\n", "probe.status[1]", "or equal to 100, not 99"),
    "high HTTP status": (HEAD + TCP + HTTP + "status = [200, 600]\n", "probe.status[1]", "or equal to 599, not 600"),
    "no HTTP status": (HEAD + TCP + HTTP + "status = []\n", "probe.status", "at least 1 item"),
    "HTTP status alone": (HEAD + TCP + HTTP + "status = 200\n", "probe.status", "array, not 200"),
    "absolute file": (GOOD + '[image]\ncontainerfile = "/x"\n', "image.containerfile", "'../Containerfile'"),
    "file two up": (GOOD + '[image]\ncontainerfile = "../../x"\n', "image.containerfile", "'../Containerfile'"),
    "file up in between": (GOOD + '[image]\ncontainerfile = "a/../../x"\n', "image.containerfile", "allowed is a file"),
    "reference as option": (GOOD + '[image]\nreference = "--help"\n', "image.reference", "such as 'localhost/echo"),
    "reference with a space": (GOOD + '[image]\nreference = "a b"\n', "image.reference", "such as 'localhost/echo"),
    "command as text": (GOOD + '[image]\ncommand = "a"\n', "image.command", "valid array, not 'a'"),
    "no time at all": (GOOD + "[limits]\ncold_s = 0\n", "limits.cold_s", "greater than 0, not 0"),
    "too much time": (GOOD + "[limits]\nwarm_s = 601\n", "limits.warm_s", "less than or equal to 600, not 601"),
    "endless time": (GOOD + "[limits]\nstop_s = inf\n", "limits.stop_s", "less than or equal to 600"),
    "no number": (GOOD + "[limits]\nstop_s = nan\n", "limits.stop_s", "not nan"),
    "time as text": (GOOD + '[limits]\nstop_s = "5"\n', "limits.stop_s", "valid number, not '5'"),
    "unknown key": ("flavour = 1\n" + GOOD, "flavour", "unknown key"),
    "unknown table": (GOOD + "[limit]\ncold_s = 1\n", "limit", "unknown key"),
    "unknown key of a socket": (GOOD.replace("port =", 'host = "x"\nport ='), "sockets[0].host", "unknown key"),
    "unknown key of the image": (GOOD + '[image]\nfile = "x"\n', "image.file", "unknown key"),
    "unknown key of a bytes probe": (GOOD + "status = [200]\n", "probe.status", "unknown key"),
    "unknown key of an http probe": (HEAD + TCP + HTTP + 'send = "x"\n', "probe.send", "unknown key"),
    "unknown key of the limits": (GOOD + "[limits]\ncold = 1\n", "limits.cold", "unknown key"),
    "inner name as key": (f"schema_version = 1\n{GOOD}", "schema_version", "unknown key"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "key", "told"), RULES.values(), ids=RULES)
def test_one_mistake(tmp_path: Path, text: str, key: str, told: str) -> None:
    """The key as one would write it in TOML, and what is allowed there."""
    found = mistakes_of(tmp_path, text)

    assert list(found) == [key]
    assert told in found[key]


@pytest.mark.parametrize("key", [key for key in RULES if key.startswith("unknown key of")])
def test_an_unknown_key_is_told_the_known_ones(tmp_path: Path, key: str) -> None:
    """A slip of the pen is mended fastest with the right word before one's eyes."""
    known = {
        "unknown key of a socket": "transports, port, path, fixed_port, cid, name, options, accept, probed",
        "unknown key of the image": "containerfile, reference, command",
        "unknown key of a bytes probe": "transports, socket, send, half_close, kind, expect, expect_pattern",
        "unknown key of an http probe": "kind, path, status, header, contains, pattern",
        "unknown key of the limits": "cold_s, warm_s, stop_s, first_s",
    }[key]

    assert known in next(iter(mistakes_of(tmp_path, RULES[key][0]).values()))


def test_a_date_is_no_text(tmp_path: Path) -> None:
    """Values are never converted on the way, see `harness.contract.Table`."""
    assert mistakes_of(tmp_path, GOOD.replace('"echo"', "2024-01-01"))


# -- several mistakes -------------------------------------------------------------------------------------------------


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Of every table, and of several sockets, in one go."""
    text = """
        schema = 3
        name = "Echo"
        colour = "red"
        [[sockets]]
        transports = ["tcp4"]
        port = 80
        [[sockets]]
        transports = ["unix"]
        port = 3000
        [[sockets]]
        transports = ["x25"]
        [image]
        reference = "-v"
        [probe]
        kind = "bytes"
        send = 5
        [limits]
        cold_s = -1
    """
    assert set(mistakes_of(tmp_path, text)) == {
        "schema", "name", "colour", "sockets[0].port", "sockets[1]", "sockets[2].transports[0]", "image.reference",
        "probe.send", "probe.expect_pattern", "limits.cold_s",
    }  # fmt: skip


@pytest.mark.parametrize("text", [TCP + TCP + BYTES, TCP.replace("tcp", "udp") + HTTP], ids=["twice", "http over udp"])
def test_rules_of_the_whole_file_come_at_once_too(tmp_path: Path, text: str) -> None:
    """A person who corrects what was named is not told of the next mistake only then."""
    assert len(mistakes_of(tmp_path, f'{HEAD}colour = "red"\n{text}')) == 2


def test_mistakes_with_half_close_and_first_s_come_at_once(tmp_path: Path) -> None:
    """Those of a table beside those of several."""
    text = HEAD + TCP.replace("tcp", "udp") + BYTES + "half_close = true\n[limits]\ncold_s = 20\nfirst_s = 10\n"
    assert set(mistakes_of(tmp_path, text)) == {"probe.half_close", "limits"}


def test_a_dual_stack_socket_takes_both_addresses(tmp_path: Path) -> None:
    """systemd could not listen on the second one."""
    both = '[[sockets]]\ntransports = ["tcp4", "tcp6"]\nport = 3000\n'
    assert "the same address stands twice" in mistakes_of(tmp_path, HEAD + TCP + both + BYTES)["sockets"]


def test_a_transport_stands_once(tmp_path: Path) -> None:
    """A socket that no test ever asks must not look tested."""
    found = mistakes_of(tmp_path, HEAD + TCP + TCP.replace("3000", "3001") + BYTES)
    assert "the transport 'tcp4' stands 2 times, and nothing tells its sockets apart" in found["sockets"]


TWO = "".join(TCP.replace("3000", str(port)) + f'name = "{name}"\n' for port, name in ((3000, "web"), (3001, "admin")))


def asks(sockets: str, *probes: str) -> str:
    """Return a contract with probes of the kind `bytes`, each with a key of its own."""
    return HEAD + sockets + "".join(f"[[probe]]\n{key}\nkind = 'bytes'\nexpect = 'x'\n" for key in probes)


def test_two_sockets_of_a_transport_are_asked_by_name(tmp_path: Path) -> None:
    """Each selection of the contract has one of them, and the probe that is for it."""
    file = tmp_path / "contract.toml"
    file.write_text(asks(TWO, "socket = 'web'", "socket = 'admin'\nsend = 'a'"), encoding="utf-8")
    first, second = load(file).selections
    assert [first.label(Transport.TCP4), second.label(Transport.TCP4)] == ["tcp4@web", "tcp4@admin"]
    assert [first.probe(Transport.TCP4), second.probe(Transport.TCP4)] == list(first.probes)
    assert load(file) == first
    assert second.selections == (first, second)
    assert second.folder == tmp_path


@pytest.mark.parametrize(
    ("probes", "key", "text"),
    [
        (("socket = 'web'",), "probe", "none is for tcp4"),
        (("socket = 'web'", "socket = 'x'"), "probe[1].socket", "no socket that is probed has the name 'x'"),
        (("socket = 'web'", "socket = 'web'", "socket = 'admin'"), "probe[1].socket", "'tcp4' has a probe already"),
        (("socket = 'web'\ntransports = ['tcp4']",), "probe[0].socket", "'transports' says already which"),
        (("socket = 'web'", ""), "probe[1]", "required key 'transports' or 'socket' is missing"),
    ],
)
def test_probes_that_name_no_socket(probes: tuple[str, ...], key: str, text: str, tmp_path: Path) -> None:
    assert text in mistakes_of(tmp_path, asks(TWO, *probes))[key]


def test_two_sockets_of_one_name_are_not_told_apart(tmp_path: Path) -> None:
    found = mistakes_of(tmp_path, asks(TWO.replace("admin", "web"), "transports = ['tcp4']"))
    assert "nothing tells its sockets apart" in found["sockets"]
