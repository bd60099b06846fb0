"""The promises that every contract makes, and the table `promises`, which waives some of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field


class Promise(StrEnum):
    """What a socket-activated image does, unless its contract says otherwise; docs/battery.md has each in a sentence.

    The order is the one in which a person wants to know.
    """

    EVERY_SOCKET = "every_socket"
    SAME_RUN = "same_run"
    CROWD = "crowd"
    SIZES = "sizes"
    RUDE_CLIENTS = "rude_clients"
    EVEN = "even"
    FLAT = "flat"
    STOP = "stop"
    SOCKETS_UNHARMED = "sockets_unharmed"
    NOBODY_ELSE_LISTENS = "nobody_else_listens"
    CRASH = "crash"
    NO_REPLY_LOST = "no_reply_lost"
    IDLE = "idle"
    READY = "ready"
    QUIET = "quiet"
    INSTANCES = "instances"


#: Promise -> why the image does not make it.
Waivers = dict[Promise, Annotated[str, Field(min_length=10, max_length=300)]]
