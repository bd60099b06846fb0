"""The command `units`: what it writes for each shipped contract, and that nothing is overwritten."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.contract import load, units
from harness.lint import Severity, check
from tests.helpers.contracts import BYTES, HEAD, TCP, written
from tests.helpers.runs import REPOSITORY

SHIPPED = sorted((REPOSITORY / "containers").iterdir())


@pytest.fixture(params=SHIPPED, ids=lambda folder: folder.name)
def shipped(request: pytest.FixtureRequest) -> Path:
    """The folder of a shipped contract."""
    folder: Path = request.param
    return folder


@pytest.mark.parametrize("activation", ["quadlet", "unit"])
def test_units_of_every_contract_are_good_ones(shipped: Path, activation: str, tmp_path: Path) -> None:
    """Our own rules find no mistake in them, and every table of clients and limits is the contract's."""
    assert main(["units", str(shipped), "--activation", activation, "--output", str(tmp_path / shipped.name)]) == 0

    written, mistakes = units.collect(tmp_path / shipped.name)
    assert mistakes == []
    assert [one for one in check(written) if one.severity is Severity.ERROR] == []
    whole = tomllib.loads((shipped / "contract.toml").read_text(encoding="utf-8"))
    assert tomllib.loads(written.probes) == {key: whole[key] for key in units.FOR_UNITS if key in whole}
    assert load(shipped).name == written.name


def test_a_setting_of_the_service_is_a_drop_in(tmp_path: Path) -> None:
    """In a folder of its own, which is made for it."""
    given = tmp_path / "given"
    shutil.copytree(REPOSITORY / "containers/redis", given)
    with (given / "contract.toml").open("a", encoding="utf-8") as file:
        file.write("\n[service]\nNonBlocking = true\n")
    assert main(["units", str(given), "--output", str(tmp_path / "x")]) == 0
    drop_in = tmp_path / "x" / "redis.service.d" / "10-contract.conf"
    assert drop_in.read_text(encoding="utf-8") == "[Service]\nNonBlocking=yes\n"
    assert "redis.service.d/10-contract.conf" in units.read(tmp_path / "x").files


def test_what_is_told_of_a_person_is_systemds(tmp_path: Path) -> None:
    """The home folder is %h in sockets, environment and mounts, since it is another one for every user."""
    assert main(["units", str(REPOSITORY / "containers/pipewire-daemon"), "--output", str(tmp_path / "x")]) == 0
    text = (tmp_path / "x" / "pipewire-daemon.container").read_text(encoding="utf-8")
    assert "Environment=XDG_RUNTIME_DIR=%h\n" in text
    assert "ListenStream=%h/" in (tmp_path / "x" / "pipewire-daemon.socket").read_text(encoding="utf-8")


def test_without_a_folder_the_files_are_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Each behind its name, and with the image that was asked for."""
    assert main(["units", str(REPOSITORY / "containers/echo"), "--image=quay.io/example/echo:1"]) == 0
    said = capfd.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("# ")] == [
        "# echo.socket",
        "# echo.container",
        "# probes.toml",
    ]
    assert "Image=quay.io/example/echo:1\n" in said


def test_what_is_there_stays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One file of them is enough to refuse all."""
    (tmp_path / "echo.socket").write_text("mine", encoding="utf-8")
    assert main(["units", str(REPOSITORY / "containers/echo"), "--output", str(tmp_path)]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["echo.socket"]
    assert f"'{tmp_path}/echo.socket' is there already." in capfd.readouterr().err


def test_what_somebody_must_bring_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The files of a volume, a secret and the image of a client are in none of the files."""
    subject = load(REPOSITORY / "containers/nginx")
    assert [volume for volume in subject.image.volumes if volume.files]
    assert main(["units", str(REPOSITORY / "containers/nginx"), "--output", str(tmp_path / "a")]) == 0
    assert "Nobody fills the volume 'harness-nginx-configuration'" in capfd.readouterr().out
    assert main(["units", str(REPOSITORY / "containers/redis"), "--output", str(tmp_path / "b")]) == 0
    assert "is built from 'Containerfile'" in capfd.readouterr().out


def test_what_an_activation_has_no_words_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is refused with that reason, and another one may have them."""
    image = '[image]\nreference = "localhost/echo"\ncommand = ["/usr/bin/program", ""]\n'
    folder = written(tmp_path / "x", HEAD + image + TCP + BYTES).parent
    assert main(["units", str(folder)]) == 2
    assert "can't be said by 'quadlet': Quadlet takes an empty argument" in capfd.readouterr().err
    assert main(["units", str(folder), "--activation=unit"]) == 0
    assert '/usr/bin/program ""\n' in capfd.readouterr().out
