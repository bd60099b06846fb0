"""The pytest plugin: options, marks, parameters, the header, failure bundles. Fixtures are in `harness.fixtures`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from harness import bisect_failure, bundle, options, record, recorder
from harness.bases import Base
from harness.capabilities import GUEST
from harness.contract import Contract
from harness.errors import CapabilityMissing, HarnessError
from harness.guest import inside
from harness.guest.engine import Mode
from harness.guest.outside import GuestTests
from harness.options import Keep
from harness.progress import Progress
from harness.quiet import Quiet, owned
from harness.recorder import Recorder
from harness.runtime import Runtime
from harness.service import Service
from harness.transports import ROWS, Transport

pytest_plugins = ("harness.fixtures",)

#: Where this process's `Runtime` is.
RUNTIME = pytest.StashKey[Runtime]()

#: The activation that measurements use, unless --harness-activation leaves it out.
MEASURED = "unit"

#: More workers than this are slower, since each activation keeps two cores busy for a moment.
MOST_WORKERS = 8

#: What lets a measurement be alone.
_QUIET = pytest.StashKey[Quiet]()

#: The tests that run in a guest, where there may be any.
_GUEST_TESTS = pytest.StashKey[GuestTests]()


@dataclass(frozen=True, slots=True)
class Case:
    """What a data-driven test is about; the parameter `case` of a test is one of each combination."""

    contract: Contract
    activation: str
    transport: Transport

    @property
    def id(self) -> str:
        """A stable name for `-k` and `--lf`."""
        return f"{self.contract.name}-{self.activation}-{self.transport}"

    @property
    def record(self) -> record.Case:
        """What the results call it."""
        return record.Case(contract=self.contract.name, activation=self.activation, transport=self.transport)


#: Title of the section of a report that tells how to enter the session of its test.
_KEPT = "harness session kept"


# -- configuration ----------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks and read the options."""
    config.addinivalue_line(
        "markers", "requires(*capabilities): skip, or fail under --harness-strict, where the machine lacks one of them"
    )
    config.addinivalue_line("markers", "first_transport: only the first transport of each contract")
    config.addinivalue_line(
        "markers", "measures: alone on the machine; a case of it, only if its image is to be measured"
    )
    config.addinivalue_line("markers", "claim(sentence): the claim of the tutorial that the test proves")
    worker_input: dict[str, str] = getattr(config, "workerinput", {})
    told = worker_input.get("harness_base")
    runtime = Runtime(options.read(config), _progress(config), Base(told) if told else None, inside.store())
    config.stash[RUNTIME] = runtime
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
        config.pluginmanager.register(Recorder(config, runtime, guest), "harness-recorder")


def _configure_guest(config: pytest.Config, runtime: Runtime, worker_input: dict[str, str]) -> None:
    """Let tests run in a guest, where one is asked for or may be needed, and can be booted."""
    is_worker = bool(worker_input)
    folder = worker_input.get("harness_guest", "")
    mode = runtime.options.guest
    needed = mode is Mode.ALWAYS or not all(map(runtime.capabilities.has, GUEST))
    if mode is Mode.NEVER or not needed or config.option.collectonly or (is_worker and not folder):
        return
    if runtime.guest.engine is None:
        if mode is Mode.ALWAYS:
            raise pytest.UsageError(f"--harness-guest=always, but no guest can be booted: {runtime.guest.problem}.")
        return
    tests = GuestTests(config, runtime, runtime.guest, _progress(config), folder)
    config.stash[_GUEST_TESTS] = tests
    config.pluginmanager.register(tests, "harness-guest")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the contracts, so that every mistake in them is shown before anything else is done."""
    try:
        _ = session.config.stash[RUNTIME].contracts
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the session of this process."""
    if runtime := config.stash.get(RUNTIME, None):
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
    """Return the number of workers for `-n auto`."""
    return max(1, min(len(os.sched_getaffinity(0)), MOST_WORKERS))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the machine can do, and what is tested."""
    runtime = config.stash[RUNTIME]
    lines = runtime.capabilities.header(stood_in=GUEST if _GUEST_TESTS in config.stash else ())
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


# -- parameters -------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test with the argument `case` every contract x activation x transport that was asked for."""
    if "case" not in metafunc.fixturenames:
        return
    runtime = metafunc.config.stash[RUNTIME]
    cases = [
        Case(contract, activation, transport)
        for contract in runtime.contracts.values()
        for activation in runtime.activations
        for transport in contract.transports
        if transport in runtime.options.transports
    ]
    if not cases:
        raise pytest.UsageError(
            f"No contract of {', '.join(runtime.contracts)} has a socket of the transports that were asked for: "
            f"{', '.join(runtime.options.transports)}."
        )
    if metafunc.definition.get_closest_marker("measures"):
        cases = _measured(runtime, cases)
    if metafunc.definition.get_closest_marker("first_transport"):
        cases = list({(case.contract.name, case.activation): case for case in reversed(cases)}.values())[::-1]
    metafunc.parametrize("case", [pytest.param(case, id=case.id, marks=_marks(case)) for case in cases])


def _measured(runtime: Runtime, cases: Sequence[Case]) -> list[Case]:
    """Return the cases whose image is compared, has a budget or is to be measured anyway, by one activation.

    An image is the same whatever activates it. What only a guest can reach is left out: it has no clock to measure by.
    """
    activation = MEASURED if MEASURED in runtime.activations else next(iter(runtime.activations))
    return [
        case
        for case in cases
        if case.activation == activation
        and case.transport not in runtime.lacking
        and (runtime.options.measure or case.contract.name in runtime.options.baselines or case.contract.budgets.any)
    ]


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    capability = ROWS[case.transport].capability
    return [pytest.mark.requires(capability)] if capability else []


# -- running ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put measurements last, and leave those out that have nothing to measure."""
    idle = [item for item in items if _measures(item) and _has_case(item) and not isinstance(_case(item), Case)]
    if idle:
        config.hook.pytest_deselected(items=idle)
        items[:] = [item for item in items if item not in idle]
    items.sort(key=_measures)


def _measures(item: pytest.Item) -> bool:
    return item.get_closest_marker("measures") is not None


def _has_case(item: pytest.Item) -> bool:
    return "case" in getattr(item, "fixturenames", ())


def _case(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("case") if callspec else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Be quiet while another worker measures."""
    quiet = item.config.stash[_QUIET]
    with quiet.alone() if _measures(item) else quiet.shared():
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose `requires` marks name what the machine lacks."""
    runtime = item.config.stash[RUNTIME]
    for mark in item.iter_markers("requires"):
        if mark.kwargs or not mark.args:
            pytest.fail("the mark 'requires' takes names of capabilities", pytrace=False)
        for name in mark.args:
            if not runtime.capabilities.has(name):
                _do_without(item, runtime, name)


def _do_without(item: pytest.Item, runtime: Runtime, name: str) -> None:
    """Skip the test, or fail it in a strict run, since the machine lacks a capability."""
    capability = runtime.capabilities.get(name)
    error = CapabilityMissing(name, capability.detail, capability.remedy)
    why = f" No guest can stand in: {runtime.guest.problem}." if name in GUEST else ""
    if runtime.options.strict:
        item.stash[recorder.BLAME] = error.blame
        pytest.fail(f"{error}{why}\nThe run is strict: a missing capability fails.", pytrace=False)
    pytest.skip(f"{error.sentence}{why} Remedy: {error.remedy}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error of ours as its own text, and leave a bundle while the service still lives."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, HarnessError) and report.failed:
        report.longrepr = f"{_place(item, call)}\n{error}"
    runtime = item.config.stash[RUNTIME]
    bundled = _leave_bundle(runtime, item, report, error) if report.failed else ""
    recorder.annotate(report, item, error, bundled)
    if report.when == "call" or report.failed:
        _keep(runtime, report)
    return report


def _place(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """Return the line of the test that failed, as one can click on it."""
    assert call.excinfo is not None
    path, line, _name = item.location
    for entry in call.excinfo.traceback:
        if entry.path == item.path:
            line = entry.lineno
    return f"{path}:{(line or 0) + 1}: in {item.name}"


def _leave_bundle(runtime: Runtime, item: pytest.Item, report: pytest.TestReport, error: BaseException | None) -> str:
    """Write the bundle and return its folder, "" where there is none."""
    arguments: dict[str, object] = getattr(item, "funcargs", {})
    service = arguments.get("service")
    session = runtime.live_session
    if session is None:
        return ""
    folder = bundle.folder_for(runtime.options.artifacts, item.nodeid)
    try:
        names = bundle.write(folder, session, service if isinstance(service, Service) else None)
        if isinstance(service, Service) and (said := bisect_failure.write(folder, runtime, service, error)):
            report.sections.append(("harness bisect", f"{said} More is in '{folder / bisect_failure.FILE_NAME}'."))
    except OSError as error:
        report.sections.append(("harness bundle", f"None could be written to '{folder}': {error.strerror}."))
        return ""
    report.sections.append(("harness bundle", f"{folder}: {', '.join(names)}"))
    return os.fspath(folder)


def _keep(runtime: Runtime, report: pytest.TestReport) -> None:
    """Keep the session, if that was asked for, before the test's fixtures take away what is in it."""
    keep = runtime.options.keep
    wanted = keep is Keep.ALWAYS or (keep is Keep.ON_FAILURE and report.failed)
    if wanted and (entry := runtime.keep_session()):
        report.sections.append((_KEPT, entry))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to enter the sessions of tests that passed; those of failed ones are shown with the failure."""
    for report in terminalreporter.getreports("passed"):
        for title, text in report.sections:
            if title == _KEPT:
                terminalreporter.write_line(f"{title} by {report.nodeid}: {text}")
