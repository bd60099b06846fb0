"""Each rule finds its bad example, at its line, and leaves the good one alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.contract import UnitFolder
from harness.core.text import shown
from harness.lint import RULES, Finding, Severity, check
from harness.lint.findings import FORMATS
from tests.helpers.runs import REPOSITORY

SOCKET = "[Socket]\nListenStream=8080\n"
SERVICE = "[Unit]\nRequires=a.socket\n[Service]\nType=notify\nNotifyAccess=all\nExecStart={}\n"
RUN = "podman run --rm --sdnotify=conmon localhost/a"
QUADLET = "[Unit]\nRequires=a.socket\n[Container]\nImage=localhost/a\nPull=never\n"

GOOD: dict[str, str] = {"a.socket": SOCKET, "a.service": SERVICE.format(RUN)}
GOOD_QUADLET: dict[str, str] = {"a.socket": SOCKET, "a.container": QUADLET}
OTHER = {"b.socket": f"{SOCKET.replace('8080', '8081')}Service=a.service\n"}

PROXIED: dict[str, str] = {
    "a.socket": SOCKET,
    "a.service": "[Unit]\nRequires=a.socket b.service\nAfter=b.service\n[Service]\n"
    "ExecStart=/usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:8081\n",
    "b.service": f"[Service]\nType=notify\nNotifyAccess=all\nExecStart={RUN}\nExecStartPost=wait-for-8081\n",
}

#: A service of which systemd starts an instance for each client.
ACCEPTING: dict[str, str] = {
    "a.socket": f"{SOCKET}Accept=yes\n",
    "a@.service": "[Service]\nExecStart=podman run --rm localhost/a\n",
}

#: Rule -> the files that it is for, the file and line of its finding, and a part of what it says.
BAD: dict[str, tuple[Mapping[str, str], str, int, str]] = {
    "SA001": ({"web.socket": SOCKET, "a.service": SERVICE.format(RUN)}, "web.socket", 2, "wakes 'web.service'"),
    "SA002": (GOOD | OTHER, "a.service", 2, "does not require 'b.socket'"),
    "SA003": (
        GOOD | {"a.service": f"{SERVICE.format(RUN)}[Install]\nWantedBy=default.target\n"}, "a.service", 8,
        "'WantedBy=default.target' starts the service at boot",
    ),
    "SA004": (
        GOOD | {"a.socket.d/10.conf": "[Socket]\n\nListenStream=8080\n"}, "a.socket.d/10.conf", 3,
        "'ListenStream=8080' stands in a.socket:2 already",
    ),
    "SA005": (GOOD_QUADLET | {"a.container": f"{QUADLET}PublishPort=80:80\n"}, "a.container", 6, "published beside"),
    "SA006": (GOOD | {"a.socket": "[Socket]\nListenStream=[::]:80\n"}, "a.socket", 2, "may not listen on port 80"),
    "SA007": (GOOD | {"a.socket": f"{SOCKET}Accept=yes\nService=a.service\n"}, "a.socket", 3, "is no template"),
    "SA008": (
        GOOD_QUADLET | {"a.container": f"{QUADLET}Environment=NGINX=3:4\n"}, "a.container", 6,
        "'NGINX=3:4' is not read",
    ),
    "SA009": (GOOD_QUADLET | {"a.container": f"{QUADLET}[Service]\nUser=web\n"}, "a.container", 7, "'User=' in"),
    "SA010": (GOOD | {"a.service": SERVICE.format(f"/bin/sh -c '{RUN}'")}, "a.service", 6, "'sh' stands between"),
    "SA011": (
        GOOD | {"a.service": f"[Unit]\nRequires=a.socket\n[Service]\nExecStart={RUN.replace('--rm', '-d')}\n"},
        "a.service", 4, "podman detaches and ends",
    ),
    "SA012": (
        GOOD | {"a.service": SERVICE.format(RUN.replace("conmon", "ignore"))}, "a.service", 6, "READY=1 in vain"
    ),
    "SA013": (
        GOOD_QUADLET | {"a.container": QUADLET.replace("localhost/a\nPull=never", "quay.io/a/b:1")}, "a.container", 4,
        "waits until the image is pulled",
    ),
    "SA014": ({"a.socket": "[Socket]\nBacklog=5\n", "a.service": SERVICE.format(RUN)}, "a.socket", 2, "no 'Listen'"),
    "SA015": (
        PROXIED | {"b.service": PROXIED["b.service"].replace("ExecStartPost", "#ExecStartPost")}, "a.service", 5,
        "'b.service' is up before its program listens",
    ),
    "SA016": (
        PROXIED | {"b.service": PROXIED["b.service"].replace("--rm", "--network=none")}, "b.service", 4,
        "the proxy of 'a.service' can't reach it",
    ),
    "SA017": (
        PROXIED | {"b.service": "[Unit]\nStopWhenUnneeded=yes\n" + PROXIED["b.service"]}, "b.service", 2,
        "counts for several of its starts",
    ),
    "SA018": (
        ACCEPTING | {"a@.service": ACCEPTING["a@.service"].replace("--rm", "--rm --name=a")}, "a@.service", 2,
        "the containers of all clients are called 'a'",
    ),
}  # fmt: skip


def folder(files: Mapping[str, str]) -> UnitFolder:
    """Return unit files that are nowhere."""
    return UnitFolder(Path("/nowhere"), "a", files)


def test_each_rule_has_its_bad_example() -> None:
    assert list(BAD) == [rule.number for rule in RULES]


@pytest.mark.parametrize("files", [
    GOOD, GOOD_QUADLET, PROXIED, ACCEPTING,
    GOOD | OTHER | {"a.service": SERVICE.format(RUN).replace("Requires=a.socket", "Requires=a.socket b.socket")},
], ids=["unit", "quadlet", "proxy", "accept", "two sockets"])  # fmt: skip
def test_good_units_have_no_finding(files: Mapping[str, str]) -> None:
    assert check(folder(files)) == ()


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "examples").iterdir()))
def test_the_examples_have_none_but_the_port_of_root(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["lint", str(REPOSITORY / "examples" / name), "--format=json"]
    arguments += ["--instance=echo@blue"] if name == "template" else []
    assert main(arguments) == 0
    assert {one["rule"] for one in json.loads(capfd.readouterr().out)} <= {"SA006"}


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("ContainerName=a", "8080", "called 'a'"),
        ("ContainerName=a-%i", "8080", "called 'a-%i': the instance has colons"),
        ("", "8080", "called 'systemd-%p_%i'"),
        ("ContainerName=a-${INVOCATION_ID}", "8080", ""),
        ("", "%t/a.sock", ""),
    ],
)
def test_the_names_of_many_containers(name: str, address: str, said: str) -> None:
    socket = f"[Socket]\nListenStream={address}\nAccept=yes\n"
    found = check(folder({"a.socket": socket, "a@.container": f"[Container]\nImage=localhost/a\nPull=never\n{name}\n"}))
    assert [one.rule for one in found] == ["SA018"] * bool(said)
    assert all(said in one.text for one in found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("a.service", "After=b.service", "After=a.socket"), "the proxy is started together with 'b.service'"),
        (("b.service", "ExecStartPost=wait-for-8081", ""), "'b.service' is up before its program listens"),
        (("b.service", f"{RUN}\nExecStartPost=wait-for-8081", RUN.replace("conmon", "container")), ""),
    ],
    ids=["no order", "nobody waits", "the program says it"],
)
def test_who_waits_for_the_program_behind_a_proxy(change: tuple[str, str, str], said: str) -> None:
    name, old, new = change
    assert old in PROXIED[name]
    found = check(folder(PROXIED | {name: PROXIED[name].replace(old, new)}))
    assert len(found) == bool(said)
    assert all(said in one.text for one in found)


@pytest.mark.parametrize("rule", BAD)
def test_a_bad_unit_is_found_at_its_line(rule: str) -> None:
    files, file, line, text = BAD[rule]
    (found,) = check(folder(files))
    assert (found.rule, found.file, found.line) == (rule, file, line)
    assert text in found.text


@pytest.mark.parametrize("rule", BAD)
def test_what_is_ignored_with_a_reason_is_not_found(rule: str) -> None:
    """And without a reason it is."""
    files, file, _line, _text = BAD[rule]
    spared = {**files, file: f"{files[file]}# sah: ignore {rule} -- it is meant so\n"}
    assert check(folder(spared)) == ()
    assert len(check(folder({**files, file: f"{files[file]}# sah: ignore {rule}\n"}))) == 1


def test_an_instance_has_the_lines_of_its_template() -> None:
    """Its drop-ins belong to it alone, and its service is the template's."""
    files = {
        "a@.socket": "[Socket]\nListenStream=%t/%i\n",
        "a@.service": SERVICE.format(RUN).replace("a.socket", "a@%i.socket"),
        "a@x.socket.d/10.conf": "[Socket]\nListenStream=8080\n",
    }
    assert check(folder(files)) == ()


@pytest.mark.parametrize("program", ["/usr/bin/env", "nohup", "/bin/sh -c 'exec", "/usr/bin/podman-wrapper"])
def test_a_program_that_becomes_podman_is_harmless(program: str) -> None:
    """LISTEN_PID is then podman's."""
    assert check(folder(GOOD | {"a.service": SERVICE.format(f"{program} {RUN}")})) == ()


@pytest.mark.parametrize("value", ["NGINX=3;", "NGINX=3;4;5;", '"NGINX=3;4;5;"', "NGINX=3:4;"])
def test_descriptors_that_nginx_reads(value: str) -> None:
    """It takes ':' and ';' for the same."""
    assert check(folder(GOOD_QUADLET | {"a.container": f"{QUADLET}Environment={value}\n"})) == ()


def test_lines_that_go_on_and_are_taken_back() -> None:
    """See systemd.syntax(7): a comment may stand among them, and an empty setting takes back those before."""
    service = SERVICE.format("podman run \\\n# why\n  --rm -p 80:80 \\\n  localhost/a")
    (found,) = check(folder(GOOD | {"a.service": service}))
    assert (found.rule, found.line) == ("SA005", 6)
    again = {"a.socket.d/10.conf": "[Socket]\nListenStream=\nListenStream=8080\n"}
    assert check(folder(GOOD | again)) == ()


# -- what is printed --------------------------------------------------------------------------------------------------

FINDING = Finding("a.socket", 2, "SA001", Severity.ERROR, "it wakes\n'a,b': \x1b[2J", "Say so.")


def test_each_format_says_where_and_acts_on_nobody() -> None:
    text = FORMATS["text"]([FINDING])
    assert text == "a.socket:2: error: it wakes\n'a,b': \\x1b[2J [SA001]\n    Hint: Say so."
    github = FORMATS["github"]([FINDING])
    assert github == r"::error file=a.socket,line=2,title=SA001::it wakes%0A'a%2Cb'%3A \x1b[2J"
    sarif = json.loads(FORMATS["sarif"]([FINDING]))
    (result,) = sarif["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("SA001", "error")
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}
    assert "\\u001b" not in FORMATS["sarif"]([FINDING])
    assert json.loads(FORMATS["json"]([FINDING]))[0]["file"] == "a.socket"
    assert shown(text) == text


@pytest.mark.parametrize(("rule", "status"), [("SA001", 1), ("SA003", 0)])
def test_errors_decide_about_the_status(rule: str, status: int, tmp_path: Path) -> None:
    for name, text in BAD[rule][0].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert main(["lint", str(tmp_path)]) == status


def test_what_can_t_be_read_is_found_as_well(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.socket").write_bytes(b"\xff")
    assert main(["lint", str(tmp_path)]) == 1
    assert "a.socket:1: error: it can't be read" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [["lint"], ["lint", "/nowhere"]])
def test_a_folder_is_needed(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "is no folder" in capfd.readouterr().err


def test_the_rules_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--rules"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == len(RULES)
