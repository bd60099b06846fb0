"""A kind of probe that another package brings."""

from __future__ import annotations

import abc

from harness.contract.probe import Asks
from harness.core.deadline import Deadline
from harness.core.transports import Endpoint
from harness.probes.reply import Reply
from harness.session.session import Session


class CustomProbe(Asks):
    """The table of a contract, which asks and judges by itself.

    Its field `kind` is the Literal that a contract says, and the name of the entry point in the group `harness.probes`.
    """

    @abc.abstractmethod
    def ask(self, session: Session, endpoint: Endpoint, deadline: Deadline) -> Reply:
        """Ask once and return the reply, whatever came of it; raise nothing for a reply that is wrong or late."""

    @abc.abstractmethod
    def judge(self, reply: Reply) -> str:
        """Return what is wrong with a reply, such as "expected 'a', got 'b'", or "" when it is right."""

    def command(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return a command that asks the same, as a person would type it in the session; empty where there is none."""
        return ()
