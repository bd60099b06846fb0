"""What a run of pytest has once it asks for the harness: contracts, userlands, workers that share, a guest, results."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from harness.activation import activations
from harness.capabilities.table import GUEST
from harness.core.errors import HarnessError
from harness.core.progress import Progress
from harness.core.text import put, shown
from harness.core.userland import HOST
from harness.guest.engines import select
from harness.guest.engines.base import Mode
from harness.images.bases import Base
from harness.plugin import exclusive, failures, input_errors, options, parametrize
from harness.plugin.guest import controller, worker
from harness.plugin.parametrize import RUNTIME, RUNTIMES
from harness.plugin.recorder import Recorder
from harness.plugin.settings import SETTINGS
from harness.runtime.runtime import Runtime


def begin(config: pytest.Config) -> Recorder:
    """Read the options, make what the run has one of, and register the plugins that act; return that of the results."""
    input_errors.watch(config)
    worker_input: dict[str, Any] = getattr(config, "workerinput", {})
    base = worker_input.get("harness_base")
    settings = config.stash[SETTINGS] = options.read(config)
    runtime = Runtime(settings, _progress(config), Base(base) if base else None, worker.store(), own=worker.userland())
    runtimes = {name: runtime if name == runtime.name else runtime.beside(name) for name in runtime.settings.userlands}
    config.stash[RUNTIME], config.stash[RUNTIMES] = runtime, runtimes
    for part in (sys.modules[__name__], parametrize, failures, exclusive):
        config.pluginmanager.register(part, part.__name__)
    recorder = Recorder(config, [*runtimes.values()])
    if not worker_input and not config.option.collectonly:
        config.pluginmanager.register(recorder, "harness-recorder")
    return recorder


def offer_guest(config: pytest.Config) -> None:
    """Let tests run in a guest, where one is asked for or may be needed, and can be booted."""
    worker_input: dict[str, Any] = getattr(config, "workerinput", {})
    folder = worker_input.get("harness_guest", "")
    runtime = config.stash[RUNTIME]
    mode = runtime.settings.guest
    needed = mode is Mode.ALWAYS or not all(map(runtime.capabilities.has, GUEST))
    if mode is Mode.NEVER or not needed or config.option.collectonly or (worker_input and not folder):
        return
    if problem := select.refusal(runtime.guest, runtime.settings.userlands):
        raise pytest.UsageError(f"--harness-guest=always, but {problem}.")
    if runtime.guest.engine is not None:
        tests = controller.GuestTests(config, runtime, runtime.guest, _progress(config), folder)
        config.pluginmanager.register(tests, controller.NAME)


def check(config: pytest.Config) -> None:
    """Raise HarnessError for every mistake in the contracts, before anything else is done; unpack the userlands."""
    _ = activations()
    _ = config.stash[RUNTIME].contracts
    parametrize.check_transports(config.stash[RUNTIME], config.stash[SETTINGS].transports)
    for runtime in config.stash[RUNTIMES].values():
        _ = runtime.userland
    if tests := controller.of(config):
        tests.check()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Show mistakes in what the run was given as such."""
    try:
        check(session.config)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the sessions of this process."""
    for runtime in config.stash[RUNTIMES].values():
        runtime.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker what the controller has found out, so that all build on the same base."""
    node.workerinput["harness_base"] = str(node.config.stash[RUNTIME].base)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the machine can do, and what is tested."""
    runtime = config.stash[RUNTIME]
    guest = controller.of(config) is not None
    lines = []
    for there in config.stash[RUNTIMES].values():
        lines += there.capabilities.header(stood_in=GUEST if guest else ())
        place = "harness" if there.name == HOST.name else f"harness {there.name}"
        lines += [f"{place}: left out, {name}: {why.detail}" for name, why in there.left_out.items()]
    names = ", ".join(runtime.contracts) or "none"
    strict = "strict" if config.stash[SETTINGS].strict else "lenient"
    if guest:
        what = "all tests" if runtime.settings.guest is Mode.ALWAYS else ", ".join(sorted(GUEST))
        lines.append(f"harness: {what} by a guest: {runtime.guest.name}")
    unbounded = runtime.capabilities.get("bounds")
    why = "" if unbounded.present else f"; not limited here: memory, processes ({unbounded.detail})"
    lines.append(f"harness: sessions have {runtime.settings.bounds}{why}")
    return [*lines, f"harness: contracts {names}; base {runtime.base}; {strict}"]


def _progress(config: pytest.Config) -> Progress:
    """Return a way to tell the person in front of the terminal, past pytest's capturing and from xdist's workers."""

    def tell(line: str) -> None:
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            put(sys.stderr, shown(f"harness: {line}\n"))
            return
        with capture.global_and_fixture_disabled():
            put(sys.stderr, shown(f"\nharness: {line}"))

    return tell
