"""Results as a run could have written them, made of numbers: the same ones at every call."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Mapping, Sequence

from harness.core.errors import Blame
from harness.core.text import shown
from harness.core.transports import Transport
from harness.results.record import (
    BudgetCheck,
    Case,
    Comparison,
    Environment,
    Kind,
    Outcome,
    PhaseComparison,
    Results,
    Role,
    Sample,
    Series,
    Test,
    Verdict,
)

#: Marks of a cold activation, in milliseconds since the client connected.
COLD = {
    "connect": 0.0,
    "job": 9.0,
    "podman": 10.0,
    "created": 55.0,
    "runtime": 95.0,
    "exec": 128.0,
    "reply": 150.0,
    "end": 150.2,
}
WARM = {"connect": 0.0, "reply": 0.31, "end": 0.42}

ACTIVATIONS = ("generate", "launcher", "unit")

#: What a hostile image could have said.
HOSTILE = (
    "<script>alert(1)</script>\"'`|*_[x](javascript:alert(1))&amp;]]>\x00\x1b[31m\x07\r\n\n# no heading\n```\n"
    "\u202eevil\u2066\ufffe مرحبا " + "long" * 500
)


def environment() -> Environment:
    """Return a machine."""
    return Environment(
        kernel="6.18.44",
        machine="x86_64",
        cpus=2,
        versions={"podman": "4.3.1", "crun": "1.8.1", "systemd": "252", "conmon": "2.1.6", "python": "3.11.7"},
        base="debian",
        guest="uml, kernel 6.1.176",
        strict=False,
    )


def case(contract: str = "echo", activation: str = "unit", transport: str = "tcp4") -> Case:
    """Return a case."""
    return Case(contract=contract, activation=activation, transport=transport)


def series(
    about: Case,
    *,
    kind: Kind = Kind.COLD,
    role: Role = Role.CANDIDATE,
    grown: Mapping[str, float] | None = None,
    noise: float = 0.08,
    number: int = 20,
    marks: Mapping[str, float] | None = None,
) -> Series:
    """Return the samples of an image; `grown` has the milliseconds by which the phase before a mark grew."""
    named = f"contract={about.contract!r} activation={about.activation!r} transport={about.transport!r}"
    chance = random.Random(f"{named} {kind} {role}")
    marks = marks or (COLD if kind is Kind.COLD else WARM)
    samples = []
    for _ in range(number):
        at = before = 0.0
        found = {}
        for mark, mean in marks.items():
            step = mean - before + (grown or {}).get(mark, 0.0)
            at, before = at + max(0.0, chance.gauss(step, noise * step)), mean
            found[mark] = at
        ready = found["created"] + 1 if kind is Kind.COLD and about.activation != "launcher" else None
        samples.append(Sample(at_ms=found, ready_ms=ready))
    tag = "latest" if role is Role.CANDIDATE else "v1"
    return Series(
        case=about,
        kind=kind,
        role=role,
        image=f"localhost/{about.contract}:{tag}",
        image_id="sha256:" + f"{about.contract}{role}".encode().hex().ljust(64, "0")[:64],
        samples=tuple(samples),
    )


def comparison(candidate: Series, baseline: Series, verdict: Verdict, *, grown: str = "") -> Comparison:
    """Return a verdict on two series; the interval is made up around their ratio."""
    ours, theirs = (_median([max(s.at_ms.values()) for s in one.samples]) for one in (candidate, baseline))
    ratio = ours / theirs
    width = 0.19 if verdict is Verdict.INCONCLUSIVE else 0.03
    p_slower = {Verdict.REGRESSION: 0.00004, Verdict.INCONCLUSIVE: 0.09, Verdict.PASS: 0.48}[verdict]
    phases = tuple(
        PhaseComparison(
            phase=f"{one} -> {other}",
            candidate_ms=_median([s.at_ms[other] - s.at_ms[one] for s in candidate.samples]),
            baseline_ms=_median([s.at_ms[other] - s.at_ms[one] for s in baseline.samples]),
            p_slower=0.00001 if grown == f"{one} -> {other}" else 0.5,
        )
        for one, other in itertools.pairwise(candidate.samples[0].at_ms)
    )
    return Comparison(
        case=candidate.case,
        kind=candidate.kind,
        verdict=verdict,
        count=len(candidate.samples),
        candidate_ms=ours,
        baseline_ms=theirs,
        ratio=ratio,
        low=ratio - width,
        high=ratio + width,
        confidence=0.95,
        p_slower=p_slower,
        max_slowdown=1.1,
        phases=phases,
        grown=grown,
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def results() -> Results:
    """Return a whole run: two images, three activations, six transports, and one of everything that can go wrong."""
    measured: list[Series] = []
    compared: list[Comparison] = []
    for activation in ACTIVATIONS:
        for transport in (Transport.TCP4, Transport.UNIX):
            about = case("echo", activation, transport)
            slow = activation == "unit" and transport is Transport.TCP4
            unsure = activation == "generate" and transport is Transport.UNIX
            candidate = series(about, grown={"reply": 30.0} if slow else None, noise=0.3 if unsure else 0.08)
            baseline = series(about, role=Role.BASELINE)
            measured += [candidate, baseline]
            verdict = Verdict.REGRESSION if slow else Verdict.INCONCLUSIVE if unsure else Verdict.PASS
            compared.append(comparison(candidate, baseline, verdict, grown="exec -> reply" if slow else ""))
    warm = series(case(), kind=Kind.WARM)
    measured += [warm, series(case("httpd"), grown={"exec": 12.0})]
    return Results(
        version="0.1.0",
        started="2026-11-23T17:40:00+00:00",
        duration_s=212.4,
        environment=environment(),
        tests=tuple(_tests()),
        series=tuple(measured),
        comparisons=tuple(compared),
        budgets=(
            BudgetCheck(case=case(), kind=Kind.COLD, limit_ms=170, median_ms=180.9, count=20, within=False),
            BudgetCheck(case=case(), kind=Kind.WARM, limit_ms=5, median_ms=0.42, count=20, within=True),
        ),
    )


def _tests() -> list[Test]:
    """Return the tests of all cases: udp of httpd does not exist, vsock is skipped, one reply and one set-up fail."""
    tests = []
    for contract in ("echo", "httpd"):
        for activation, transport in itertools.product(ACTIVATIONS, Transport):
            if contract == "httpd" and transport in (Transport.UDP4, Transport.UDP6):
                continue
            about = case(contract, activation, transport)
            name = f"[{contract}-{activation}-{transport}]"
            tests.append(_reply(f"suites/test_replies.py::test_reply{name}", about))
            if activation == "unit" and contract == "echo":
                again = f"suites/test_replies.py::test_reply_again{name}"
                tests.append(Test(id=again, outcome=Outcome.PASSED, duration_s=0.8, case=about))
    tests.append(
        Test(
            id="suites/test_tutorial.py::test_echo_step_by_step",
            outcome=Outcome.PASSED,
            duration_s=3.2,
            claim="Use Podman to start a socket-activated container.",
        )
    )
    return tests


def _reply(name: str, about: Case) -> Test:
    common: dict[str, object] = {"id": name, "case": about, "duration_s": 1.3}
    if about.transport == Transport.VSOCK:
        reason = "This machine lacks the capability 'vsock_loopback': AF_VSOCK has no loopback."
        return Test(**common, outcome=Outcome.SKIPPED, message=reason)  # type: ignore[arg-type]
    if about == case("httpd", "launcher", "tcp6"):
        return Test(
            **common,  # type: ignore[arg-type]
            outcome=Outcome.FAILED,
            blame=Blame.IMAGE,
            bundle="test_replies.py--test_reply-httpd-launcher-tcp6",
            message="The reply of 'http://[::1]:8080' is not the contract's.\n"
            "  expected:\n    <html><body><h1>It works!</h1></body></html>\n"
            "  received:\n    <html><body><h1>It works?</h1></body></html>\n"
            f"Hint: look at the image.\n[{Blame.IMAGE}: ProbeFailed]",
        )
    if about == case("echo", "generate", "udp6"):
        return Test(
            **common,  # type: ignore[arg-type]
            outcome=Outcome.ERROR,
            blame=Blame.MACHINE,
            bundle="test_replies.py--test_reply-echo-generate-udp6",
            message="The throwaway session could not be made: no cgroup is delegated.",
        )
    claim = "Socket activation works over " + about.transport + "." if about.activation == "unit" else ""
    return Test(**common, outcome=Outcome.PASSED, claim=claim)  # type: ignore[arg-type]


def hostile() -> Results:
    """Return results whose every text is hostile."""
    text = HOSTILE
    about = Case(contract=text, activation=text, transport=text)
    marks = {text: 0.0, f"{text}2": 5.0}
    candidate, baseline = (
        Series(
            case=about,
            kind=Kind.COLD,
            role=role,
            image=text,
            image_id=text,
            samples=(Sample(at_ms=marks, ready_ms=3.0), Sample(at_ms=marks)),
        )
        for role in (Role.CANDIDATE, Role.BASELINE)
    )
    phase = f"{text} -> {text}2"
    return Results(
        version=text,
        started=text,
        duration_s=0,
        environment=Environment(
            kernel=text, machine=text, cpus=1, versions={text: text}, base=text, guest=text, strict=True
        ),
        tests=tuple(
            Test(
                id=text,
                outcome=outcome,
                duration_s=0,
                case=about,
                message=text,
                blame=text,
                bundle=bundle,
                claim=text,
            )
            for outcome in Outcome
            for bundle in (text, "javascript:alert(1)", "//host/x", "/etc/passwd", "../../x", "data:text/html,x")
        ),
        series=(candidate, baseline),
        comparisons=(
            comparison(candidate, baseline, Verdict.REGRESSION).model_copy(
                update={
                    "grown": shown(phase),
                    "phases": (PhaseComparison(phase=phase, candidate_ms=5, baseline_ms=0, p_slower=0),),
                }
            ),
        ),
        budgets=(BudgetCheck(case=about, kind=Kind.COLD, limit_ms=0, median_ms=5, count=2, within=False),),
    )


def empty() -> Results:
    """Return a run in which nothing ran."""
    return Results(version="0.1.0", started="2026-11-23T17:40:00+00:00", duration_s=0, environment=environment())
