"""The pytest plugin: options, the header, what a run and its workers share; it brings those for cases and failures."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from typing import Any

import pytest

from harness import cases, failures, options
from harness.bases import Base
from harness.capabilities import GUEST
from harness.cases import RUNTIME, RUNTIMES, measures
from harness.errors import HarnessError
from harness.guest import inside, plan
from harness.guest.engine import Mode
from harness.guest.outside import GuestTests
from harness.progress import Progress
from harness.quiet import Quiet, owned
from harness.recorder import Recorder
from harness.runtime import Runtime
from harness.userland import HOST

pytest_plugins = ("harness.fixtures",)

#: More workers than this are slower, since each activation keeps two cores busy for a moment.
MOST_WORKERS = 8

#: What lets a measurement be alone.
_QUIET = pytest.StashKey[Quiet]()

#: The tests that run in a guest, where there may be any.
_GUEST_TESTS = pytest.StashKey[GuestTests]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and make what the run has one of."""
    worker_input: dict[str, str] = getattr(config, "workerinput", {})
    told = worker_input.get("harness_base")
    runtime = Runtime(options.read(config), _progress(config), Base(told) if told else None, inside.store())
    config.stash[RUNTIME] = runtime
    config.stash[RUNTIMES] = {
        name: runtime if name == runtime.name else runtime.beside(name) for name in runtime.options.userlands
    }
    for part in (cases, failures):
        config.pluginmanager.register(part, part.__name__)
    _configure_guest(config, runtime, worker_input)
    _configure_record(config, runtime, worker_input)


def _configure_record(config: pytest.Config, runtime: Runtime, worker_input: dict[str, Any]) -> None:
    """Let the process that owns the run write the results, and its workers be quiet for measurements."""
    if worker_input:
        config.stash[_QUIET] = Quiet(*worker_input["harness_quiet"])
        return
    quiet = contextlib.ExitStack()
    config.stash[_QUIET] = quiet.enter_context(owned())
    config.add_cleanup(quiet.close)
    if not config.option.collectonly:
        guest = runtime.guest.name if _GUEST_TESTS in config.stash else ""
        config.pluginmanager.register(Recorder(config, [*config.stash[RUNTIMES].values()], guest), "harness-recorder")


def _configure_guest(config: pytest.Config, runtime: Runtime, worker_input: dict[str, str]) -> None:
    """Let tests run in a guest, where one is asked for or may be needed, and can be booted."""
    is_worker = bool(worker_input)
    folder = worker_input.get("harness_guest", "")
    mode = runtime.options.guest
    needed = mode is Mode.ALWAYS or not all(map(runtime.capabilities.has, GUEST))
    if mode is Mode.NEVER or not needed or config.option.collectonly or (is_worker and not folder):
        return
    if problem := plan.refusal(runtime.guest, runtime.options.userlands):
        raise pytest.UsageError(f"--harness-guest=always, but {problem}.")
    if runtime.guest.engine is None:
        return
    tests = GuestTests(config, runtime, runtime.guest, _progress(config), folder)
    config.stash[_GUEST_TESTS] = tests
    config.pluginmanager.register(tests, "harness-guest")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the contracts, so that every mistake in them is shown before anything else is done; unpack userlands."""
    try:
        _ = session.config.stash[RUNTIME].contracts
        for runtime in session.config.stash[RUNTIMES].values():
            _ = runtime.userland
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the sessions of this process."""
    for runtime in config.stash.get(RUNTIMES, {}).values():
        runtime.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker what the controller has found out, so that all build on the same base."""
    node.workerinput["harness_base"] = str(node.config.stash[RUNTIME].base)
    quiet = node.config.stash[_QUIET]
    node.workerinput["harness_quiet"] = [quiet.turnstile, quiet.lock]
    if tests := node.config.stash.get(_GUEST_TESTS, None):
        node.workerinput["harness_guest"] = str(tests.folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`: a third of its time, a worker waits for something to end."""
    return max(1, min(len(os.sched_getaffinity(0)) * 3 // 2, MOST_WORKERS))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the machine can do, and what is tested."""
    runtime = config.stash[RUNTIME]
    stood_in = GUEST if _GUEST_TESTS in config.stash else ()
    lines = []
    for there in config.stash[RUNTIMES].values():
        lines += there.capabilities.header(stood_in=stood_in)
        place = "harness" if there.name == HOST.name else f"harness {there.name}"
        lines += [f"{place}: left out, {name}: {why.detail}" for name, why in there.left_out.items()]
    names = ", ".join(runtime.contracts) or "none"
    strict = "strict" if runtime.options.strict else "lenient"
    if _GUEST_TESTS in config.stash:
        what = "all tests" if runtime.options.guest is Mode.ALWAYS else ", ".join(sorted(GUEST))
        lines.append(f"harness: {what} by a guest: {runtime.guest.name}")
    return [*lines, f"harness: contracts {names}; base {runtime.base}; {strict}"]


def _progress(config: pytest.Config) -> Progress:
    """Return a way to tell the person in front of the terminal, past pytest's capturing and from xdist's workers."""

    def tell(line: str) -> None:
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            sys.stderr.write(f"harness: {line}\n")
            return
        with capture.global_and_fixture_disabled():
            sys.stderr.write(f"\nharness: {line}")
            sys.stderr.flush()

    return tell


# -- quiet ------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put measurements last, also behind the tests of a guest."""
    items.sort(key=measures)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Be quiet while another worker measures."""
    quiet = item.config.stash[_QUIET]
    with quiet.alone() if measures(item) else quiet.shared():
        return (yield)
