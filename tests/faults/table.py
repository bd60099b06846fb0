"""The faults of `server.py`: which promise each breaks, and the words that must name it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.contract import Contract, Promise, load
from harness.contract.image import Ready
from harness.core.transports import Transport
from tests.helpers.runs import REPOSITORY

FOLDER = REPOSITORY / "tests" / "faults"

#: After how long the server ends where nobody asks it, in seconds.
IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A defect built on purpose."""

    #: As `server.py` calls it.
    name: str
    #: The test that must find it.
    promise: Promise
    #: A pattern of the sentence that must name it.
    said: str
    transport: Transport = Transport.TCP4


FAULTS = (
    Fault("dies-on-start", Promise.EVERY_SOCKET, r"over tcp4, .*the program ended with status 1"),
    Fault("exits-zero", Promise.EVERY_SOCKET, r"over tcp4, .*the program ended with status 0"),
    Fault(
        "ignores-sockets",
        Promise.EVERY_SOCKET,
        r"the program ignores its sockets: pid 1 \(python3\) listens on tcp 0\.0\.0\.0:8080 by itself",
    ),
    Fault(
        "closes-all", Promise.EVERY_SOCKET, r"the program has closed fd 3 \(tcp4\): no process of the container has it"
    ),
    Fault("accepts-nothing", Promise.EVERY_SOCKET, r"accepts nothing on fd 3 \(tcp4\): a client waits in its queue"),
    Fault("first-only", Promise.EVERY_SOCKET, r"over udp4, .*accepts nothing on fd 4 \(udp4\)"),
    Fault("closes-second", Promise.EVERY_SOCKET, r"over udp4, the program has closed fd 4 \(udp4\)"),
    Fault(
        "waits-in-accept",
        Promise.EVERY_SOCKET,
        r"pid 1 \(python3\) waits in recv\(\) of fd 4 \(udp4\), and does not see the client of fd 3 \(tcp4\): "
        r"set 'NonBlocking=yes'|pid 1 \(python3\) waits in accept\(\) of fd 3 \(tcp4\), and does not see",
    ),
    Fault("dies-after-3", Promise.SAME_RUN, r"the program ended with status 1 after \d+ replies"),
    Fault("dies-after-100", Promise.SAME_RUN, r"the program ended with status 1 after \d+ replies"),
    Fault("one-client", Promise.SAME_RUN, r"reply \d+ over tcp4: expected 'hello\\n', got nothing"),
    Fault(
        "one-at-a-time", Promise.CROWD, r"of 50 clients at once, reply \d+ over tcp4: expected 'hello\\n', got nothing"
    ),
    Fault("shrinks-queue", Promise.CROWD, r"takes 0 clients since the program has it|of 50 clients at once, reply"),
    Fault("truncates", Promise.SIZES, r"over tcp4, the reply to 4097 bytes had its first 1000 bytes only"),
    Fault("truncates", Promise.SIZES, r"over udp4, the reply to 1473 bytes had its first 1000", Transport.UDP4),
    Fault(
        "doubles", Promise.SIZES, r"over tcp4, the reply to 4097 bytes had 4098 bytes, and other ones from byte 100\d"
    ),
    Fault("previous", Promise.SIZES, r"not those of this request|bytes more|bytes only", Transport.UDP4),
    Fault(
        "blocked-by-silence",
        Promise.RUDE_CLIENTS,
        r"beside a client that says nothing, pid 1 \(python3\) waits in recv\(\)",
    ),
    Fault("dies-of-reset", Promise.RUDE_CLIENTS, r"the program ended with status 1"),
    Fault("tenth-late", Promise.EVEN, r"5 of 100 replies take 3\d\d ms and more"),
    Fault("drops", Promise.EVEN, r"a reply comes in drops: 1\d\d ms from its first byte to its last"),
    Fault("late", Promise.EVEN, r"the median of \d+ replies is 5\d\d\.\d ms, and the budget 100 ms"),
    Fault("leaks-descriptors", Promise.FLAT, r"the container holds 1\.0 descriptors more with each request"),
    Fault("leaks-memory", Promise.FLAT, r"the container holds 6\d{4}\.\d bytes of memory more with each request"),
    Fault("leaks-processes", Promise.FLAT, r"the container holds \d+\.\d \w+ more with each request"),
    Fault("leaks-zombies", Promise.FLAT, r"the container holds 1\.0 zombies more with each request"),
    Fault("ignores-stop", Promise.STOP, r"SIGTERM did not end the program within 3 s"),
    Fault("stops-late", Promise.STOP, r"SIGTERM did not end the program within 3 s"),
    Fault(
        "shuts-down",
        Promise.SOCKETS_UNHARMED,
        r"after the program has ended, of the socket 'Listen\w+=127\.0\.0\.1:3000'",
    ),
    Fault("shrinks-queue", Promise.SOCKETS_UNHARMED, r"while the program runs, .* the queue was 128 and is 0"),
    Fault("second-port", Promise.NOBODY_ELSE_LISTENS, r"pid 1 \(python3\) listens on tcp 0\.0\.0\.0:9090 by itself"),
    Fault("second-datagrams", Promise.NOBODY_ELSE_LISTENS, r"listens on udp 0\.0\.0\.0:9091 by itself"),
    Fault(
        "leaves-lock",
        Promise.CRASH,
        r"after a SIGKILL of the main process, over tcp4, .*the program ended with status 1",
    ),
    Fault(
        "drops-accepted",
        Promise.NO_REPLY_LOST,
        r"a client over tcp4 lost its reply, the \d+th: expected 'hello\\n', got nothing",
    ),
    Fault("never-idles", Promise.IDLE, r"the program does not end within \d\.\d s after its last client"),
    Fault("leaves-client", Promise.IDLE, r"the program ended as idle while a client over tcp4 was connected"),
    Fault(
        "ready-early", Promise.READY, r"the program says READY=1 (0\.9|1\.\d) s before it answers a client that waits"
    ),
    Fault("floods", Promise.QUIET, r"one start with 20 requests printed \d{4} KiB, and may print 64 KiB"),
)


def contract_of(fault: str, promise: Promise) -> Contract:
    """Return the contract of the server with a fault, which makes the promise."""
    contract = load(FOLDER)
    command = (*contract.image.command[:-1], fault, *((str(IDLE_S),) if promise is Promise.IDLE else ()))
    image = contract.image.model_copy(update={"command": command})
    limits, budgets = contract.limits, contract.budgets
    if promise is Promise.READY:
        image = image.model_copy(update={"ready": Ready.CONTAINER})
    if promise is Promise.IDLE:
        limits = limits.model_copy(update={"idle_exit_s": IDLE_S})
    if fault == "late":
        budgets = budgets.model_copy(update={"warm_ms": 100.0})
    return contract.model_copy(update={"image": image, "limits": limits, "budgets": budgets})
