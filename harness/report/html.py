"""The page: one file without scripts that loads nothing, for the artifacts of a CI run and for a person's browser."""

from __future__ import annotations

import base64
import hashlib
import posixpath
import statistics
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from harness.core.userland import HOST
from harness.report import cells, plots
from harness.report.cells import TimeCell
from harness.report.markup import Child, Markup, element, join, table, text
from harness.report.summary import Image, Summary, Timing, summarize
from harness.report.text import MARKS, NOTHING, TONES, case_name, count, cut, ms, ratio
from harness.results.record import Comparison, Environment, Outcome, Results, Role, Test, Verdict

#: The longest message on the page; the results have all of it.
_MESSAGE = 20_000

#: The longest other text on the page.
_TEXT = 400


def view(results: Results, folder: str = "") -> str:
    """Return the page; `folder` is where the results are, seen from the page, for its links to bundles."""
    run = summarize(results)
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    title = f"{run.verdict}: socket activation, {results.started}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        # Nothing is loaded, nothing runs, nothing is sent: only this very style sheet counts.
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        ),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", _short(title)),
        Markup(f"<style>{style}</style>"),
    )
    sections = list(_sections(run, folder))
    body = element("body", _header(run, sections), element("main", *(section for _, _, section in sections)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(run: Summary, sections: list[tuple[str, str, Markup]]) -> Markup:
    results = run.results
    links = (element("li", element("a", _short(name), href=f"#{identity}")) for identity, name, _ in sections)
    return element(
        "header",
        element("h1", "Socket activation of containers"),
        element("p", _mark(run.verdict, run.verdict.capitalize()), class_="verdict"),
        element("p", run.sentence),
        element(
            "p",
            "Began ",
            element("time", _short(results.started)),
            f", took {results.duration_s:.0f} s; harness {_short(results.version)}.",
            class_="quiet",
        ),
        element("nav", element("ul", *links), aria_label="Contents"),
    )


def _sections(run: Summary, folder: str) -> Iterator[tuple[str, str, Markup]]:
    """Yield identity, name and content of each section that has one."""
    if run.bad:
        content = join(_failure(test, folder) for test in run.bad)
        yield _section("failures", count(len(run.bad), "failure"), content)
    for number, image in enumerate(run.images, 1):
        yield _section(f"image-{number}", image.name, _image(image, f"image-{number}"))
    if run.promises:
        items = (element("li", _short(sentence)) for sentence in run.promises)
        yield _section("promises", "Promises", element("ul", *items))
    if run.skipped:
        yield _section("skipped", "Skipped", _skipped(run))
    if run.claims:
        yield _section("claims", "Claims", _claims(run))
    yield _section("environment", "Environment", _environment(run))


def _section(identity: str, name: str, content: Markup) -> tuple[str, str, Markup]:
    heading = element("h2", _short(name), id=identity)
    return identity, name, element("section", heading, content, aria_labelledby=identity)


# --- an image ---------------------------------------------------------------------------------------------------------


def _image(image: Image, identity: str) -> Markup:
    parts: list[Markup] = []
    if image.images:
        rows: list[Markup] = []
        for role in (role for role in Role if role in image.images):
            reference, digest = image.images[role]
            short = element("code", _short(digest[:19]), class_="quiet")
            rows += [element("dt", role), element("dd", element("code", _short(reference)), " ", short)]
        parts.append(element("dl", *rows))
    if image.cells:
        parts += [element("h3", "Replies"), _replies(image, f"{identity}-replies")]
    if image.timings:
        parts += [element("h3", "Times"), _times(image, f"{identity}-times")]
    for number, timing in enumerate(image.timings, 1):
        if timing.timelines:
            parts.append(_timing(timing, f"{identity}-case-{number}"))
    return join(parts)


def _replies(image: Image, identity: str) -> Markup:
    rows = []
    for transport in image.transports:
        cells = ((image.cell(transport, column), column) for column in image.columns)
        shown = (
            _mark(cell.outcome, cell.words) if cell else _nothing(_short(column.why) or "no test")
            for cell, column in cells
        )
        rows.append([_short(transport), *shown])
    caption = f"{_short(image.name)}: transports by activations"
    replies = table(caption, ["Transport", *(_short(column.name) for column in image.columns)], rows, identity=identity)
    empty = [f"{column.name}: {column.why}." for column in image.columns if column.why]
    return join([replies, *(element("p", _short(line), class_="quiet") for line in empty)])


def _times(image: Image, identity: str) -> Markup:
    """Return the table of all cases; each row leads to the plots of its case, each column has something in it."""
    found = cells.table(image.timings)
    rows = []
    for index, timing in enumerate(image.timings):
        name = text(_short(timing.name))
        if timing.timelines:
            name = element("a", name, href=f"#{identity.removesuffix('-times')}-case-{index + 1}-plots")
        rows.append([name, *(_cell(cell) for cell in found.row(index))])
    ratios = ", and the ratio of candidate to baseline with its interval"
    compared = any(timing.comparison for timing in image.timings)
    caption = f"{_short(image.name)}: medians{ratios if compared else ''}"
    head = ["case", *found.titles]
    return table(caption, [title.capitalize() for title in head], rows, identity=identity, numbers=True)


def _cell(cell: TimeCell | None) -> Markup | str:
    if cell is None:
        return _nothing("none")
    return _mark(cell.tone, _phase(cell.text)) if cell.tone else _phase(cell.text)


def _ms(value: float | None, timing: Timing) -> Child:
    return _nothing("not measured") if value is None else ms(value, timing.kind)


def _timing(timing: Timing, identity: str) -> Markup:
    """Return the plots of a case, each with its numbers as a table; open where something is to be looked at."""
    found = timing.comparison
    bad = (found and found.verdict is not Verdict.PASS) or (timing.budget and not timing.budget.within)
    told = {cell.key: cell for cell in cells.cells(timing)}
    summary = [
        element("b", _short(timing.name)),
        *(_mark(cell.tone, cell.text) for cell in told.values() if cell.tone),
        element("span", f"{_phase(told['grown'].text)}", class_="quiet") if "grown" in told else None,
    ]
    parts = [
        _figure(
            "Medians in milliseconds since the client connected; " + _KEY, plots.waterfall(timing, f"{identity}-line")
        ),
        _phases(timing, f"{identity}-phases"),
        _figure(
            "Milliseconds of each sample as a dot, their quartiles as a box, the median as a bar",
            plots.distribution(timing, f"{identity}-spread"),
        ),
        _spread(timing, f"{identity}-samples"),
    ]
    if found:
        parts += [
            _figure(_interval_caption(found), plots.interval(found, timing.name, f"{identity}-ratio")),
            element(
                "p",
                f"{count(found.count, 'sample')} of each image. A difference like this or a larger one between two "
                f"series of one image has the probability {found.p_slower:.2g} (Mann–Whitney U).",  # noqa: RUF001
                class_="quiet",
            ),
        ]
    return element(
        "details",
        element("summary", *summary),
        element("div", *parts, id=f"{identity}-plots"),
        open=bool(bad),
    )


_KEY = "the numbers are the phases in the table below, the upright line is when the unit became active"


def _interval_caption(found: Comparison) -> str:
    return (
        f"Ratio, candidate to baseline, as a dot: {ratio(found.ratio)}, "
        f"{found.confidence:.0%} interval {ratio(found.low)} to {ratio(found.high)}. "
        f"Dashed: no difference; solid: the slowdown allowed, {ratio(found.max_slowdown)}"
    )


def _figure(caption: str, plot: Markup) -> Markup:
    return element("figure", element("figcaption", f"{caption}."), plot)


def _phases(timing: Timing, identity: str) -> Markup:
    sides = [timing.timelines[role] for role in timing.roles]
    took = [{phase.name: phase.took_ms for phase in side.phases} for side in sides]
    chance = {phase.phase: phase.p_slower for phase in timing.comparison.phases} if timing.comparison else {}
    both = len(sides) == 2
    grown = timing.grown.phase if timing.grown and both else None
    head = ["Phase", *(f"{role.capitalize()}, ms" for role in timing.roles)]
    head += ["Difference, ms", "p"] if both else []
    head += ["Grown"] if grown else []
    rows: list[list[Child]] = []
    for number, name in enumerate(timing.phase_names, 1):
        values = [phases.get(name) for phases in took]
        title = join((element("span", str(number), class_="quiet"), " ", _phase(name)))
        row: list[Child] = [title, *(_ms(value, timing) for value in values)]
        if both:
            ours, theirs = values
            row.append(_nothing("in one only") if ours is None or theirs is None else _signed(ours - theirs, timing))
            row.append(f"{chance[name]:.2g}" if name in chance else _nothing("not compared"))
        row += [element("span", "▲ most", class_="mark bad")] if name == grown else []
        rows.append(row)
    rows.append(["Unit active", *(_ms(side.ready_ms, timing) for side in sides)])
    rows.append(["Whole", *(_ms(side.median_ms, timing) for side in sides)])
    for row in rows:
        row += [None] * (len(head) - len(row))
    return table(f"Phases of {_short(timing.name)}: medians", head, rows, identity=identity, numbers=True)


def _signed(value: float, timing: Timing) -> str:
    shown = ms(abs(value), timing.kind)
    return shown if not float(shown) else ("−" if value < 0 else "+") + shown  # noqa: RUF001 -- a minus is meant


#: Headings of the spread of the samples.
_SPREAD = ("Least", "Quarter", "Median", "Three quarters", "95 %", "Most")


def _quantiles(totals: Sequence[float]) -> tuple[float, ...]:
    """Return the values of `_SPREAD`; a single sample is all of them."""
    cuts = statistics.quantiles(totals, n=20, method="inclusive") if len(totals) > 1 else [totals[0]] * 19
    return min(totals), cuts[4], cuts[9], cuts[14], cuts[18], max(totals)


def _spread(timing: Timing, identity: str) -> Markup:
    rows = []
    for role in timing.roles:
        totals = timing.timelines[role].totals_ms
        spread = _quantiles(totals)
        rows.append([role, str(len(totals)), *(ms(value, timing.kind) for value in spread)])
    head = ("Image", "Samples", *_SPREAD)
    caption = f"Samples of {_short(timing.name)}, in milliseconds"
    return table(caption, head, rows, identity=identity, numbers=True)


# --- tests ------------------------------------------------------------------------------------------------------------


def _failure(test: Test, folder: str) -> Markup:
    head = element("h3", _mark(test.outcome), " ", element("code", _short(test.id)))
    facts: list[Child] = [_short(test.blame)]
    if test.case:
        facts.append(_short(f"{test.case.contract}, {case_name(test.case)}"))
    facts.append(f"{test.duration_s:.1f} s")
    line: list[Child] = ["; ".join(fact for fact in facts if fact)]
    if test.bundle:
        address = bundle_address(test.bundle, folder)
        bundle = element("code", _short(test.bundle))
        line += ["; bundle: ", element("a", bundle, href=address) if address else bundle]
    message = cut(test.message, _MESSAGE, "\n[cut here; the results have all of it]")
    shown = element("pre", message, tabindex="0", aria_label="Message", role="region") if message.strip() else None
    return element("article", head, element("p", *line, class_="quiet"), shown)


def bundle_address(bundle: str, folder: str) -> str | None:
    """Return the relative address of a bundle; None for a name that leads anywhere but below the results."""
    parts = bundle.split("/")
    if not bundle.isprintable() or bundle.startswith("/") or ".." in parts or len(bundle) > _TEXT:
        return None
    # Quoted and led by a folder, no name is a scheme or a host.
    path = posixpath.join(folder or ".", bundle)
    path = path if path.startswith(("/", "./", "../")) else f"./{path}"
    return urllib.parse.quote(path) + "/"


def _skipped(run: Summary) -> Markup:
    return join(
        element(
            "details",
            element(
                "summary",
                _mark(Outcome.SKIPPED, count(len(tests), "test")),
                element("span", _short(reason) or "no reason given"),
            ),
            element("div", element("ul", *(element("li", element("code", _short(test.id))) for test in tests))),
        )
        for reason, tests in run.skipped.items()
    )


def _claims(run: Summary) -> Markup:
    rows = [
        [
            _short(claim),
            join(element("div", _mark(test.outcome)) for test in tests),
            join(element("div", element("code", _short(test.id))) for test in tests),
        ]
        for claim, tests in run.claims.items()
    ]
    return table(
        "What the tutorial says, and the tests that prove it",
        ("Claim", "Outcome", "Test"),
        rows,
        identity="claims-table",
    )


# --- the machine ------------------------------------------------------------------------------------------------------


def _environment(run: Summary) -> Markup:
    found = run.results.environment
    facts: Mapping[str, str] = {
        "kernel": f"{found.kernel}, {found.machine}",
        "processors": str(found.cpus),
        **(_userlands(found) or found.versions),
        "images' base": found.base,
        "guest": found.guest or "none",
        "a missing capability": "fails" if found.strict else "skips",
    }
    return element(
        "dl",
        *(
            item
            for name, value in facts.items()
            for item in (element("dt", _short(name)), element("dd", _short(value)))
        ),
    )


def _userlands(found: Environment) -> Mapping[str, str]:
    """Return name -> programs of each userland, where the run was for another than the machine's own."""
    if set(found.userlands) <= {HOST.name}:
        return {}
    return {
        name: ", ".join(f"{program} {version}" for program, version in one.versions.items())
        for name, one in found.userlands.items()
    }


def _mark(outcome: Outcome | Verdict, words: str = "") -> Markup:
    """Return mark and word; a screen reader reads the word only."""
    sign = element("span", MARKS[outcome], aria_hidden="true")
    return element("span", sign, f" {words or outcome}", class_=f"mark {TONES[outcome]}")


def _nothing(why: str) -> Markup:
    """Return what a place without a value shows, and says."""
    return element("span", NOTHING, class_="quiet", role="img", aria_label=why)


def _phase(name: str) -> str:
    return _short(name.replace(" -> ", " → "))


def _short(content: str) -> str:
    return cut(content, _TEXT, "…")
