"""Timelines: in order, adding up, and refused where the clocks contradict each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

from harness.activation.run import last_notes
from harness.activation.service import Service
from harness.contract import load
from harness.core.errors import Blame, ClockStepped, TimelineError
from harness.core.transports import Transport
from harness.images.store import Image
from harness.probes import Client
from harness.runtime.runtime import Runtime
from harness.timing import timeline
from harness.timing.timeline import Mark
from tests.helpers.runs import ECHO

#: On which mark each phase of a complete activation ends, in the order of the activation.
ALL = list(Mark)


def test_phases_add_up() -> None:
    """Each phase lies between two marks that follow each other; together they are the whole."""
    seen = {mark: 100.0 + number * number for number, mark in enumerate(ALL)}
    built = timeline.build(seen, ready=150.0)
    assert list(built.phases) == [f"{before} -> {after}" for before, after in pairwise(ALL)]
    assert list(built.phases.values()) == [2 * number + 1 for number in range(len(ALL) - 1)]
    assert built.whole_s == sum(built.phases.values()) == 49
    assert built.ready_s == 50


def test_marks_that_are_not_known_join_two_phases() -> None:
    """The launcher has no job and no podman of systemd's: the phase is from the connect to podman's record."""
    built = timeline.build({Mark.END: 4.0, Mark.CONNECT: 1.0, Mark.CREATED: 2.5})
    assert built.phases == {"connect -> created": 1.5, "created -> end": 1.5}
    assert built.ready_s is None


def test_a_mark_before_its_time() -> None:
    """Each contradiction is named, with its size."""
    with pytest.raises(TimelineError) as caught:
        timeline.build({Mark.CONNECT: 5.0, Mark.JOB: 4.9985, Mark.PODMAN: 6.0, Mark.EXEC: 5.5})
    assert "'job' came 1.500 ms before 'connect'" in caught.value.sentence
    assert "'exec' came 500.000 ms before 'podman'" in caught.value.sentence
    assert caught.value.blame is Blame.HARNESS


def note(status: str, container: str, number: int, kind: str = "container") -> str:
    """Return a line of podman's events."""
    return json.dumps({"ID": str(number), "Name": container, "Status": status, "Type": kind}) + "\n"


def test_the_notes_of_the_last_container() -> None:
    """Not of an older one of that name, of another one, or of an image; and never a line that is half written."""
    older = note("create", "echo", 1) + note("start", "echo", 1) + note("died", "echo", 1)
    newer = (
        note("create", "echo", 2)
        + note("init", "echo", 2)
        + note("create", "other", 3)
        + note("pull", "echo", 4, "image")
    )
    assert last_notes(older + newer, "echo").keys() == {"create", "init"}
    assert last_notes(older + newer + note("start", "echo", 2)[:-9], "echo").keys() == {"create", "init"}
    started = last_notes(older + newer + note("start", "echo", 2) + note("start", "other", 3), "echo")
    assert [started[status]["ID"] for status in ("create", "init", "start")] == ["2"] * 3
    assert last_notes(note("start", "echo", 1), "echo") == {}
    assert last_notes("", "echo") == {}


@pytest.fixture
def service(harness_activation_name: str, harness_runtime: Runtime, echo_image: Image) -> Iterator[Service]:
    """The echo service, asleep."""
    with harness_runtime.service(load(ECHO), harness_activation_name, echo_image) as opened:
        yield opened


#: The marks that an activation has not: the launcher's service has been active all the time, and Quadlet leaves the
#: container in the service's own cgroup.
LACKING = {"launcher": {Mark.JOB, Mark.PODMAN}, "quadlet": {Mark.RUNTIME}}


@pytest.mark.harness_activations
def test_an_activation(service: Service) -> None:
    """Every mark is there that the activation can have."""
    by_launcher = service.activation == "launcher"
    found = timeline.cold(service, Transport.TCP4)
    assert list(found.at) == [mark for mark in Mark if mark not in LACKING.get(service.activation, ())]
    assert (found.ready_s is None) is by_launcher
    service.stop_service()
    assert list(timeline.cold(service, Transport.TCP4).at) == list(found.at)
    warm = timeline.warm(service, Transport.TCP4)
    assert list(warm.at) == [Mark.CONNECT, Mark.REPLY, Mark.END]
    assert warm.whole_s < found.whole_s


@pytest.mark.harness_activations
def test_a_clock_that_steps(service: Service) -> None:
    """Podman writes in real time: when that is set during the activation, there is no timeline."""
    before = timeline.clock_offset()
    reply = service.ask_cold(Transport.TCP4, Client.NATIVE)
    service.wait_active(Transport.TCP4)
    with pytest.raises(ClockStepped) as caught:
        timeline.of_activation(service.activated, Transport.TCP4, reply, before - 3600)
    assert caught.value.moved_s == pytest.approx(3600, abs=1)
    assert caught.value.blame is Blame.MACHINE
    assert timeline.of_activation(service.activated, Transport.TCP4, reply, before).whole_s == reply.times.whole_s
