"""A measurement is alone: while one test measures, the other workers of the run wait between two tests."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import pytest

from harness.core.locking import ReadWriteLock

#: The lock that all processes of a run have in common.
_LOCK = pytest.StashKey[ReadWriteLock]()

_KEY = "harness_lock"


def measures(item: pytest.Item) -> bool:
    """Whether a test must be alone on the machine."""
    return item.get_closest_marker("harness_benchmark") is not None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the lock is."""
    node.workerinput[_KEY] = list(_lock(node.config).paths)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put measurements last, also after the tests of a guest."""
    items.sort(key=measures)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait while another worker measures, and measure while no other worker tests."""
    lock = _lock(item.config)
    with lock.writing() if measures(item) else lock.reading():
        return (yield)


def _lock(config: pytest.Config) -> ReadWriteLock:
    """Return the lock, that of the controller in an xdist worker."""
    if _LOCK not in config.stash:
        if paths := getattr(config, "workerinput", {}).get(_KEY):
            config.stash[_LOCK] = ReadWriteLock(*paths)
        else:
            made = contextlib.ExitStack()
            config.stash[_LOCK] = made.enter_context(ReadWriteLock.made())
            config.add_cleanup(made.close)
    return config.stash[_LOCK]
