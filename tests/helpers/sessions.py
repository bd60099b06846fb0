"""What the tests of sessions share: who may have one with namespaces, sessions of one's own, what is left of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.transports import ROWS, Transport
from harness.images.store import ImageStore
from harness.session import factory
from harness.session.session import Session
from harness.session.spec import Spec
from harness.standalone import cgroups

#: For tests of what only root's sessions have: namespaces, ports, an account of their own.
isolated = pytest.mark.skipif(not factory.is_isolated(), reason="needs root: its sessions have namespaces")


def over(*names: str) -> pytest.MarkDecorator:
    """Return the mark that runs a test over some transports, those left out that the machine lacks."""
    cases = []
    for name in names:
        capability = ROWS[Transport(name)].capability
        cases.append(
            pytest.param(Transport(name), marks=[pytest.mark.harness_requires(capability)] if capability else [])
        )
    return pytest.mark.parametrize("transport", cases)


def spec(store: ImageStore, **changes: Any) -> Spec:
    """Return the description of a session as `opening.fresh` makes it, with some parts changed."""
    store.prepare()
    return replace(factory._spec(store.graph, writing=False), **changes)


@contextmanager
def opened(store: ImageStore, **changes: Any) -> Iterator[Session]:
    """Open a session of the test's own, of which the others know nothing."""
    with factory._open(spec(store, **changes)) as session:
        yield session


def cgroups_of(supervisor: int) -> list[Path]:
    """Return the cgroups that a supervisor has made on the machine, whether or not it still lives."""
    root = factory.cgroup_root()
    return [
        Path(path, name)
        for path, names, _ in os.walk(root)
        for name in names
        if name.startswith(f"harness-{supervisor}-")
    ]


def running(session: Session, program: str) -> list[int]:
    """Return the session's processes that are a program, by their numbers on the machine.

    A process that has ended and waits for its parent is in no cgroup's list any more.
    """
    found = []
    for pid in cgroups.processes(os.fspath(session.cgroup)):
        with contextlib.suppress(OSError):
            if Path("/proc", str(pid), "comm").read_text(encoding="utf-8").strip() == program:
                found.append(pid)
    return found
