"""The plugin's options: the command line, its twins in the ini file, what is refused and what is said then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.activation import activations
from harness.core.transports import Transport
from harness.images.bases import Base
from harness.plugin.settings import SETTINGS, Keep, RunSettings
from tests.helpers.contracts import GOOD

TRANSPORTS = ", ".join(Transport)
ACTIVATIONS = ", ".join(activations())

#: Option -> what one writes, the field of `RunSettings` that it reaches, its value there, and its default.
READ: dict[str, tuple[str, str, Any, Any]] = {
    "transports": ("udp6,tcp4", "transports", (Transport.TCP4, Transport.UDP6), tuple(Transport)),
    "activation": ("unit, generate", "activations", ("generate", "unit"), ()),
    "base": ("debian", "base", Base.DEBIAN, None),
    "keep": ("on-failure", "keep", Keep.ON_FAILURE, Keep.NEVER),
    "timeout-scale": ("2.5", "timeout_scale", 2.5, 1.0),
    "max-slowdown": ("1.05", "max_slowdown", 1.05, 1.10),
    "gate-limit": ("90", "gate_limit_s", 90.0, 60.0),
}

#: Option -> a value that is neither of those.
OTHER = {
    "transports": "vsock",
    "activation": "launcher",
    "base": "fedora",
    "keep": "always",
    "timeout-scale": "9",
    "max-slowdown": "9",
    "gate-limit": "9",
}

#: Option -> a value that is refused, and what is said of it.
REFUSED = {
    "transports": ("tcp4,pigeon", f"unknown: pigeon; known are {TRANSPORTS}"),
    "activation": ("unit,magic", f"unknown: magic; known are {ACTIVATIONS}"),
    "base": ("slackware", "slackware"),
    "keep": ("sometimes", "sometimes"),
    "timeout-scale": ("0", "'0' is not a number above 0 and up to 1000"),
    "max-slowdown": ("1", "'1' is not a number above 1 and up to 100"),
    "session-memory": ("63m", "expected a number with 'k', 'm' or 'g', from 64m on"),
    "session-disk": ("1t", "expected a number with 'k', 'm' or 'g', from 64m on"),
    "session-output": ("15k", "from 16k on"),
    "session-processes": ("63", "expected a number from 64 on"),
    "session-descriptors": ("-1", "expected a number from 64 on"),
    "gate-limit": ("nan", "'nan' is not a number above 0 and up to 3600"),
}

#: The values that pytest or the harness names where it refuses one.
CHOICES = {"base": ("auto", "fedora", "debian"), "keep": ("never", "on-failure", "always")}


def options(inner: pytest.Pytester, *arguments: str) -> RunSettings:
    """Return what the plugin makes of a command line."""
    return inner.parseconfigure("-p", "harness.plugin", *arguments).stash[SETTINGS]


def refusal(inner: pytest.Pytester, *arguments: str) -> str:
    """Run pytest, assert that it ends as after a usage error, and return what it said."""
    run = inner.runpytest_inprocess("-p", "harness.plugin", *arguments)
    said = f"{run.stdout.str()}\n{run.stderr.str()}"
    assert run.ret == pytest.ExitCode.USAGE_ERROR, said
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said
    assert not any(line.startswith("E  ") for line in said.splitlines()), said
    return said


def ini_name(option: str) -> str:
    """Return the name of an option's twin."""
    return f"harness_{option.replace('-', '_')}"


def ini(inner: pytest.Pytester, key: str, value: str) -> None:
    """Write the ini file."""
    inner.makeini(f"[pytest]\n{key} = {value}\n")


@pytest.mark.parametrize("option", READ)
def test_on_the_command_line(option: str, inner: pytest.Pytester) -> None:
    text, field, value, default = READ[option]
    assert getattr(options(inner), field) == default
    assert getattr(options(inner, f"--harness-{option}={text}"), field) == value


@pytest.mark.parametrize("option", READ)
def test_in_the_ini_file(option: str, inner: pytest.Pytester) -> None:
    text, field, value, _default = READ[option]
    ini(inner, ini_name(option), text)
    assert getattr(options(inner), field) == value


@pytest.mark.parametrize("option", READ)
def test_the_command_line_comes_before_the_ini_file(option: str, inner: pytest.Pytester) -> None:
    text, field, value, _default = READ[option]
    ini(inner, ini_name(option), OTHER[option])
    assert getattr(options(inner, f"--harness-{option}={text}"), field) == value


def test_auto_leaves_the_base_open(inner: pytest.Pytester) -> None:
    ini(inner, "harness_base", "debian")
    assert options(inner).base is Base.DEBIAN
    assert options(inner, "--harness-base=auto").base is None


def test_contracts(inner: pytest.Pytester) -> None:
    """In the ini file they are relative to it, on the command line to where one is; the latter come alone."""
    ini(inner, "harness_contracts", "one two/three")
    assert options(inner).contracts == (inner.path / "one", inner.path / "two/three")
    given = options(inner, "--harness-contract=b", "--harness-contract=/a").contracts
    assert given == (inner.path / "b", Path("/a"))


def test_images(inner: pytest.Pytester) -> None:
    assert options(inner).images == {}
    given = options(inner, "--harness-image=echo=localhost/a:1", "--harness-image=httpd=b=c")
    assert given.images == {"echo": "localhost/a:1", "httpd": "b=c"}


def test_artifacts(inner: pytest.Pytester) -> None:
    """In the ini file the folder is relative to pytest's root, on the command line to where one is."""
    assert options(inner).artifacts == inner.path / "harness-artifacts"
    assert options(inner, "--harness-artifacts-dir=here").artifacts == inner.path / "here"
    ini(inner, "harness_artifacts_dir", "there/and")
    inner.mkdir("below")
    assert options(inner, "--rootdir=.", "below").artifacts == inner.path / "there/and"
    assert options(inner, "--harness-artifacts-dir=/tmp/x").artifacts == Path("/tmp/x")  # noqa: S108 - only a name


@pytest.mark.parametrize(
    ("ci", "strict"), [("true", True), ("1", True), ("woodpecker", True), ("false", False), ("0", False), ("", False)]
)
def test_strict_is_the_default_of_ci(
    ci: str, strict: bool, inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    assert options(inner).strict is strict
    assert options(inner, "--harness-strict").strict is True
    assert options(inner, "--no-harness-strict").strict is False


def test_strict_needs_no_ci(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    assert options(inner).strict is False


@pytest.mark.parametrize(("text", "strict"), [("true", True), ("True", True), ("false", False)])
def test_strict_in_the_ini_file(
    text: str, strict: bool, inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides over CI, and the command line over it."""
    ini(inner, "harness_strict", text)
    monkeypatch.setenv("CI", "" if strict else "true")
    assert options(inner).strict is strict
    assert options(inner, "--no-harness-strict" if strict else "--harness-strict").strict is not strict


def test_bounds_of_sessions(inner: pytest.Pytester) -> None:
    """The command line before the ini file; half of the output is for its beginning, half for its end."""
    ini(inner, "harness_session_memory", "3g")
    found = options(inner, "--harness-session-disk=65536k", "--harness-session-output=16k").bounds
    assert (found.memory, found.pids, found.descriptors, found.disk, found.output) == (
        3 << 30,
        1024,
        65536,
        2**26,
        8192,
    )


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", REFUSED)
def test_refused_on_the_command_line(option: str, inner: pytest.Pytester) -> None:
    text, words = REFUSED[option]
    said = refusal(inner, f"--harness-{option}={text}")
    assert f"argument --harness-{option}: " in said
    assert words in said
    assert all(f"'{choice}'" in said for choice in CHOICES.get(option, ()))


@pytest.mark.parametrize("option", REFUSED)
def test_refused_in_the_ini_file(option: str, inner: pytest.Pytester) -> None:
    text, words = REFUSED[option]
    ini(inner, ini_name(option), text)
    said = refusal(inner)
    assert "In the ini file: " in said
    assert words in said
    assert all(choice in said for choice in CHOICES.get(option, ()))


@pytest.mark.parametrize("option", REFUSED)
def test_a_refusal_names_the_key_in_the_ini_file(option: str, inner: pytest.Pytester) -> None:
    ini(inner, ini_name(option), REFUSED[option][0])
    assert ini_name(option) in refusal(inner)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1001", "fast", ""])
def test_a_factor_is_a_number_in_a_range(text: str, inner: pytest.Pytester) -> None:
    said = refusal(inner, f"--harness-timeout-scale={text}")
    assert f"'{text}' is not a number above 0 and up to 1000" in said


def test_strict_in_the_ini_file_is_true_or_false(inner: pytest.Pytester) -> None:
    ini(inner, "harness_strict", "perhaps")
    assert "'perhaps' is none of 'true', 'false'" in refusal(inner)


@pytest.mark.parametrize("text", ["echo", "=image", "echo="])
def test_an_image_has_a_name(text: str, inner: pytest.Pytester) -> None:
    said = refusal(inner, f"--harness-image={text}")
    assert f"argument --harness-image: '{text}' is not of the form NAME=IMAGE, such as echo=localhost/my-echo" in said


@pytest.mark.parametrize(
    ("image", "why"), [("-image", "allowed is the name of an image"), ("ftp://a", "the transport 'ftp:' is none")]
)
def test_an_image_has_a_name_that_can_be_read(image: str, why: str, inner: pytest.Pytester) -> None:
    said = refusal(inner, f"--harness-image=echo={image}")
    assert f"argument --harness-image: in 'echo={image}', {why}" in said


# -- contracts --------------------------------------------------------------------------------------------------------

#: With a header, without one, and in two processes.
WAYS = [
    pytest.param((), id="plain"),
    pytest.param(("-n2",), id="two workers"),
    pytest.param(("-q",), id="quiet"),
    pytest.param(("--no-header",), id="no header"),
]


@pytest.fixture
def asking(inner: pytest.Pytester) -> pytest.Pytester:
    """An inner pytest with a test of every case."""
    inner.makepyfile("def test_it(harness_case): pass")
    return inner


@pytest.mark.parametrize("arguments", WAYS)
def test_every_mistake_of_every_contract_at_once(arguments: tuple[str, ...], asking: pytest.Pytester) -> None:
    for name, text in {
        "a": GOOD.replace("3000", "80").replace('"bytes"', '"telepathy"'),
        "b": f"{GOOD}\n[limits]\ncold_s = 0\nwarm = 3\n",
        "c": "schema = ",
    }.items():
        folder = asking.mkdir(name)
        (folder / "contract.toml").write_text(text, encoding="utf-8")
    said = refusal(asking, "--harness-contract=.", *arguments)
    assert f"The contract '{asking.path}' has 5 mistakes." in said
    for file, key, words in [
        ("a", "sockets[0].port", "expected a number from 1024 on, got 80"),
        ("a", "probe", "telepathy"),
        ("b", "limits.cold_s", "greater than 0, not 0"),
        ("b", "limits.warm", "unknown key"),
        ("c", "TOML", "Invalid value"),
    ]:
        start = f"    {asking.path}/{file}/contract.toml: {key}: "
        (line,) = (line for line in said.splitlines() if line.startswith(start))
        assert words in line
    assert "[input error: ContractError]" in said


@pytest.mark.parametrize("arguments", WAYS)
def test_an_image_for_an_unknown_contract(arguments: tuple[str, ...], asking: pytest.Pytester) -> None:
    (asking.path / "contract.toml").write_text(GOOD, encoding="utf-8")
    said = refusal(asking, "--harness-contract=.", "--harness-image=nobody=x", "--harness-image=me=y", *arguments)
    assert "--harness-image: no contract is named 'me', 'nobody'." in said
    assert "Hint: Known contracts: echo." in said
    assert "[input error: UsageError]" in said


@pytest.mark.parametrize("arguments", WAYS)
def test_no_such_contract(arguments: tuple[str, ...], asking: pytest.Pytester) -> None:
    said = refusal(asking, "--harness-contract=nowhere", *arguments)
    assert f"The contract '{asking.path}/nowhere' can't be read: No such file or directory." in said


def test_a_folder_without_contracts(asking: pytest.Pytester) -> None:
    asking.mkdir("empty")
    said = refusal(asking, "--harness-contract=empty")
    assert f"The folder '{asking.path}/empty' holds no contract." in said
