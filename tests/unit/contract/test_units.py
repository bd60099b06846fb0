"""A folder of unit files: what is read of it, what it makes with its probes, and every mistake at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.contract import ConnectProbe, Contract, Listening
from harness.contract.units import UnitFolder, contract_of, is_unit_folder, read
from harness.core.errors import ContractError, UnitsError
from harness.core.transports import Transport
from tests.helpers.runs import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example with two socket units."""
    shutil.copytree(EXAMPLES / "echo-two-sockets", tmp_path / "Shop.d")
    return tmp_path / "Shop.d"


def mistakes(folder: Path, *instances: str) -> dict[str, str]:
    """Return file -> what is wrong."""
    with pytest.raises(UnitsError) as caught:
        read(folder, instances)
    return dict(caught.value.mistakes)


# -- what is read -----------------------------------------------------------------------------------------------------


def test_units_are_read_as_they_are(folder: Path) -> None:
    drop_in = folder / "web.socket.d"
    drop_in.mkdir()
    (drop_in / "10-port.conf").write_text("[Socket]\nBacklog=5\n", encoding="utf-8")
    (folder / "README.txt").write_bytes(b"\xff")
    found = read(folder)
    assert (found.name, found.instances) == ("shop-d", ())
    assert set(found.files) == {"web.socket", "admin.socket", "echo.service", "web.socket.d/10-port.conf"}
    assert found.files["web.socket"] == (folder / "web.socket").read_text(encoding="utf-8")
    assert found.sockets == ("admin.socket", "web.socket")
    assert found.images == {"quay.io/example/my-echo:1": "my-echo"}
    assert is_unit_folder(folder)
    assert not is_unit_folder(folder / "images")


def test_instances_of_templates_are_started() -> None:
    found = read(EXAMPLES / "template", ["echo@blue", "echo@green", "echo@blue"])
    assert found.sockets == ("echo@blue.socket", "echo@green.socket")
    assert found.images == {"localhost/echo": "echo"}


def test_an_image_that_was_given_is_named_by_a_line(tmp_path: Path) -> None:
    """Whole, by whatever option; nobody parses podman's."""
    (tmp_path / "a.socket").write_text("[Socket]\nListenStream=80\n", encoding="utf-8")
    (tmp_path / "a.service").write_text("[Service]\nExecStart=podman run --rm quay.io/a/b:1 x\n", encoding="utf-8")
    found = read(tmp_path)
    assert found.images == {}
    assert found.images_with(["quay.io/a/b:1", "quay.io/a/b", "a/b:1"]) == {"quay.io/a/b:1": ""}


def test_services_that_quadlet_makes(tmp_path: Path) -> None:
    """See podman-systemd.unit(5) for each name."""
    for name in ("a.socket", "a.container", "b.pod", "c.kube", "d.network", "e.volume", "f.image", "g.build"):
        (tmp_path / name).write_text("Image=docker.io/library/a:1\n", encoding="utf-8")
    (tmp_path / "h@.container").write_text("Image=f.image\n", encoding="utf-8")
    found = read(tmp_path, ["h@x"])
    assert set(found.generated) == {
        *("a.service", "b-pod.service", "c.service", "d-network.service", "e-volume.service"),
        *("f-image.service", "g-build.service"),
    }
    assert found.images == {"docker.io/library/a:1": ""}


# -- what is wrong ----------------------------------------------------------------------------------------------------


def test_a_link_out_of_the_folder(folder: Path) -> None:
    (folder / "evil.service").symlink_to("/etc/passwd")
    assert mistakes(folder) == {"evil.service": "it is a link that leads out of the folder"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x@.socket", b"[Socket]\n", "it is a template: say '--instance x@NAME'"),
        ("echo.container", b"[Container]\n", "'echo.service' would make the same unit|'echo.container' would make"),
        ("a.service", b"[Service]\nExecStart=podman run -v /etc:/etc x\n", "would see '/etc' of the machine"),
        ("a.container", b"[Container]\nVolume=/srv/data:/data:Z\n", "would see '/srv/data' of the machine"),
        (
            "a.container",
            b"[Container]\nMount=type=bind,source=/srv,destination=/x\n",
            "would see '/srv' of the machine",
        ),
        ("a.service", b"\xff", "it can't be read: 'utf-8' codec"),
        ("a.service", b"x" * 300_000, "it has more than 262144 characters"),
        ("a b.service", b"", "systemd takes no unit of that name"),
    ],
)
def test_one_mistake(name: str, text: bytes, said: str, folder: Path) -> None:
    (folder / name).write_bytes(text)
    found = mistakes(folder)
    assert any(part in " ".join(found.values()) for part in said.split("|"))


@pytest.mark.parametrize(
    "text", ["Volume=%h/data:/data", "Volume=data.volume:/data", "ExecStart=podman run -v data:/x a"]
)
def test_what_is_the_session_s_own_may_be_bound(text: str, folder: Path) -> None:
    (folder / "home" / "data").mkdir(parents=True)
    (folder / "a.service").write_text(f"[Service]\n{text}\n", encoding="utf-8")
    assert "a.service" in read(folder).files


def test_no_socket_and_a_strange_instance(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text("", encoding="utf-8")
    assert mistakes(tmp_path, "b@c") == {
        "(the folder)": "there is no socket unit in it",
        "--instance": "'b@c' is no instance of a template in the folder",
    }


def test_forty_mistakes_at_once(folder: Path) -> None:
    for number in range(40):
        (folder / f"{number}@.socket").write_text("[Socket]\n", encoding="utf-8")
    with pytest.raises(UnitsError) as caught:
        read(folder)
    assert "have 40 mistakes" in caught.value.sentence
    assert sum("it is a template" in line for line in str(caught.value).splitlines()) == 40


def test_no_file_is_left_out_without_a_word(folder: Path) -> None:
    for number in range(200):
        (folder / f"{number}.service").write_text("", encoding="utf-8")
    assert mistakes(folder)["(all files)"] == "the folder has 203 unit files, and may have 200"


# -- what systemd has loaded ------------------------------------------------------------------------------------------

TCP4, TCP6, UDP4, UDP6 = Transport.TCP4, Transport.TCP6, Transport.UDP4, Transport.UDP6


@pytest.mark.parametrize(
    ("kind", "address", "ipv6_only", "transports", "where"),
    [
        ("Stream", "127.0.0.1:80", False, [TCP4], 80),
        ("Stream", "0.0.0.0:8080", False, [TCP4], 8080),
        ("Stream", "[::]:443", False, [TCP4, TCP6], 443),
        ("Stream", "[::]:443", True, [TCP6], 443),
        ("Stream", "[::1]:443", False, [TCP6], 443),
        ("Datagram", "[::]:53", False, [UDP4, UDP6], 53),
        ("Stream", "/run/user/0/a.sock", False, [Transport.UNIX], "/run/user/0/a.sock"),
        ("Stream", "vsock::1234", False, [Transport.VSOCK], 1234),
        ("Stream", "vsock:4294967295:1234", False, [Transport.VSOCK], 1234),
        ("Datagram", "/run/user/0/log", False, None, None),
        ("SequentialPacket", "/run/a", False, None, None),
        ("FIFO", "/run/fifo", False, None, None),
        ("Stream", "@abstract", False, None, None),
        ("Stream", "192.168.1.1:80", False, None, None),
    ],
)
def test_what_clients_can_ask(
    kind: str, address: str, *, ipv6_only: bool, transports: list[Transport] | None, where: int | str | None
) -> None:
    table = Listening("a.socket", "a.socket", kind, address, ipv6_only).table
    if transports is None:
        assert table is None
    else:
        assert table == {"transports": transports, "path" if isinstance(where, str) else "port": where}


LISTENING = (
    Listening("web.socket", "web", "Stream", "[::]:80"),
    Listening("web.socket", "web", "Stream", "/run/web.sock"),
    Listening("admin.socket", "admin.socket", "Stream", "0.0.0.0:81"),
    Listening("admin.socket", "admin.socket", "FIFO", "/run/fifo"),
)


def made(probes: str) -> Contract:
    """Return the contract of those sockets."""
    return contract_of(UnitFolder(Path("/a"), "shop", {}, (), probes), LISTENING)


def bytes_probe(key: str) -> str:
    return f"[[probe]]\n{key}\nkind = 'bytes'\nexpect = 'x'\n"


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        (["socket = 'web'"], {"tcp4", "tcp6", "unix"}),
        (["socket = 'admin.socket'"], {"tcp4"}),
        (["socket = '0.0.0.0:81'"], {"tcp4"}),
        (["socket = 'ListenStream=/run/web.sock'"], {"unix"}),
        (["socket = 'web.socket'", "socket = 'admin.socket'"], {"tcp4@web", "tcp6", "unix", "tcp4@admin.socket"}),
        (["transports = ['unix']"], {"unix"}),
        ([""], {"tcp4@web", "tcp6", "unix", "tcp4@admin.socket"}),
    ],
)
def test_probes_name_sockets_as_units_do(keys: list[str], labels: set[str]) -> None:
    """By FileDescriptorName=, by the unit, by the line, or by the address; a probe alone is for all."""
    contract = made("".join(map(bytes_probe, keys)))
    found = {selected.label(item) for selected in contract.selections for item in selected.transports}
    assert found == labels
    assert all(selected.units for selected in contract.selections)


def test_units_without_probes() -> None:
    """Each stream is to accept a connection; where there is none, nobody knows what to ask."""
    contract = made("")
    assert {type(probe) for probe in contract.probes} == {ConnectProbe}
    assert {item for selected in contract.selections for item in selected.transports} == {"tcp4", "tcp6", "unix"}
    folder = UnitFolder(Path("/a"), "shop", {})
    with pytest.raises(UnitsError, match="no stream over TCP or a Unix socket"):
        contract_of(folder, [one for one in LISTENING if one.kind == "Datagram"])


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ("probe = 1", "expected a table, or an array of tables"),
        ("[image]\n[probe]\nkind = 'http'", "only 'probe', 'limits', 'budgets', 'promises'"),
        ("a = ", "Invalid value"),
        ("[probe]\nkind = 'http'\nsocket = 'none'", "no socket is called 'none'; known are admin.socket, web, web.2"),
        ("[probe]\nkind = 'http'\n[limits]\ncold_s = 0", "limits.cold_s"),
    ],
)
def test_wrong_probes(probes: str, said: str) -> None:
    with pytest.raises((UnitsError, ContractError)) as caught:
        made(probes)
    assert said in str(caught.value)
