"""The cases of data-driven tests, and which tests a run has: a plugin of pytest's, beside `harness.plugin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from harness import record, recorder
from harness.activation import Activation, activations
from harness.capabilities import GUEST
from harness.contract import Contract, ExecProbe
from harness.errors import Blame, CapabilityMissing
from harness.runtime import Runtime
from harness.transports import ROWS, Transport
from harness.userland import HOST

#: Where this process's `Runtime` of each userland is, by its name; and that of the first, for what all share.
RUNTIMES = pytest.StashKey[dict[str, Runtime]]()
RUNTIME = pytest.StashKey[Runtime]()

#: The activation that measurements use, unless --harness-activation leaves it out.
MEASURED = "unit"

#: The contracts that deselected tests are about.
_STRANGE = pytest.StashKey[dict[str, None]]()

_MARKS = (
    "requires(*capabilities): skip, or fail under --harness-strict, where the machine lacks one of them",
    "program(name): skip, or fail under --harness-strict, where it is not installed",
    "about(*contracts): deselect where one of these is not among the contracts given",
    "activations(*names): once by each of these activations, or by all, that the run has; the argument 'way' names it",
    "known_bug(capability, *versions, issue): expected to fail, and strictly so, where it is one of these versions",
    "first_transport: only the first transport of each contract",
    "measures: alone on the machine; cases only of images that are to be measured",
    "claim(sentence): the claim of the tutorial that the test proves",
)


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

    def record(self, userland: str) -> record.Case:
        """What the results call it."""
        return record.Case(
            userland=userland, contract=self.contract.name, activation=self.activation, transport=self.transport
        )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    for line in _MARKS:
        config.addinivalue_line("markers", line)


# -- parameters -------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test every userland that was asked for and, with the argument `case`, every case.

    A case is a contract x activation x transport that was asked for.
    """
    if "userland" in metafunc.fixturenames:
        names = [*metafunc.config.stash[RUNTIMES]]
        # The machine's own has no part in the name of a test.
        ids = [pytest.HIDDEN_PARAM if name == HOST.name else name for name in names]
        metafunc.parametrize("userland", names, ids=ids, scope="session")
    if "case" in metafunc.fixturenames:
        _generate_cases(metafunc)
    named = metafunc.definition.get_closest_marker("activations")
    if named and "way" in metafunc.fixturenames:
        _generate_ways(metafunc, named.args)


def _ways(config: pytest.Config) -> dict[str, Activation]:
    """Return name -> activation of all that some userland of the run is capable of."""
    return {name: way for there in config.stash[RUNTIMES].values() for name, way in there.activations.items()}


def _generate_ways(metafunc: pytest.Metafunc, names: Sequence[str]) -> None:
    """Give a test, as the argument `way`, each of the activations `names`, or of all."""
    if unknown := sorted(set(names).difference(activations())):
        raise pytest.UsageError(f"The mark 'activations' names {', '.join(unknown)}, which is none.")
    ways = {name: way for name, way in _ways(metafunc.config).items() if not names or name in names}
    metafunc.parametrize("way", [pytest.param(name, marks=_needs(way)) for name, way in ways.items()])


def _generate_cases(metafunc: pytest.Metafunc) -> None:
    runtime = metafunc.config.stash[RUNTIME]
    ways = _ways(metafunc.config)
    cases = [
        Case(contract, activation, transport)
        for contract in runtime.contracts.values()
        for activation in ways
        for transport in contract.transports
        if transport in runtime.options.transports
    ]
    if not cases:
        raise pytest.UsageError(
            f"No contract of {', '.join(runtime.contracts)} has a socket of the transports that were asked for: "
            f"{', '.join(runtime.options.transports)}."
        )
    if metafunc.definition.get_closest_marker("measures"):
        cases = _measured(runtime, cases, ways)
    if metafunc.definition.get_closest_marker("first_transport"):
        cases = list({(case.contract.name, case.activation): case for case in reversed(cases)}.values())[::-1]
    metafunc.parametrize(
        "case", [pytest.param(case, id=case.id, marks=_marks(case, ways[case.activation])) for case in cases]
    )


def _measured(runtime: Runtime, cases: Sequence[Case], ways: Mapping[str, Activation]) -> list[Case]:
    """Return the cases whose image is compared, has a budget or is to be measured anyway, by one activation.

    An image is the same whatever activates it. What only a guest can reach is left out: it has no clock to measure by.
    """
    activation = MEASURED if MEASURED in ways else next(iter(ways))
    return [
        case
        for case in cases
        if case.activation == activation
        and case.transport not in runtime.lacking
        and (runtime.options.measure or case.contract.name in runtime.options.baselines or case.contract.budgets.any)
    ]


def _needs(activation: Activation) -> list[pytest.MarkDecorator]:
    """Return the marks for what an activation takes of the userland."""
    return [pytest.mark.requires(*activation.needs)] if activation.needs else []


def _marks(case: Case, activation: Activation) -> list[pytest.MarkDecorator]:
    """Return what the case needs of the machine, and why it can't be, whatever the machine."""
    marks = _needs(activation)
    if capability := ROWS[case.transport].capability:
        marks.append(pytest.mark.requires(capability))
    promised = case.contract.probe(case.transport)
    if isinstance(promised, ExecProbe) and promised.image is None:
        marks.append(pytest.mark.program(promised.command[0]))
    if refusal := activation.refusal(case.contract):
        marks.append(pytest.mark.skip(reason=refusal))
    return marks


# -- selection --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests about a contract or an activation which this run is not about, and measurements of nothing."""
    given = config.stash[RUNTIME].contracts
    strange: dict[str, None] = {}
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        missing = [name for mark in item.iter_markers("about") for name in mark.args if name not in given]
        strange |= dict.fromkeys(missing)
        without = (measures(item) and _lacks(item, "case")) or (_has_ways(item) and _lacks(item, "way"))
        (left_out if missing or without or _beyond_userland(item) else kept).append(item)
    if strange:
        config.stash[_STRANGE] = strange
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def measures(item: pytest.Item) -> bool:
    """Whether a test must be alone on the machine."""
    return item.get_closest_marker("measures") is not None


def _has_ways(item: pytest.Item) -> bool:
    """Whether a test is run by several activations."""
    return item.get_closest_marker("activations") is not None


def _lacks(item: pytest.Item, argument: str) -> bool:
    """Whether a test that takes a case, or the name of an activation, was given none."""
    callspec = getattr(item, "callspec", None)
    takes_one = argument in getattr(item, "fixturenames", ())
    return takes_one and not (callspec and isinstance(callspec.params.get(argument), (Case, str)))


def _beyond_userland(item: pytest.Item) -> bool:
    """Whether a test is by an activation that its userland is left without."""
    params: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    case = params.get("case")
    way = case.activation if isinstance(case, Case) else params.get("way") if _has_ways(item) else None
    return way is not None and way not in runtime_of(item).activations


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell xdist's controller, which collects nothing, what was deselected."""
    output: dict[str, list[str]] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["harness_strange"] = list(session.config.stash.get(_STRANGE, None) or ())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what an xdist worker has deselected; all collect the same."""
    told = getattr(node, "workeroutput", {}).get("harness_strange", [])
    if told:
        node.config.stash[_STRANGE] = dict.fromkeys(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out."""
    if strange := terminalreporter.config.stash.get(_STRANGE, None):
        terminalreporter.write_line(
            f"harness: deselected tests about {', '.join(sorted(strange))}: not among the contracts of this run"
        )


# -- what the machine must have ---------------------------------------------------------------------------------------


def runtime_of(item: pytest.Item) -> Runtime:
    """Return the runtime of a test's userland, that of the first for a test which has none."""
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("userland") if callspec else None
    return item.config.stash[RUNTIMES][name] if name else item.config.stash[RUNTIME]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose `requires` marks name what the machine lacks; expect the failures that are known."""
    runtime = runtime_of(item)
    for mark in item.iter_markers("known_bug"):
        _expect(item, runtime, *mark.args, **mark.kwargs)
    for mark in item.iter_markers("requires"):
        if mark.kwargs or not mark.args:
            pytest.fail("the mark 'requires' takes names of capabilities", pytrace=False)
        for name in mark.args:
            if not runtime.capabilities.has(name):
                _do_without(item, runtime, name)
    for mark in item.iter_markers("program"):
        for name in mark.args:
            if not runtime.has_program(name):
                _do_without_program(item, runtime, name)


def _expect(item: pytest.Item, runtime: Runtime, name: str, *versions: str, issue: str) -> None:
    """Expect a test to fail by somebody else's bug, in the versions in which it was seen."""
    found = runtime.capabilities.get(name).version
    if found in versions:
        item.add_marker(pytest.mark.xfail(strict=True, reason=f"{name} {found}: {issue}"))


def _do_without(item: pytest.Item, runtime: Runtime, name: str) -> None:
    """Skip the test, or fail it in a strict run, since the machine lacks a capability."""
    capability = runtime.capabilities.get(name)
    error = CapabilityMissing(name, capability.detail, capability.remedy)
    why = f" No guest can stand in: {runtime.guest.problem}." if name in GUEST else ""
    if runtime.options.strict:
        item.stash[recorder.BLAME] = error.blame
        pytest.fail(f"{error}{why}\nThe run is strict: a missing capability fails.", pytrace=False)
    pytest.skip(f"{error.sentence}{why} Remedy: {error.remedy}")


def _do_without_program(item: pytest.Item, runtime: Runtime, name: str) -> None:
    """Skip the test, or fail it in a strict run, since a contract's client program is not installed."""
    sentence = f"The client program '{name}' of the contract's probe is not installed."
    remedy = "Install it, or give the probe an 'image' that has it."
    if runtime.options.strict:
        item.stash[recorder.BLAME] = Blame.MACHINE
        pytest.fail(f"{sentence}\nWay out: {remedy}\nThe run is strict: a missing program fails.", pytrace=False)
    pytest.skip(f"{sentence} Remedy: {remedy}")
