"""A client that connects and says nothing: what counts is that the service accepts it, as the kernel tells."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from harness.core.deadline import Deadline
from harness.core.transports import Endpoint
from harness.probes.native import connect
from harness.probes.reading import Hopeless, Reading
from harness.probes.reply import Reply, Times
from harness.session import sockets
from harness.session.session import Session

#: Pause between two looks at the connection, in seconds.
_PAUSE_S = 0.005


def ask(
    session: Session,
    endpoint: Endpoint,
    deadline: Deadline,
    hopeless: Hopeless | None = None,
    before_closing: Callable[[], object] = lambda: None,
) -> Reply:
    """Connect, and wait until the service has taken the connection out of the queue of its socket, see accept(2)."""
    reading = Reading(deadline, None, hopeless)
    connected = accepted = None
    complaint = ""
    with session.socket(endpoint.row.family, endpoint.row.kind) as client:
        started = time.monotonic()
        try:
            connected = connect(client, session, endpoint, deadline)
            client.setblocking(False)
            while not sockets.is_accepted(session, client):
                if reading.is_over():
                    raise TimeoutError
                time.sleep(_PAUSE_S)
            accepted = time.monotonic()
        except TimeoutError:
            complaint = reading.complaint
        except OSError as error:
            complaint = os.strerror(error.errno) if error.errno else str(error)
        ended = accepted or time.monotonic()
        before_closing()
    return Reply(endpoint, "native", b"", b"", Times(started, connected, accepted, ended), complaint)
