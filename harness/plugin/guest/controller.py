"""The plugin of the run outside a guest: it lists what must run inside, waits for the results, and reports them.

Tests that need a guest stand last in the collection, so that the guest boots and works while the others run. The
process that owns the run (the only one, or xdist's controller) owns the one guest; each process that is to run one of
its tests reads the results of that test from the exchange folder.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.capabilities.table import GUEST
from harness.core.deadline import Deadline
from harness.core.errors import GuestError, HarnessError
from harness.core.progress import Progress
from harness.guest.engines.base import Mode
from harness.guest.engines.select import Plan
from harness.images.store import BUILD_LIMIT_S
from harness.plugin import bundle, params
from harness.plugin.guest import worker
from harness.plugin.guest.inner_run import GuestJob
from harness.plugin.guest.thread import FAILED_FILE, PHASE_FILE, Owner, Wanted
from harness.plugin.settings import SETTINGS
from harness.runtime.runtime import Runtime

#: Longest time without any sign of the guest, in seconds; its owner, who builds and watches, gives up earlier.
_SILENCE_LIMIT_S = 2 * BUILD_LIMIT_S

#: Pause between two looks for a result, in seconds.
_LOOK_S = 0.02

#: How long a person waits without being told for what, and how often that is told, in seconds.
_PATIENCE_S, _TELL_S = 2.0, 5.0


#: The name of `GuestTests` among pytest's plugins.
NAME = "harness-guest"


def of(config: pytest.Config) -> GuestTests | None:
    """Return the plugin of a run, None where no test runs in a guest."""
    plugin = config.pluginmanager.get_plugin(NAME)
    return plugin if isinstance(plugin, GuestTests) else None


class GuestTests:
    """The tests of this process that run in the guest."""

    def __init__(self, config: pytest.Config, runtime: Runtime, plan: Plan, progress: Progress, told: str) -> None:
        """Own the guest, or use the one whose exchange folder xdist's controller has `told`."""
        assert plan.engine is not None
        self._config = config
        self._runtime = runtime
        self._plan = plan
        self._progress = progress
        scale = runtime.settings.timeout_scale * plan.engine.time_scale
        self._job = GuestJob(config, runtime, plan.mode, scale, progress)
        self._owner = None if told else Owner(plan.engine, runtime.make_images, self._job.boot, scale)
        self.folder = self._owner.guest.folder if self._owner else Path(told)
        self._mine: set[pytest.Item] = set()
        self._results = Results(self.folder)

    def needs(self, item: pytest.Item) -> bool:
        """Whether a test must run in the guest."""
        if self._plan.mode is Mode.ALWAYS:
            return True
        names = {name for mark in item.iter_markers("harness_requires") for name in mark.args}
        return any(not self._runtime.capabilities.has(name) for name in GUEST.intersection(names))

    # -- collection ---------------------------------------------------------------------------------------------

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the guest's tests last."""
        items.sort(key=self.needs)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """List what is left after all deselection; a worker does so before it tells the controller of its tests."""
        chosen = [item for item in session.items if self.needs(item)]
        if not chosen or self._config.option.collectonly:
            return
        self._mine = set(chosen)
        Wanted(
            tuple(_inner_id(item) for item in chosen),
            tuple(dict.fromkeys(os.fspath(item.path) for item in chosen)),
            self._contracts(chosen),
        ).write(self.folder)
        if self._owner:
            self._owner.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Start the guest when the first worker has listed its tests; all list the same."""
        if self._owner:
            self._owner.start()

    def _contracts(self, items: Sequence[pytest.Item]) -> tuple[str, ...]:
        """Return the contracts of the tests' cases; all, where a test has no case."""
        names: dict[str, None] = {}
        for item in items:
            case = params(item).get("harness_case")
            names.update(dict.fromkeys([case.contract.name] if case else self._runtime.contracts))
        return tuple(names)

    def check(self) -> None:
        """Raise UsageError for a userland that can't be booted."""
        self._job.check()

    @property
    def name(self) -> str:
        """Name of the engine and its kernel."""
        return self._plan.name

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker where the results will be."""
        node.workerinput["harness_guest"] = str(self.folder)

    # -- running ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Report what the guest tells of a test, in place of running it here."""
        if item not in self._mine:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        started = time.monotonic()
        try:
            for data in self._results.of(_inner_id(item), _SILENCE_LIMIT_S, self._tell):
                report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
                report.nodeid = item.nodeid
                if report.failed:
                    self._take_bundle(item, report)
                yield report
        except HarnessError as error:
            yield self._failure(item, error, time.monotonic() - started)
            yield _report(item, "teardown", "passed", None, 0.0)

    def _tell(self, waited_s: float) -> None:
        self._progress(f"the guest ({self._plan.name}) {self._results.phase()} ({waited_s:.0f} s)")

    def _failure(self, item: pytest.Item, error: HarnessError, waited_s: float) -> pytest.TestReport:
        path, line, _name = item.location
        report = _report(item, "setup", "failed", f"{path}:{(line or 0) + 1}: in {item.name}\n{error}", waited_s)
        self._take_bundle(item, report)
        return report

    def _take_bundle(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Copy what the guest has written for a failure out of it, and add its console."""
        inner, outer = self.folder / "artifacts", self._config.stash[SETTINGS].artifacts
        source = bundle.folder_for(inner, _inner_id(item))
        target = bundle.folder_for(outer, _inner_id(item))
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        for name, title in (("console", "guest-console.txt"), ("output", "guest-pytest.txt")):
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, target / title)
        report.sections = [(title, text.replace(f"{inner}", f"{outer}")) for title, text in report.sections]
        report.sections.append(("harness guest", f"{self._plan.name}; its console: {target / 'guest-console.txt'}"))

    # -- the end ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Let no worker wait for results that nobody wants any more, before xdist waits for the workers."""
        if self._owner:
            self._owner.stop()

    def pytest_unconfigure(self) -> None:
        """End the guest."""
        if self._owner:
            self._owner.close()


class Results:
    """The results in an exchange folder, read as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offset = 0
        self._told = Deadline.after(0)
        self._found: dict[str, list[dict[str, Any]]] = {}
        self._complete: set[str] = set()

    def of(self, name: str, limit_s: float, tell: Callable[[float], None]) -> Iterator[dict[str, Any]]:
        """Yield the reports of a test as they come, up to that of its teardown; raise GuestError when they can't."""
        given = 0
        waited, quiet = Deadline.after(limit_s), Deadline.after(limit_s)
        while True:
            # What is known of the end must be older than the last look at the results.
            over = self._over(name)
            if self._read():
                quiet = Deadline.after(limit_s)
            reports = self._found.get(name, [])
            yield from reports[given:]
            given = len(reports)
            if name in self._complete:
                return
            if over:
                raise over
            if quiet.expired:
                raise GuestError(f"Nothing was heard of the guest for {quiet.elapsed_s:.0f} s.")
            if waited.elapsed_s > _PATIENCE_S and self._told.expired:
                self._told = Deadline.after(_TELL_S)
                tell(waited.elapsed_s)
            time.sleep(_LOOK_S)

    def phase(self) -> str:
        """Return what the guest is at, in words."""
        if (self._folder / "booted").exists():
            return f"runs its tests, {len(self._complete)} done"
        try:
            return (self._folder / PHASE_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return "begins"

    def _read(self) -> bool:
        """Read what has come since the last time, whole lines only; return whether there was anything."""
        try:
            with (self._folder / worker.REPORTS_FILE).open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return False
        lines, newline, _rest = text.rpartition(b"\n")
        self._offset += len(lines) + len(newline)
        for message in map(json.loads, lines.splitlines()):
            if "report" in message:
                self._found.setdefault(message["id"], []).append(message["report"])
                if message["report"]["when"] == "teardown":
                    self._complete.add(message["id"])
        return bool(lines)

    def _over(self, name: str) -> HarnessError | None:
        """Return why no more results will come, None while they may."""
        if not self._folder.is_dir():
            return GuestError("The owner of the guest has ended, and with it the guest.")
        try:
            failed = json.loads((self._folder / FAILED_FILE).read_text(encoding="utf-8"))
            return GuestError(failed["sentence"], hint=failed["hint"], evidence=failed["evidence"])
        except FileNotFoundError:
            pass
        try:
            status = (self._folder / "status").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        evidence = {}
        for title in ("output", "console"):
            file = self._folder / title
            evidence[title] = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        return GuestError(
            f"The run in the guest ended with status {status} before it told the result of '{name}'.", evidence=evidence
        )


def _inner_id(item: pytest.Item) -> str:
    """Return a test's name in the run inside; xdist's --dist=loadgroup adds the group's here."""
    mark = item.get_closest_marker("xdist_group")
    name = item.nodeid
    if mark and "@" in name and getattr(item.config, "workerinput", None) is not None:
        return name.rpartition("@")[0]
    return name


def _report(item: pytest.Item, when: Any, outcome: Any, longrepr: Any, duration: float) -> pytest.TestReport:
    return pytest.TestReport(
        item.nodeid, item.location, {item.name: 1}, outcome, longrepr, when, duration=duration, start=time.time(),
    )  # fmt: skip
