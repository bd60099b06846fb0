"""socat at the end of its input: the machine's own, and Debian sid's, which sends one more, empty datagram there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness import probes
from harness.contract import BytesProbe
from harness.core.deadline import Deadline, wait_until
from harness.core.errors import CapabilityMissing
from harness.core.process import run
from harness.core.transports import Transport
from harness.images import bases
from harness.probes import Client, judge
from harness.session.session import Session
from tests.helpers.servers import serving
from tests.helpers.sessions import over

LIMIT_S = 10.0

#: The version that was seen to send it.
SENDING = "1.8.1.3"

#: What each kind of address is asked.
PROMISED = BytesProbe(kind="bytes", send="ping\n", expect="pong\n")


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of sid's socat, unpacked."""
    root = tmp_path_factory.mktemp("sid")
    try:
        sources = bases.in_suite(bases.debian_sources(), "sid")[:1]
    except CapabilityMissing as error:
        pytest.skip(error.sentence)
    settings = [f"--aptopt={line}" for line in (*bases.mirror_settings(), 'Acquire::Check-Valid-Until "false"')]
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=extract",
        "--include=socat",
        *settings,
        "sid",
        str(root),
        *sources,
    ]
    run(command, timeout_s=120)
    return root


@pytest.fixture(params=["own", "sid"])
def asking(request: pytest.FixtureRequest, harness_session: Session) -> Iterator[Session]:
    """A session whose clients find one socat or the other."""
    if request.param == "own":
        yield harness_session
        return
    root: Path = request.getfixturevalue("unpacked")
    home = f"{harness_session.paths.home}/sid"
    place = harness_session.outside(home)
    (place / "bin").mkdir(parents=True)
    loader, program = next(root.glob("usr/lib*/ld-linux*")), root / "usr/bin/socat1"
    for file in (loader, program, *(file for file in root.glob("usr/lib/*-linux-gnu/*.so*") if file.is_file())):
        shutil.copy(file, place / file.name)
    script = place / "bin" / "socat"
    script.write_text(f'#!/bin/sh\nexec {home}/{loader.name} --library-path {home} {home}/socat1 "$@"\n', "utf-8")
    script.chmod(0o755)
    path = f"{home}/bin:{harness_session.environment['PATH']}"
    yield replace(harness_session, environment={**harness_session.environment, "PATH": path})
    shutil.rmtree(place)


def version(session: Session) -> str:
    """Return which socat the clients of a session find."""
    return session.run(["socat", "-V"]).text.split("socat version ")[1].split()[0]


@over("udp4", "udp6")
def test_a_server_that_answers_every_datagram(asking: Session, transport: Transport) -> None:
    """It hears one, and its one reply is as promised."""
    with serving(asking, transport, lambda _data: b"pong\n") as server:
        for _again in range(5):
            reply = probes.ask(asking, server.endpoint, PROMISED, Client.SOCAT, Deadline.after(LIMIT_S))
            assert judge(reply, PROMISED) == ""
    assert server.heard == [b"ping\n"] * 5


@over("udp4", "udp6")
def test_a_client_that_says_nothing_is_heard_once(asking: Session, transport: Transport) -> None:
    """By one empty datagram, whether or not its socat would have sent one by itself."""
    greeted = BytesProbe(kind="bytes", expect="pong\n")
    with serving(asking, transport, lambda _data: b"pong\n") as server:
        reply = probes.ask(asking, server.endpoint, greeted, Client.SOCAT, Deadline.after(LIMIT_S))
    assert judge(reply, greeted) == ""
    assert server.heard == [b""]


@over("tcp4", "unix")
def test_streams_are_left_open_or_not(asking: Session, transport: Transport) -> None:
    """As the contract says, also by the newer one."""
    half_closing = PROMISED.model_copy(update={"half_close": True})
    for promised, closes in ((PROMISED, False), (half_closing, True)):
        with serving(asking, transport, lambda _data: b"pong\n", closes=closes) as server:
            reply = probes.ask(asking, server.endpoint, promised, Client.SOCAT, Deadline.after(LIMIT_S))
        assert judge(reply, promised) == ""


@over("udp4")
@pytest.mark.parametrize("asking", ["sid"], indirect=True)
def test_what_it_would_do_by_itself(asking: Session, transport: Transport) -> None:
    """Negative control: without a word of what to do at the end of its input, the newer one is heard twice."""
    if (found := version(asking)) != SENDING:
        pytest.skip(f"sid has socat {found} by now; {SENDING} was seen to send an empty datagram")
    with serving(asking, transport, lambda _data: b"pong\n") as server:
        asking.run(["socat", "-t", "0.5", "-", server.endpoint.socat], stdin=b"ping\n")
        wait_until(lambda: len(server.heard), lambda heard: heard == 2, Deadline.after(LIMIT_S), "both datagrams")
    assert server.heard == [b"ping\n", b""]
