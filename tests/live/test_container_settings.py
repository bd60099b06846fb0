"""All that a contract can say of its container arrives there, by every activation; and nothing says its secrets."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.activation import activations
from harness.activation.service import Service
from harness.contract import Contract, Ready, load
from harness.contract.image import OptionsTable
from harness.core.errors import ProbeFailed, WaitTimeout
from harness.core.transports import Transport
from harness.images.store import Image
from harness.plugin import bundle
from harness.runtime.runtime import Runtime
from harness.session.session import Session
from tests.helpers.contracts import BYTES, HEAD, TCP, written
from tests.helpers.runs import SETTINGS, run_pytest

Open = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def opened(harness_runtime: Runtime, built: Callable[[str], Image]) -> Open:
    """Open the service of the contract, or of another one for the same image."""
    image = built("tests/settings")

    @contextmanager
    def opening(activation: str, contract: Contract) -> Iterator[Service]:
        with harness_runtime.service(contract, activation, image) as service:
            yield replace(service, timeout_scale=2.0)

    return opening


def contract(**image: Any) -> Contract:
    """Return the contract, its image's table changed."""
    loaded = load(SETTINGS)
    return loaded.model_copy(update={"image": loaded.image.model_copy(update=image)})


def without_options(whole: Contract) -> Contract:
    """Return the contract without settings of sockets, which the launcher can't make."""
    tables = (table.model_copy(update={"options": type(table.options)()}) for table in whole.sockets)
    return whole.model_copy(update={"sockets": tuple(tables)})


@pytest.mark.harness_activations
def test_what_a_contract_says_arrives(
    opened: Open, harness_session: Session, harness_activation_name: str, tmp_path: Path
) -> None:
    """ProcessSnapshot from inside the container, on its first start and on its second."""
    whole = without_options(contract()) if harness_activation_name == "launcher" else contract()
    home = harness_session.paths.home
    with opened(harness_activation_name, whole) as service:
        told = json.loads(service.ask_cold(Transport.TCP4).body)
        service.wait_active(Transport.TCP4)
        from_client = service.ask_warm(Transport.UNIX)
        mode = harness_session.outside(f"{home}/control_sock").stat().st_mode & 0o777
        secrets = service.supplies.secrets
        service.stop_service()
        again = json.loads(service.ask_cold(Transport.TCP4).body)
        service.wait_active(Transport.TCP4)
        bundle.write(tmp_path, harness_session, service, 0.0)
        units = "".join(service.activated.files.values())

    assert told["environment"] == {
        "GREETING": "good day; 100% $HOME \"quoted\" 'it' \\ x",
        "FOLDER": f"{home}/x",
        "DESCRIPTORS": "3,4,5;",
    }
    assert (told["ids"], told["count"]) == ([12345, 23456], 3)
    assert {name: address for name, address in told["names"].items() if name != "control"} == {
        "web": f"('127.0.0.1', {service.activated.workload.listeners[0].port})",
        "extra": f"('127.0.0.1', {service.activated.workload.listeners[2].port})",
    }
    assert told["names"]["control"] == f"{home}/control_sock"
    assert (told["root"], told["tmpfs"], told["config"]) == (False, True, False)
    assert told["files"] == [f"in {home}\n", "é"]
    assert told["pid"] > 1
    assert (told["hostname"], told["workdir"]) == ("teller", "/usr")
    assert told["secrets"] == [hashlib.sha256(secrets[name].encode()).hexdigest() for name in ("password", "token")]
    assert (told["starts"], again["starts"]) == (1, 2)
    if harness_activation_name != "launcher":
        assert (sorted(told["no_delay"]), mode) == ([0, 1], 0o600)

    assert b"XDG_RUNTIME_DIR False" in from_client.body
    assert from_client.sent == b"{secret:token}"
    seen = units + "".join(file.read_text(encoding="utf-8", errors="replace") for file in tmp_path.iterdir())
    assert re.search(r"(--secret|^Secret)=harness-settings-password", units, re.MULTILINE)
    assert not [name for name, text in secrets.items() if text in seen]


def test_nothing_made_for_a_test_outlives_it(opened: Open, harness_session: Session) -> None:
    """Volumes and secrets are gone, and the next service gets new ones."""
    with opened("unit", contract()) as service:
        first = dict(service.supplies.secrets)
        service.ask_cold(Transport.TCP4)
    left = [harness_session.run(["podman", kind, "ls", "--format", "{{.Name}}"]).text for kind in ("volume", "secret")]
    with opened("unit", contract()) as service:
        second = dict(service.supplies.secrets)
        told = json.loads(service.ask_cold(Transport.TCP4).body)

    assert not re.search("harness-settings", "".join(left))
    assert not set(first.values()) & set(second.values())
    assert told["starts"] == 1


#: A program that is told its socket in the way of php-fpm, and tells whoever comes what it was told.
TOLD = r"""
import os, socket
where, _, number = os.environ["SOCKETS"].partition("=")
connection, _peer = socket.socket(fileno=int(number)).accept()
connection.sendall(f"{where} ".encode() + b"{port}\n")
"""


@pytest.mark.harness_activations
def test_a_program_is_told_its_socket(
    harness_activation_name: str, tmp_path: Path, built: Callable[[str], Image], harness_runtime: Runtime
) -> None:
    """By placeholders in its command and its environment: at the port that the session has chosen."""
    probe = BYTES.replace('send = "a"\nexpect = "a"', r"expect_pattern = '^127\.0\.0\.1:\d+ \d+\n$'")
    command = f"command = ['/usr/bin/python3', '-I', '-S', '-c', '''{TOLD}''']\n"
    image = f'[image]\n{command}environment = {{ SOCKETS = "{{address}}={{fd}}" }}\n'
    whole = load(written(tmp_path, f"{HEAD.replace('echo', 'told')}{TCP}{probe}{image}"))
    with harness_runtime.service(whole, harness_activation_name, built("tests/settings")) as service:
        port = service.activated.workload.endpoints[Transport.TCP4].port
        assert service.ask_cold(Transport.TCP4).body == f"127.0.0.1:{port} {port}\n".encode()


# -- readiness --------------------------------------------------------------------------------------------------------


@pytest.mark.harness_activations("generate", "quadlet", "unit")
@pytest.mark.parametrize("ready", [Ready.CONTAINER, Ready.EXEC])
def test_another_says_that_it_is_ready(opened: Open, harness_activation_name: str, ready: Ready) -> None:
    """The program's own READY=1, or nobody's."""
    whole = contract(ready=ready)
    if refusal := activations()[harness_activation_name].refusal(whole):
        pytest.skip(refusal)
    with opened(harness_activation_name, whole) as service:
        service.ask_cold(Transport.TCP4)
        service.wait_active(Transport.TCP4)
        service.ask_warm(Transport.TCP4)
        service.stop_service()
        service.ask_cold(Transport.TCP4)


@pytest.mark.harness_activations("generate", "quadlet", "unit")
def test_a_program_that_never_says_ready(opened: Open, harness_activation_name: str) -> None:
    """It answers, but systemd calls its service `activating`: the harness waits for no longer than its limit."""
    silent = contract(ready=Ready.CONTAINER, environment={"SILENT": "1"})
    limits = silent.limits.model_copy(update={"cold_s": 2.0})
    with opened(harness_activation_name, silent.model_copy(update={"limits": limits})) as service:
        service.ask_cold(Transport.TCP4)
        with pytest.raises(WaitTimeout, match=r"to be active.*'ActiveState': 'activating'"):
            service.wait_active(Transport.TCP4)


@pytest.mark.harness_activations
def test_a_program_without_a_handler_stops_below_an_init(opened: Open, harness_activation_name: str) -> None:
    """It ends by SIGTERM, with the status 143; the next client wakes it again."""
    with opened(harness_activation_name, without_options(contract(environment={"DEAF": "1"}))) as service:
        service.ask_cold(Transport.TCP4)
        service.wait_active(Transport.TCP4)
        service.stop_service()
        assert not service.is_active(Transport.TCP4)
        service.ask_cold(Transport.TCP4)


def test_a_client_in_an_image_that_does_not_end(opened: Open, harness_session: Session) -> None:
    """Its container is gone with it, after the limit."""
    whole = contract()
    probe = whole.probe(Transport.UNIX).model_copy(update={"command": ("/usr/bin/sleep", "600")})
    limits = whole.limits.model_copy(update={"warm_s": 1.0})
    with opened("unit", whole.model_copy(update={"probes": (whole.probes[0], probe), "limits": limits})) as service:
        service.ask_cold(Transport.TCP4)
        service.wait_active(Transport.TCP4)
        with pytest.raises(ProbeFailed, match=r"got none: .* did not end within"):
            service.ask_warm(Transport.UNIX)
        names = harness_session.run(["podman", "ps", "--all", "--format", "{{.Names}}"]).text.split()
    assert names == ["settings"]


# -- what else podman takes -------------------------------------------------------------------------------------------

MORE = {
    "a network of its own": {"network": "private"},
    "the session's network": {"network": "host"},
    "the user's own id": {"options": {"userns": "keep-id"}, "user": None},
    "the session's processes": {"options": {"pid": "host"}, "init": False},
    "small things": {
        "options": {
            "cap-add": ["CAP_NET_RAW"], "group-add": ["1234"], "shm-size": "1m", "stop-signal": "SIGTERM",
            "umask": "0027", "entrypoint": "/usr/bin/env", "security-opt": ["label=disable"],
        }
    },
}  # fmt: skip


@pytest.mark.harness_activations("quadlet", "unit")
@pytest.mark.parametrize("changes", MORE.values(), ids=MORE)
def test_podman_takes_the_other_settings(opened: Open, harness_activation_name: str, changes: dict[str, Any]) -> None:
    """The container starts with each of them, and answers."""
    options = {"options": OptionsTable.model_validate_json(json.dumps(changes.get("options", {})))}
    with opened(harness_activation_name, contract(**changes | options)) as service:
        service.ask_cold(Transport.TCP4)
        service.wait_active(Transport.TCP4)
        service.ask_warm(Transport.UNIX)


# -- negative controls ------------------------------------------------------------------------------------------------


def test_a_suite_whose_contract_promises_other_replies(tmp_path: Path, built: Callable[[str], Image]) -> None:
    """Each expectation of a probe is noticed by the suite of all images, in words for a stranger."""
    built("tests/settings")
    folder = tmp_path / "settings"
    shutil.copytree(SETTINGS, folder)
    file = folder / "contract.toml"
    text = file.read_text(encoding="utf-8")
    text = text.replace("expect_pattern = '^", "expect_pattern = '^no").replace("False\\n$'", "True\\n$'")
    file.write_text(text, encoding="utf-8")
    given = ("--harness-activation=unit", f"--harness-contract={folder}", "suites/test_replies.py", "-kagain")
    run = run_pytest(tmp_path, *given)

    assert run.outcomes == {
        "test_reply_again[settings-unit-tcp4]": "failed",
        "test_reply_again[settings-unit-unix]": "failed",
    }
    first = run.texts["test_reply_again[settings-unit-tcp4]"]
    assert "by socat over tcp4: expected what matches '^no" in first
    assert ', got \'{"environment"' in first
    other = run.texts["test_reply_again[settings-unit-unix]"]
    assert "by exec over unix: expected an output that matches 'environment" in other
    assert ', got \'{"environment"' in other
    assert "  sent:\n    '{secret:token}'\n" in other
