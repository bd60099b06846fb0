"""The cases of data-driven tests, and which tests a run has: a plugin of pytest's, beside `harness.plugin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from harness.activation import Activation, activations, activations_for, named
from harness.battery.promises import PROMISES, promises
from harness.capabilities.table import GUEST
from harness.contract import Contract, ExecProbe
from harness.core.errors import Blame, CapabilityMissing, HarnessError, UsageError
from harness.core.text import shown
from harness.core.transports import ROWS, Transport
from harness.core.userland import HOST
from harness.plugin import DESELECTED, params, recorder
from harness.plugin.input_errors import InputError
from harness.plugin.settings import SETTINGS
from harness.plugin.terminal import tell
from harness.results import record
from harness.runtime.runtime import Runtime

#: Where this process's `Runtime` of each userland is, by its name; and that of the first, for what all share.
RUNTIMES = pytest.StashKey[dict[str, Runtime]]()
RUNTIME = pytest.StashKey[Runtime]()

#: The activation that measurements use, unless --harness-activation leaves it out.
MEASURED = "unit"

#: The contracts that deselected tests need.
_STRANGE = pytest.StashKey[dict[str, None]]()


class ContractName(str):
    """The parameter of a test that needs the contract of this name; see `harness.plugin.fixtures.contract_fixture`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Case:
    """What a data-driven test is about; the parameter `harness_case` of a test is one of each combination."""

    contract: Contract
    activation: str
    transport: Transport

    @property
    def id(self) -> str:
        """A stable name for `-k` and `--lf`."""
        return f"{self.contract.name}-{self.activation}-{self.label}"

    @property
    def label(self) -> str:
        """How a person tells its socket from the contract's others."""
        return self.contract.label(self.transport)

    def record(self, userland: str) -> record.Case:
        """What the results call it."""
        return record.Case(
            userland=userland, contract=self.contract.name, activation=self.activation, transport=self.label
        )


# -- parameters -------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test every userland that was asked for and, with the argument `harness_case`, every case.

    A case is a contract x activation x transport that was asked for.
    """
    if "harness_userland" in metafunc.fixturenames:
        names = [*metafunc.config.stash[RUNTIMES]]
        # The machine's own has no part in the name of a test.
        ids = [pytest.HIDDEN_PARAM if name == HOST.name else name for name in names]
        metafunc.parametrize("harness_userland", names, ids=ids, scope="session")
    if "harness_promise" in metafunc.fixturenames:
        _generate_promises(metafunc)
    elif "harness_case" in metafunc.fixturenames:
        _generate_cases(metafunc)
    named = metafunc.definition.get_closest_marker("harness_activations")
    if named and "harness_activation_name" in metafunc.fixturenames:
        _generate_ways(metafunc, named.args)


def _ways(config: pytest.Config) -> dict[str, Activation]:
    """Return name -> activation of all that some userland of the run is capable of."""
    return {name: way for there in config.stash[RUNTIMES].values() for name, way in there.activations.items()}


def _generate_ways(metafunc: pytest.Metafunc, names: Sequence[str]) -> None:
    """Give a test, as the argument `harness_activation_name`, each of the activations `names`, or of all."""
    if unknown := sorted(set(names).difference(activations())):
        raise InputError(
            f"@pytest.mark.harness_activations: unknown activation '{', '.join(unknown)}' "
            f"(known: {', '.join(activations())})."
        )
    known = {name: way for name, way in _ways(metafunc.config).items() if not names or name in names}
    metafunc.parametrize(
        "harness_activation_name", [pytest.param(name, marks=_needs(way)) for name, way in known.items()]
    )


def _generate_cases(metafunc: pytest.Metafunc) -> None:
    runtime = metafunc.config.stash[RUNTIME]
    known = _ways(metafunc.config)
    cases = [
        Case(selected, activation, transport)
        for contract in runtime.contracts.values()
        for activation in activations_for(contract, known)
        for selected in contract.selections
        for transport in selected.transports
        if transport in metafunc.config.stash[SETTINGS].transports and not selected.socket(transport).accept
    ]
    if not runtime.contracts:
        raise InputError("A test takes 'harness_case', but the run has no contract. Hint: --harness-contract PATH")
    if metafunc.definition.get_closest_marker("harness_benchmark"):
        cases = _measured(runtime, metafunc.config.stash[SETTINGS].measure, cases, known)
    if metafunc.definition.get_closest_marker("harness_first_transport"):
        cases = list({(case.contract.name, case.activation): case for case in reversed(cases)}.values())[::-1]
    metafunc.parametrize(
        "harness_case",
        [pytest.param(case, id=case.id, marks=_marks(case, named(case.activation)))
         for case in cases],
    )  # fmt: skip


def _generate_promises(metafunc: pytest.Metafunc) -> None:
    """Give a test every promise of every contract, by every activation that was asked for."""
    runtime, known = metafunc.config.stash[RUNTIME], _ways(metafunc.config)
    asked = metafunc.config.stash[SETTINGS].transports
    found = []
    for contract in runtime.contracts.values():
        for name, way in activations_for(contract, known).items():
            for promise, selected, transport in promises(contract, way, asked, runtime.lacking):
                case = Case(selected, name, transport)
                about = case.id if PROMISES[promise].each_socket else f"{contract.name}-{name}"
                marks = _marks(case, way)
                if reason := contract.promises.get(promise):
                    marks.append(pytest.mark.xfail(reason=f"waived: {reason}", strict=False))
                found.append(pytest.param(case, promise, id=f"{about}-{promise}", marks=marks))
    metafunc.parametrize(("harness_case", "harness_promise"), found)


def _measured(runtime: Runtime, everything: bool, cases: Sequence[Case], known: Mapping[str, Activation]) -> list[Case]:
    """Return the cases whose image is compared, has a budget or is to be measured anyway, by one activation.

    An image is the same whatever activates it. What only a guest can reach is left out: it has no clock to measure by.
    """
    chosen = MEASURED if MEASURED in known else next(iter(known))
    return [
        case
        for case in cases
        if case.activation in activations_for(case.contract, {chosen: known[chosen]})
        and case.transport not in runtime.lacking
        and (everything or case.contract.name in runtime.settings.baselines or case.contract.budgets.any)
    ]


def _needs(activation: Activation) -> list[pytest.MarkDecorator]:
    """Return the marks for what an activation takes of the userland."""
    return [pytest.mark.harness_requires(*activation.needs)] if activation.needs else []


def _marks(case: Case, activation: Activation) -> list[pytest.MarkDecorator]:
    """Return what the case needs of the machine, and why it can't be, whatever the machine."""
    marks = _needs(activation)
    if capability := ROWS[case.transport].capability:
        marks.append(pytest.mark.harness_requires(capability))
    promised = case.contract.probe(case.transport)
    if isinstance(promised, ExecProbe) and promised.image is None:
        marks.append(pytest.mark.harness_program(promised.command[0]))
    if refusal := activation.refusal(case.contract):
        marks.append(pytest.mark.skip(reason=refusal))
    return marks


# -- input errors -----------------------------------------------------------------------------------------------------


def check_transports(runtime: Runtime, asked: Sequence[Transport]) -> None:
    """Raise UsageError where the transports that were asked for leave no case of any contract."""
    if runtime.contracts and not any(set(asked) & set(item.transports) for item in runtime.contracts.values()):
        raise UsageError(
            f"No contract of this run ({', '.join(runtime.contracts)}) has a socket of the transports that were asked "
            f"for: {', '.join(asked)}."
        )


# -- selection --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of what this run has not: a contract, an activation, a case."""
    given = config.stash[RUNTIME].contracts
    strange: dict[str, None] = {}
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        missing = [name for name in _contracts(item) if name not in given]
        strange |= dict.fromkeys(missing)
        without = _lacks(item, "harness_case") or (_has_ways(item) and _lacks(item, "harness_activation_name"))
        (left_out if missing or without or _beyond_userland(item) else kept).append(item)
    if strange:
        config.stash[_STRANGE] = strange
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _contracts(item: pytest.Item) -> list[str]:
    """Return the names of the contracts that a test needs by its fixtures, a case apart."""
    return [str(value) for value in params(item).values() if isinstance(value, ContractName)]


def _has_ways(item: pytest.Item) -> bool:
    """Whether a test is run by several activations."""
    return item.get_closest_marker("harness_activations") is not None


def _lacks(item: pytest.Item, argument: str) -> bool:
    """Whether a test that takes a case, or the name of an activation, was given none."""
    return argument in getattr(item, "fixturenames", ()) and not isinstance(params(item).get(argument), (Case, str))


def _beyond_userland(item: pytest.Item) -> bool:
    """Whether a test is by an activation that its userland is left without."""
    case = params(item).get("harness_case")
    if isinstance(case, Case):
        return case.activation not in runtime_of(item).activations_for(case.contract)
    way = params(item).get("harness_activation_name") if _has_ways(item) else None
    return way is not None and way not in runtime_of(item).activations


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell xdist's controller, which collects nothing, what was deselected."""
    output: dict[str, list[str]] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[DESELECTED] = list(session.config.stash.get(_STRANGE, None) or ())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what an xdist worker has deselected; all collect the same."""
    told = getattr(node, "workeroutput", {}).get(DESELECTED, [])
    if told:
        node.config.stash[_STRANGE] = dict.fromkeys(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out."""
    if strange := terminalreporter.config.stash.get(_STRANGE, None):
        names = ", ".join(sorted(strange))
        said = f"harness: deselected tests that need the contracts {names}: not given in this run"
        tell(terminalreporter, shown(said))


# -- what the machine must have ---------------------------------------------------------------------------------------


def runtime_of(item: pytest.Item) -> Runtime:
    """Return the runtime of a test's userland, that of the first for a test which has none."""
    name = params(item).get("harness_userland")
    return item.config.stash[RUNTIMES][name] if name else item.config.stash[RUNTIME]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose marks name what the machine lacks; expect the failures that are known."""
    runtime = runtime_of(item)
    for mark in item.iter_markers("harness_known_bug"):
        _expect(item, runtime, *mark.args, **mark.kwargs)
    for mark in item.iter_markers("harness_requires"):
        if mark.kwargs or not mark.args:
            pytest.fail("the mark 'harness_requires' takes names of capabilities", pytrace=False)
        for name in mark.args:
            if not runtime.capabilities.has(name):
                lacking = runtime.capabilities.get(name)
                problem = runtime.guest.problem or "this run has prepared none"
                why = f" No guest can stand in: {problem}." if name in GUEST else ""
                _do_without(item, CapabilityMissing(name, lacking.detail, lacking.hint), "capability", why)
    for mark in item.iter_markers("harness_program"):
        for name in mark.args:
            if not runtime.has_program(name):
                _do_without(item, _no_program(name), "program")


def _expect(item: pytest.Item, runtime: Runtime, name: str, *versions: str, issue: str) -> None:
    """Expect a test to fail by somebody else's bug, in the versions in which it was seen."""
    found = runtime.capabilities.get(name).version
    if found in versions:
        item.add_marker(pytest.mark.xfail(strict=True, reason=f"{name} {found}: {issue}"))


def _no_program(name: str) -> HarnessError:
    return HarnessError(
        f"The client program '{name}' of the contract's probe is not installed.",
        hint="Install it, or give the probe an 'image' that has it.",
        blame=Blame.MACHINE,
    )


def _do_without(item: pytest.Item, error: HarnessError, what: str, why: str = "") -> None:
    """Skip the test, or fail it in a strict run, since the machine lacks something."""
    if item.config.stash[SETTINGS].strict:
        item.stash[recorder.BLAME] = error.blame
        pytest.fail(f"{error}{why}\nThe run is strict: a missing {what} fails.", pytrace=False)
    pytest.skip(f"{error.sentence}{why} Hint: {error.hint}")
