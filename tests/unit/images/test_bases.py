"""Which base image can be had here: the registry's answer within its time, and the machine's own mirror."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.core.errors import CapabilityMissing
from harness.core.process import Completed
from harness.images import bases
from harness.images.bases import REGISTRY_LIMIT_S, Base, recipe, registry_answers, registry_of

# -- the registry's name ----------------------------------------------------------------------------------------------


@pytest.fixture
def registries(tmp_path: Path) -> Path:
    """A machine's /etc/containers, with three files of short names, the first of them broken."""
    folder = tmp_path / "registries.conf.d"
    folder.mkdir()
    (folder / "000.conf").write_text("[aliases", encoding="utf-8")
    (folder / "100.conf").write_text('[aliases]\n"fedora" = "first.invalid:5000/a/fedora"\n', encoding="utf-8")
    (folder / "200.conf").write_text('[aliases]\n"fedora" = "x.invalid/f"\n"b" = "y.invalid/b"\n', encoding="utf-8")
    (folder / "300.conf").write_text("unqualified-search-registries = []\n", encoding="utf-8")
    (folder / "400.txt").write_text('[aliases]\n"c" = "z.invalid/c"\n', encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "host"), [("fedora", "first.invalid:5000"), ("b", "y.invalid"), ("c", ""), ("nothing", ""), ("", "")]
)
def test_the_registry_of_a_short_name(registries: Path, name: str, host: str) -> None:
    """The first file with the name, as containers-registries.conf.d(5) sorts them; a broken file is passed over."""
    assert registry_of(name, registries) == host


def test_a_machine_without_short_names(tmp_path: Path) -> None:
    """No folder is no error."""
    assert registry_of("fedora", tmp_path) == ""


# -- the registry's answer --------------------------------------------------------------------------------------------


@contextmanager
def listening(*, accepting: bool = True, says: bytes = b"") -> Iterator[str]:
    """Listen on a port of the machine's own; say something to each client, which then waits for more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        clients = stack.enter_context(ExitStack())  # closed once the thread has ended
        stopped = threading.Event()

        def serve() -> None:
            listener.settimeout(0.02)
            while not stopped.is_set():
                try:
                    client, _peer = listener.accept()
                except TimeoutError:
                    continue
                clients.callback(client.close)
                client.sendall(says)

        thread = threading.Thread(target=serve)
        if accepting:
            thread.start()
            stack.callback(thread.join)
        stack.callback(stopped.set)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    """Return an address on which nobody listens any more."""
    with listening(accepting=False) as host:
        return host


@pytest.mark.parametrize(
    "says",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x16\x03"],
    ids=["silence", "plain HTTP", "a start"],
)
def test_a_registry_that_never_answers(says: bytes) -> None:
    """Somebody listens, but no TLS comes of it: out of reach, and found out in time."""
    started = time.monotonic()
    with listening(says=says) as host:
        assert registry_answers(host, limit_s=0.5) is False

    assert time.monotonic() - started < 3


def test_the_default_limit_is_kept() -> None:
    """Without a limit of the caller's it takes no longer than the harness promises for a machine without a registry."""
    started = time.monotonic()
    with listening() as host:
        assert registry_answers(host) is False

    assert REGISTRY_LIMIT_S - 0.1 < time.monotonic() - started < 3


def test_a_registry_that_refuses() -> None:
    """At once."""
    started = time.monotonic()

    assert registry_answers(closed_port()) is False
    assert time.monotonic() - started < REGISTRY_LIMIT_S


@pytest.mark.parametrize(
    ("status", "answers"),
    [(b"200 OK", True), (b"401 Unauthorized", True), (b"404 Not Found", False), (b"503 X", False)],
)
def test_a_registry_that_answers(monkeypatch: pytest.MonkeyPatch, status: bytes, answers: bool) -> None:
    """The version check of the distribution specification: yes, or yes with a login; TLS is left out here."""
    plain = http.client.HTTPConnection
    monkeypatch.setattr(http.client, "HTTPSConnection", lambda host, timeout, context: plain(host, timeout=timeout))
    with listening(says=b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n") as host:
        assert registry_answers(host, limit_s=5) is answers


@pytest.mark.parametrize("host", ["", "127.0.0.1:x", "a..b"])
def test_what_is_no_registry(host: str) -> None:
    """A name that no resolver would take is no error either."""
    assert registry_answers(host, limit_s=0.5) is False


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network often has a resolver that nobody answers; that counts as out of reach in time."""

    def hang(*_arguments: object, **_options: object) -> list[object]:
        time.sleep(1.5)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()

    assert registry_answers("localhost", limit_s=0.2) is False
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("answers", "base"), [(True, Base.FEDORA), (False, Base.DEBIAN)])
def test_fedora_where_its_registry_answers(monkeypatch: pytest.MonkeyPatch, answers: bool, base: Base) -> None:
    """As in the tutorial; Debian is for machines without a registry."""
    asked: list[str] = []

    def answer(host: str) -> bool:
        asked.append(host)
        return answers

    monkeypatch.setattr(bases, "registry_of", lambda name: f"{name}.invalid")
    monkeypatch.setattr(bases, "registry_answers", answer)

    assert bases.choose() is base
    assert asked == ["fedora.invalid"]


# -- the machine's own mirror -----------------------------------------------------------------------------------------

LISTED = """\
Debian main http://deb.invalid/debian trixie-updates
Debian main http://deb.invalid/debian trixie
Debian main http://deb.invalid/debian trixie
Debian contrib http://deb.invalid/debian trixie
Debian main http://deb.invalid/security trixie-security
Somebody main http://some.invalid/x stable

Debian main
"""


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let apt-get say `text`."""
    monkeypatch.setattr(bases, "run", lambda command, **_options: Completed(tuple(command), 0, text.encode(), b"", 0.1))


def test_the_mirror_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's main only, each line once, the release itself first: its name is the suite's."""
    say(monkeypatch, LISTED.replace("\nDebian main\n", ""))

    assert bases.debian_sources() == (
        "deb http://deb.invalid/debian trixie main",
        "deb http://deb.invalid/debian trixie-updates main",
        "deb http://deb.invalid/security trixie-security main",
    )


@pytest.mark.parametrize("text", ["", "Somebody main http://some.invalid/x stable\n", "Debian contrib x trixie\n"])
def test_a_machine_without_a_mirror(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Neither a registry nor a mirror: said with a hint, not with an empty image."""
    say(monkeypatch, text)
    with pytest.raises(CapabilityMissing) as caught:
        bases.debian_sources()

    assert caught.value.capability == "debian_mirror"
    assert "apt-get update" in caught.value.hint


def test_a_base_is_built_anew_for_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's recipe follows the machine; Fedora's does not."""

    def of(release: str) -> tuple[str, str]:
        monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"VERSION_CODENAME": release})
        return recipe(Base.DEBIAN), recipe(Base.FEDORA)

    (debian, fedora), (newer, fedora_again) = of("bookworm"), of("trixie")

    assert debian != newer
    assert fedora == fedora_again
    assert len({debian, newer, fedora}) == 3
