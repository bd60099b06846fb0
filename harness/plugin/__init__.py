"""The pytest plugin: options and marks always; all else once a run asks for it.

Every run of pytest imports this file where the harness is installed: it imports nothing that costs time.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from harness.plugin import input_errors, options

pytest_plugins = ("harness.plugin.fixtures",)

#: The marks, as `--markers` shows them.
MARKS = (
    "harness_requires(*capabilities): skip, or fail under --harness-strict, where the machine lacks one of them",
    "harness_program(name): skip, or fail under --harness-strict, where it is not installed",
    "harness_activations(*names): once by each of these, or by all; the argument 'harness_activation_name' is its name",
    "harness_known_bug(capability, *versions, issue): expect a failure, strictly, where it has one of these versions",
    "harness_first_transport: only the first transport of each contract",
    "harness_benchmark: alone on the machine; cases only of images that are to be measured",
    "harness_verifies(sentence): the claim of the tutorial that the test proves",
)

#: One of them is behind each of our fixtures; the second is a parameter without one.
_ARGUMENTS = frozenset({"harness_userland", "harness_case"})

#: More workers than this are slower, since each activation keeps two cores busy for a moment.
MOST_WORKERS = 8

#: The attribute of a report that carries what only the worker knows; xdist hands on all attributes.
ATTRIBUTE = "harness"

#: What a worker's output calls the contracts that deselected tests need.
DESELECTED = "harness_deselected"


def params(item: pytest.Item) -> dict[str, Any]:
    """Return the parameters of a test by their names; {} where it has none."""
    return getattr(getattr(item, "callspec", None), "params", {})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marks, and begin where the command line or the ini file asks for it."""
    for line in MARKS:
        config.addinivalue_line("markers", line)
    if options.asked(config):
        from harness.plugin import run

        run.begin(config)
        run.offer_guest(config)
    else:
        config.pluginmanager.register(AtFirstUse(config), "harness-at-first-use")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return the number of workers for `-n auto`: a third of its time, a worker waits for something to end."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or not options.asked(config):
        return None
    return max(1, min(len(os.sched_getaffinity(0)) * 3 // 2, MOST_WORKERS))


class AtFirstUse:
    """Begins in a run that asks for nothing, when the first collected test has a fixture or a mark of ours.

    The controller of xdist collects nothing: it begins with the first report of a worker that has begun.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._begun = False
        self._late_header: list[str] = []

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Begin for a test, and give it the parameters, for which the plugins of the run come too late."""
        if self._begun or not _uses(metafunc):
            return
        from harness.plugin import parametrize, run

        self._begun = True
        with input_errors.raised():
            run.begin(self._config)
            if not hasattr(self._config, "workerinput"):
                run.offer_guest(self._config)
            run.check(self._config)
        self._late_header = run.pytest_report_header(self._config)
        parametrize.pytest_generate_tests(metafunc)

    def pytest_report_collectionfinish(self) -> list[str]:
        """Show the header, for which it was too early before."""
        return self._late_header

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give an xdist worker what it can't make for itself."""
        from harness.plugin import exclusive

        exclusive.pytest_configure_node(node)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Give the controller's run its exit status."""
        if input_errors.is_marked(report) and not self._begun:
            self._begun = True
            input_errors.watch(self._config).pytest_collectreport(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Begin in the controller."""
        if not hasattr(report, ATTRIBUTE) or self._begun:
            return
        from harness.plugin import run

        self._begun = True
        run.begin(self._config).pytest_runtest_logreport(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Begin in the controller of workers that have deselected all, to say what was left out."""
        if self._begun or not getattr(node, "workeroutput", {}).get(DESELECTED):
            return
        from harness.plugin import parametrize, run

        self._begun = True
        run.begin(self._config)
        parametrize.pytest_testnodedown(node)


def _uses(metafunc: pytest.Metafunc) -> bool:
    """Whether a test has a fixture or a mark of ours."""
    names = {line.partition(":")[0].partition("(")[0] for line in MARKS}
    marks = (mark.name in names for mark in metafunc.definition.iter_markers())
    return not _ARGUMENTS.isdisjoint(metafunc.fixturenames) or any(marks)
