"""The activation `proxied`: an unchanged image that takes no sockets answers the first client, and sleeps again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.activation import proxied
from harness.battery.promises import attempt
from harness.battery.trial import Trial
from harness.cli.main import main
from harness.contract import FILE_NAME, BackendTable, Contract, Promise, load
from harness.contract.units import read
from harness.core.errors import Blame, ProbeFailed, UnitFailed, UsageError
from harness.core.transports import Transport
from harness.lint import check
from harness.runtime.runtime import Runtime
from tests.helpers.contracts import written
from tests.helpers.runs import REPOSITORY
from tests.helpers.units import every_socket

FOLDER = REPOSITORY / "tests" / "stranger" / "listens"

#: Where the program listens.
PORT, PATH = BackendTable(port=8080), BackendTable(path="/run/own/own.sock")


def contract(backend: BackendTable = PORT, where: str = "", after_s: float = 0) -> Contract:
    """Return the contract of a program that listens at its backend's place, or elsewhere, after some seconds."""
    whole = load(FOLDER)
    command = (*whole.image.command[:-2], where or str(backend.port or backend.path), f"{after_s:g}")
    return whole.model_copy(update={"image": whole.image.model_copy(update={"backend": backend, "command": command})})


@pytest.mark.parametrize("backend", [PORT, PATH], ids=["port", "path"])
@pytest.mark.parametrize(
    "promise",
    [
        Promise.SAME_RUN,
        Promise.NOBODY_ELSE_LISTENS,
        Promise.CRASH,
        Promise.IDLE,
        Promise.STOP,
        Promise.SOCKETS_UNHARMED,
    ],
)
def test_a_program_behind_a_proxy_keeps_its_promises(
    promise: Promise, backend: BackendTable, harness_runtime: Runtime
) -> None:
    """Over a published port or a shared folder; the idle time ends proxy and container, and no connection."""
    with harness_runtime.service(contract(backend)) as service:
        assert service.activation == "proxied"
        attempt(promise, Trial(service, Transport.TCP4))


@pytest.mark.parametrize("backend", [PORT, PATH], ids=["port", "path"])
def test_the_first_client_of_a_program_that_takes_its_time(
    backend: BackendTable, harness_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd starts the proxy when the program listens; one that does not wait has its client refused."""
    late = contract(backend, after_s=2)
    with harness_runtime.service(late) as service:
        service.ask_cold(Transport.TCP4)

    monkeypatch.setattr(proxied, "_wait", lambda *_: "true")
    with harness_runtime.service(late) as service, pytest.raises(ProbeFailed):
        service.ask_cold(Transport.TCP4)


def test_a_program_that_ends_before_it_listens(harness_runtime: Runtime) -> None:
    """Red by the container's unit and what its program said; the proxy, which never came, is none of it."""
    with harness_runtime.service(contract(where="nowhere")) as service:
        with pytest.raises(ProbeFailed) as asked:
            service.ask_cold(Transport.TCP4)
        with pytest.raises(UnitFailed) as caught:
            service.wait_active(Transport.TCP4)
    assert "the program ended with status 1" in asked.value.sentence
    assert caught.value.unit == "stranger-listens-backend.service"
    assert asked.value.blame is caught.value.blame is Blame.IMAGE
    assert "backend: there is no configuration" in str(caught.value)


def test_a_proxy_that_can_not_be_started(harness_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container runs, and the machine is what lacks something."""
    monkeypatch.setattr(proxied, "PROXY", "/usr/lib/systemd/no-such-proxy")
    with harness_runtime.service(contract()) as service:
        with pytest.raises(ProbeFailed):
            service.ask_cold(Transport.TCP4)
        with pytest.raises(UnitFailed) as caught:
            service.wait_active(Transport.TCP4)
    assert (caught.value.unit, caught.value.blame) == ("stranger-listens.service", Blame.MACHINE)


def test_it_is_the_only_way(harness_runtime: Runtime) -> None:
    """An image that takes no sockets is given none, whoever asks for it."""
    with (
        pytest.raises(UsageError, match=r"'stranger-listens' can only be activated by 'proxied'"),
        harness_runtime.service(contract(), "unit"),
    ):
        pass


@pytest.mark.parametrize("backend", ["port = 8080", 'path = "/run/own/own.sock"'])
def test_its_units_are_ready_to_ship(backend: str, tmp_path: Path, harness_runtime: Runtime) -> None:
    """`sah units` writes three of them; `sah lint` has nothing to say, and as they are they answer."""
    text = (FOLDER / FILE_NAME).read_text(encoding="utf-8")
    where = backend.partition(" = ")[2].strip('"')
    changed = text.replace("port = 8080 }", f"{backend} }}").replace('"8080"', f'"{where}"')
    folder, image = tmp_path / "web", "quay.io/example/web:1"
    assert main(["units", str(written(tmp_path / "contract", changed)), f"--image={image}", f"--output={folder}"]) == 0

    assert not check(read(folder))
    settings = replace(harness_runtime.settings, images={image: harness_runtime.image(contract()).reference})
    given = Runtime(settings, harness_runtime.progress, harness_runtime.base, harness_runtime.store)
    assert every_socket(folder, given) == {"tcp4"}
