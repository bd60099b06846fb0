"""What podman notes of containers, as its file has it: JSON lines, of which it drops the older half now and then."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from harness.activation.run import is_left, last_notes, noted

#: When the first note was written, in seconds since 1970.
BEGAN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def moment(second: int) -> str:
    """Return a time as podman writes it, to the nanosecond."""
    return f"{datetime.fromtimestamp(BEGAN + second, UTC):%Y-%m-%dT%H:%M:%S}.123456789Z"


def notes(*events: tuple[str, str]) -> str:
    """Return the file with notes of containers, each with its name and what happened, one a second."""
    lines = [
        {"Type": "container", "Name": name, "Status": status, "ID": f"{number}", "ContainerExitCode": number}
        | {"Time": moment(number)}
        for number, (name, status) in enumerate(events)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


RUN = (("web", "create"), ("web", "start"), ("other", "start"), ("web", "died"), ("web", "remove"))


def test_what_has_happened_since() -> None:
    """Of this name, of this status, and since that time; the newest first."""
    events = notes(*RUN, *RUN)
    assert [event["ID"] for event in noted(events, "web", "start", 0)] == ["6", "1"]
    assert [event["ContainerExitCode"] for event in noted(events, "web", "died", BEGAN + 4)] == [8]
    assert noted(events, "web", "start", BEGAN + 7) == []


def test_older_notes_may_go_meanwhile() -> None:
    """One start since then is one, whatever podman has dropped; what is being written is no note yet."""
    before = notes(*RUN, *RUN, *RUN)
    after = before[len(before) // 2 :].partition("\n")[2] + notes(*RUN).replace("2026", "2027") + '{"Type": "cont'
    assert len(noted(after, "web", "start", 0)) < len(noted(before, "web", "start", 0))
    assert len(noted(after, "web", "start", datetime(2026, 6, 1, tzinfo=UTC).timestamp())) == 1


def test_the_last_of_a_name() -> None:
    """From its making on; it is left until podman has removed it."""
    assert last_notes(notes(*RUN, ("web", "create")), "web").keys() == {"create"}
    assert is_left(notes(*RUN, ("web", "create")), "web")
    assert not is_left(notes(*RUN), "web")
    assert last_notes(notes(*RUN), "nobody") == {}
