"""The keys of images, sockets and probes beyond the first ones: what is refused, where, and what is allowed there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contract import BytesProbe, ExecProbe, Handover, HttpProbe, load
from harness.core.transports import Transport
from tests.helpers.contracts import BYTES, GOOD, HEAD, HTTP, TCP, UNIX, mistakes_of, written

UDP = TCP.replace("tcp4", "udp4")
VSOCK = TCP.replace("tcp4", "vsock")
EXEC = '[probe]\nkind = "exec"\ncommand = ["client"]\n'
SEVERAL = "\n".join(
    f'[[probe]]\ntransports = ["{transport}"]\nkind = "bytes"\nsend = "{transport}"\nexpect = "a"\n'
    for transport in ("tcp4", "unix")
)


def image(text: str) -> str:
    """Return a contract with a table for the image."""
    return f"{GOOD}[image]\n{text}\n"


def sockets(text: str, more: str = "") -> str:
    """Return a contract whose one socket has more keys."""
    return HEAD + TCP + text + "\n" + more + BYTES


def client(text: str) -> str:
    """Return a contract with a probe by a program that has more keys."""
    return f"{HEAD}{TCP}{EXEC}{text}\n"


RULES: dict[str, tuple[str, str, str]] = {
    # what is wrong: the contract, the key, a part of what is said of it
    "environment as text": (image('environment = "A=b"'), "image.environment", "should be a table, not 'A=b'"),
    "number in environment": (image("environment = { A = 1 }"), "image.environment.A", "valid string, not 1"),
    "variable of systemd's": (
        image('environment = { LISTEN_FDS = "1" }'), "image.environment", "'LISTEN_FDS' is set by"
    ),
    "variable of podman's": (image('environment = { container = "x" }'), "image.environment", "'container' is set by"),
    "notify socket": (image('environment = { NOTIFY_SOCKET = "x" }'), "image.environment", "is set by systemd"),
    "two wrong variables": (image('environment = { "A=B" = "x", "" = "y" }'), "image.environment", "'A=B'; allowed is"),
    "NUL in a variable": (image('environment = { A = "\\u0000" }'), "image.environment.A", "no NUL"),
    "NUL in a command": (image('command = ["a\\u0000"]'), "image.command[0]", "no NUL"),
    "user as option": (image('user = "--root"'), "image.user", "'USER' or 'USER:GROUP', not '--root'"),
    "user as number": (image("user = 0"), "image.user", "valid string, not 0"),
    "read_only as text": (image('read_only = "yes"'), "image.read_only", "valid boolean"),
    "init as number": (image("init = 1"), "image.init", "valid boolean"),
    "another network": (image('network = "bridge"'), "image.network", "'none', 'private' or 'host', not 'bridge'"),
    "another readiness": (image('ready = "soon"'), "image.ready", "'conmon', 'container' or 'exec', not 'soon'"),
    "handover without name": (image("handover = {}"), "image.handover.variable", "required key is missing"),
    "handover of systemd's": (image('handover = { variable = "LISTEN_FDS" }'), "image.handover.variable", "is set by"),
    "backend nowhere": (image("backend = {}"), "image.backend", "either 'port' or 'path' says where"),
    "backend twice": (image('backend = { port = 80, path = "/run/a/b" }'), "image.backend", "either 'port' or 'path'"),
    "backend at the root": (image('backend = { path = "/b" }'), "image.backend", "no folder that a container could"),
    "backend of a relative path": (image('backend = { path = "a/b" }'), "image.backend.path", "an absolute path"),
    "backend that takes sockets": (
        image('backend = { port = 80 }\nhandover = { variable = "A" }'), "image", "'backend' for one that takes none"
    ),
    "backend for which nobody waits": (
        image('backend = { port = 80 }\nready = "exec"'), "image", "a proxy waits for its backend"
    ),
    "backend without a network": (
        image('backend = { port = 80 }\nnetwork = "none"'), "image", "is published, which takes 'network = \"private\"'"
    ),
    "backend in the session's network": (
        image('backend = { port = 80 }\nnetwork = "host"'), "image", "is published, which takes 'network = \"private\"'"
    ),
    "backend for datagrams": (
        image("backend = { port = 80 }").replace("tcp4", "udp4"), "sockets[0].transports",
        "systemd-socket-proxyd(8) passes streams on, not udp4",
    ),
    "odd separator": (image('handover = { variable = "A", separator = "--" }'), "image.handover.separator", "one of"),
    "unknown key of a handover": (image('handover = { variable = "A", x = 1 }'), "image.handover.x", "variable, sep"),
    "variable twice": (
        image('environment = { A = "x" }\nhandover = { variable = "A" }'), "image", "variable 'A' stands"
    ),
    "volume without path": (image('volumes = [{ name = "a" }]'), "image.volumes[0].path", "required key is missing"),
    "volume upwards": (
        image('volumes = [{ name = "a", path = "/../a" }]'), "image.volumes[0].path", "an absolute path"
    ),
    "volume of the host": (image('volumes = [{ name = "/", path = "/a" }]'), "image.volumes[0].name", "lower-case"),
    "volume with options": (image('volumes = [{ name = "a", path = "/a:U" }]'), "image.volumes[0].path", "absolute"),
    "volume at the root": (image('volumes = [{ name = "a", path = "/" }]'), "image.volumes[0].path", "absolute path"),
    "volume twice": (
        image('volumes = [{ name = "a", path = "/a" }, { name = "a", path = "/b" }]'), "image", "name of a volume 'a'"
    ),
    "path twice": (
        image('volumes = [{ name = "a", path = "/a" }]\ntmpfs = [{ path = "/a" }]'),
        "image", "the path '/a' stands twice"
    ),
    "file upwards": (
        image('volumes = [{ name = "a", path = "/a", files = { "../x" = "" } }]'),
        "image.volumes[0].files", "without '..'"
    ),
    "absolute file": (
        image('volumes = [{ name = "a", path = "/a", files = { "/x" = "" } }]'), "image.volumes[0].files", "relative"
    ),
    "file and folder": (
        image('volumes = [{ name = "a", path = "/a", files = { x = "", "x/y" = "" } }]'),
        "image.volumes[0].files", "a file can't be a folder as well: 'x'"
    ),
    "unknown key of a volume": (
        image('volumes = [{ name = "a", path = "/a", size = "1m" }]'), "image.volumes[0].size", "name, path, read_only"
    ),
    "tmpfs with a mode as number": (image('tmpfs = [{ path = "/a", mode = 755 }]'), "image.tmpfs[0].mode", "not 755"),
    "tmpfs with a mode of 9": (image('tmpfs = [{ path = "/a", mode = "999" }]'), "image.tmpfs[0].mode", "octal"),
    "tmpfs with more options": (image('tmpfs = [{ path = "/a", size = "1m,exec" }]'), "image.tmpfs[0].size", "such as"),
    "unknown key of a tmpfs": (image('tmpfs = [{ path = "/a", x = 1 }]'), "image.tmpfs[0].x", "path, mode, size"),
    "secret with a path": (image('secrets = [{ name = "../a" }]'), "image.secrets[0].name", "lower-case letters"),
    "secret twice": (image('secrets = [{ name = "a" }, { name = "a" }]'), "image", "name of a secret 'a' stands twice"),
    "secret of its own": (image('secrets = [{ name = "a", value = "b" }]'), "image.secrets[0].value", "name, variable"),
    "option that is not allowed": (image('options = { volume = "/:/x" }'), "image.options.volume", "cap-add, cap-drop"),
    "privileged": (image("options = { privileged = true }"), "image.options.privileged", "unknown key; known are"),
    "publish": (image('options = { publish = ["80:80"] }'), "image.options.publish", "unknown key"),
    "underscore in an option": (image('options = { cap_add = ["CAP_CHOWN"] }'), "image.options.cap_add", "unknown key"),
    "no capability": (image('options = { cap-add = ["all"] }'), "image.options.cap-add[0]", "such as 'CAP_CHOWN'"),
    "security opened": (
        image('options = { security-opt = ["seccomp=unconfined"] }'),
        "image.options.security-opt[0]", "no-new-privileges"
    ),
    "foreign users": (image('options = { userns = "host" }'), "image.options.userns", "'keep-id', not 'host'"),
    "a list for one": (image('options = { hostname = ["a"] }'), "image.options.hostname", "valid string"),
    "relative entry": (image('options = { entrypoint = "sh" }'), "image.options.entrypoint", "an absolute path"),
    "signal by number": (image('options = { stop-signal = "9" }'), "image.options.stop-signal", "such as 'SIGQUIT'"),
    "name with a colon": (sockets('name = "a:b"'), "sockets[0].name", "letters, digits and '_.@-', not 'a:b'"),
    "setting that is not allowed": (
        sockets('options = { ExecStartPre = "/bin/true" }'), "sockets[0].options.ExecStartPre", "known are Backlog"
    ),
    "setting of Accept=yes": (
        sockets("options = { MaxConnections = 3 }"), "sockets[0].options.MaxConnections", "unknown"
    ),
    "Accept=yes itself": (sockets("accept = true"), "sockets[0].accept", "tested as a folder of unit files"),
    "setting of a service that is not allowed": (
        HEAD + TCP + BYTES + '[service]\nRestart = "always"\n', "service.Restart", "known are NonBlocking"
    ),
    "setting of a service behind a proxy": (
        image("backend = { port = 80 }").replace("[probe]", "[service]\nNonBlocking = true\n[probe]"),
        "service", "the sockets are the proxy's",
    ),
    "setting as text": (sockets('options = { NoDelay = "yes" }'), "sockets[0].options.NoDelay", "valid boolean"),
    "no backlog": (sockets("options = { Backlog = 0 }"), "sockets[0].options.Backlog", "or equal to 1, not 0"),
    "mode of a port": (
        sockets('options = { SocketMode = "0600" }'), "sockets[0]", "'SocketMode' means nothing for tcp4"
    ),
    "mode as number": (
        HEAD + UNIX + "options = { SocketMode = 600 }\n" + BYTES, "sockets[0].options.SocketMode", "not 600"
    ),
    "no delay of datagrams": (
        HEAD + UDP + "options = { NoDelay = true }\n" + BYTES, "sockets[0]", "'NoDelay' means nothing for udp4"
    ),
    "none is probed": (sockets("probed = false"), "sockets", "none is probed"),
    "a port twice": (sockets("", TCP + "probed = false\n"), "sockets", "the same address stands twice"),
    "no probe at all": (HEAD + "probe = []\n" + TCP, "probe", "at least 1 item is needed"),
    "one probe for no socket": (
        GOOD + 'transports = ["tcp4", "unix"]\n', "probe.transports", "no socket that is probed has unix"
    ),
    "unknown transport of a probe": (GOOD + 'transports = ["x25"]\n', "probe.transports[0]", "'vsock', not 'x25'"),
    "probe for nothing": (GOOD + "transports = []\n", "probe.transports", "at least 1 item"),
    "probes without transports": (
        HEAD + TCP + UNIX + SEVERAL.replace('transports = ["unix"]\n', ""), "probe[1]", "or 'socket' is missing"
    ),
    "a transport with two probes": (
        HEAD + TCP + UNIX + SEVERAL.replace('["unix"]', '["unix", "tcp4"]'), "probe[1].transports", "already: probe[0]"
    ),
    "a transport without a probe": (HEAD + TCP + UNIX + UDP + SEVERAL, "probe", "none is for udp4"),
    "wrong key of the second probe": (
        HEAD + TCP + UNIX + SEVERAL + 'path = "/"\n', "probe[1].path", "known are transports, socket, send, half"
    ),
    "two expectations": (
        GOOD + 'expect_pattern = "a"\n', "probe.expect_pattern", "one of 'expect' and 'expect_pattern'"
    ),
    "a pattern that is none": (
        GOOD.replace('expect = "a"', 'expect_pattern = "("'), "probe.expect_pattern", "can't be used: unclosed group"
    ),
    "a pattern with a look": (HEAD + TCP + HTTP + 'pattern = "(?=a)"\n', "probe.pattern", "look-around"),
    "one wrong status": (HEAD + TCP + HTTP + "status = [99]\n", "probe.status[0]", "or equal to 100, not 99"),
    "a header that is none": (HEAD + TCP + HTTP + 'header = { "a b" = "c" }\n', "probe.header", "not 'a b'"),
    "a header with no pattern": (HEAD + TCP + HTTP + 'header = { A = "[" }\n', "probe.header.A", "can't be used"),
    "http over vsock in an array": (
        HEAD + TCP + VSOCK + HTTP.replace("[probe]", '[[probe]]\ntransports = ["vsock"]')
        + BYTES.replace("[probe]", '[[probe]]\ntransports = ["tcp4"]'),
        "probe[0].kind", "not over vsock"
    ),
    "no program": (HEAD + TCP + EXEC.replace('["client"]', "[]"), "probe.command", "at least 1 item"),
    "a line for a shell": (HEAD + TCP + EXEC.replace('["client"]', '"client -x"'), "probe.command", "valid array"),
    "a line as program": (
        HEAD + TCP + EXEC.replace('"client"', '"client -x"'), "probe", "found by PATH in the session"
    ),
    "a shell": (
        HEAD + TCP + EXEC.replace('"client"', '"bash", "-c", "x"'), "probe", "not one that runs others: 'bash'"
    ),
    "an absolute program": (HEAD + TCP + EXEC.replace("client", "/bin/client"), "probe", "not '/bin/client'"),
    "a shell in an image": (
        client('image = { reference = "a" }').replace('"client"', '"/bin/sh"'), "probe", "'/bin/sh'"
    ),
    "an image of two": (client('image = { reference = "a", containerfile = "b" }'), "probe.image", "one of"),
    "an image of none": (client("image = {}"), "probe.image", "one of 'containerfile' and 'reference'"),
    "an image elsewhere": (client('image = { containerfile = "../../b" }'), "probe.image.containerfile", "folder"),
    "unknown key of a client image": (client('image = { tag = "b" }'), "probe.image.tag", "containerfile, reference"),
    "an exit status of 256": (client("status = [256]"), "probe.status[0]", "or equal to 255, not 256"),
    "an environment": (client('environment = { A = "b" }'), "probe.environment", "unknown key; known are"),
    "a secret that is none": (client('stdin = "{secret:x}"'), "probe.stdin", "there is no secret 'x' in image.secrets"),
    "a path over tcp": (
        HEAD + TCP + EXEC.replace('"client"', '"client", "{path}"'),
        "probe.command", "'{path}' stands for nothing over tcp4"
    ),
    "a port over unix": (HEAD + UNIX + EXEC.replace('"client"', '"client", "{port}"'), "probe.command", "over unix"),
    "no budget": (GOOD + "[budgets]\ncold_ms = 0\n", "budgets.cold_ms", "greater than 0, not 0"),
    "unknown key of the budgets": (GOOD + "[budgets]\nhot_ms = 1\n", "budgets.hot_ms", "cold_ms, warm_ms"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "key", "told"), RULES.values(), ids=RULES)
def test_one_mistake(tmp_path: Path, text: str, key: str, told: str) -> None:
    """The key as one would write it in TOML, what is allowed there, and no second mistake that is none."""
    found = mistakes_of(tmp_path, text)

    assert list(found) == [key]
    assert told in found[key]
    assert "\n" not in found[key]


def test_mistakes_of_all_tables_at_once(tmp_path: Path) -> None:
    """Of tables in tables, too; what sockets and probes contradict is told once they are right by themselves."""
    text = """
        schema = 1
        name = "a"
        [image]
        user = " "
        handover = {}
        tmpfs = [{ path = "/a" }, { path = "b" }]
        options = { privileged = true, cap-add = ["x"] }
        [[sockets]]
        transports = ["udp4"]
        port = 3000
        options = { SocketMode = 1 }
        [[sockets]]
        transports = ["vsock"]
        port = 3000
        [[probe]]
        transports = ["vsock"]
        kind = "http"
        [[probe]]
        kind = "exec"
        command = ["a", "{path}"]
        status = []
    """
    assert set(mistakes_of(tmp_path, text)) == {
        "image.user", "image.handover.variable", "image.tmpfs[1].path", "image.options.privileged",
        "image.options.cap-add[0]", "sockets[0].options.SocketMode", "probe[1].status",
    }  # fmt: skip
    mended = mistakes_of(tmp_path, text.replace("SocketMode = 1", "").replace("status = []", 'transports = ["udp4"]'))
    assert {"image.user", "probe[0].kind", "probe[1].command"} <= set(mended)


def test_probes_of_their_own(tmp_path: Path) -> None:
    """Each transport's."""
    loaded = load(written(tmp_path, HEAD + TCP + UNIX + SEVERAL))

    assert loaded.probe(Transport.UNIX) == BytesProbe(
        kind="bytes", transports=(Transport.UNIX,), send="unix", expect="a"
    )
    assert loaded.probe(Transport.TCP4) == loaded.probes[0]


def test_a_socket_that_is_only_handed_over(tmp_path: Path) -> None:
    """It is one of the container's, and no client's."""
    loaded = load(written(tmp_path, HEAD + TCP + TCP.replace("3000", "3001") + "probed = false\n" + BYTES))

    assert [table.listener.probed for table in loaded.sockets] == [True, False]
    assert loaded.transports == (Transport.TCP4,)


def test_pages_need_no_text(tmp_path: Path) -> None:
    """A status can be all that a page promises."""
    text = HEAD + TCP + '[probe]\nkind = "http"\nstatus = [204]\n'
    assert load(written(tmp_path, text)).probe(Transport.TCP4) == HttpProbe(kind="http", status=(204,))


def test_programs_in_images(tmp_path: Path) -> None:
    """There a path of the image's is a program's name, too."""
    loaded = load(written(tmp_path, client('image = { reference = "a:1" }').replace("client", "/bin/client")))
    probe = loaded.probe(Transport.TCP4)

    assert isinstance(probe, ExecProbe)
    assert loaded.clients == (probe.image,)


@pytest.mark.parametrize(
    ("handover", "sockets", "text"),
    [
        (Handover(variable="NGINX", separator=";", end=";"), 2, "3;4;"),
        (Handover(variable="NGINX"), 1, "3"),
        (Handover(variable="NGINX", separator=","), 3, "3,4,5"),
    ],
)
def test_the_text_of_a_handover(handover: Handover, sockets: int, text: str) -> None:
    """From SD_LISTEN_FDS_START on."""
    assert handover.value(sockets) == text
