"""The page of the report in a real browser: narrow and wide, light and dark, by keyboard, read aloud, on paper."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.report import html
from harness.results.record import Results
from tests.helpers import samples
from tests.helpers.browser import Browser, running
from tests.helpers.runs import REPOSITORY, environment

#: WCAG 2.2, 1.4.3 for text and 1.4.11 for what else carries meaning.
TEXT_CONTRAST = 4.5
PLOT_CONTRAST = 3.0

OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"

#: Colours are drawn to a pixel to be read, so that every notation counts; returns contrasts below what is asked.
CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgb = colour => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = colour => rgb(colour).slice(0, 3).map(part => part / 255)
  .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const contrast = (one, other) => {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const ground = element => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (rgb(colour)[3]) return colour;
  }
};
"""

TEXTS = f"""{CONTRAST}
const found = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {{
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || element.closest('title, desc')) continue;
  const style = getComputedStyle(element), svg = element.closest('svg');
  const behind = element.classList.contains('inbar') ? getComputedStyle(element.previousElementSibling).fill
    : ground(element);
  found.push([texts.currentNode.data.slice(0, 40), contrast(svg ? style.fill : style.color, behind)]);
}}
return found;
"""

SHAPES = f"""{CONTRAST}
return [...document.querySelectorAll('rect.candidate, rect.baseline, rect.grown, line.ready, line.median, circle')]
  .filter(one => !one.classList.contains('box')).map(one => {{
    const style = getComputedStyle(one);
    return [one.getAttribute('class'), contrast(one.tagName == 'line' ? style.stroke : style.fill, ground(one))];
  }});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of this file."""
    with running(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of a run with everything in it."""
    return written(tmp_path, samples.results())


def written(folder: Path, results: Results) -> Path:
    """Write the page of a run."""
    file = folder / "page.html"
    file.write_text(html.view(results), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [320, 360, 1280])
@pytest.mark.parametrize("name", ["results", "hostile", "empty"])
def test_the_page_never_scrolls_sideways(name: str, width: int, tmp_path: Path, browser: Browser) -> None:
    browser.show(written(tmp_path, getattr(samples, name)()), width=width)
    browser.ask(OPEN_ALL)
    assert browser.ask("return innerWidth") == width
    assert browser.ask("const root = document.documentElement; return root.scrollWidth - root.clientWidth") == 0
    # Text of a plot that ends outside of it is cut off.
    outside = """return [...document.querySelectorAll('svg.plot text')].filter(one => {
        const [own, plot] = [one.getBoundingClientRect(), one.closest('svg').getBoundingClientRect()];
        return own.left < plot.left - 1 || own.right > plot.right + 1 && one.classList.contains('tick');
    }).map(one => one.textContent)"""
    assert browser.ask(outside) == []


def test_every_section_is_there_and_headings_are_in_order(page: Path, browser: Browser) -> None:
    browser.show(page)
    assert browser.driver.title == "failed: socket activation, 2026-11-23T17:40:00+00:00"
    titles = browser.ask("return [...document.querySelectorAll('h2')].map(one => one.textContent)")
    assert titles == ["2 failures", "echo", "httpd", "Skipped", "Claims", "Environment"]
    levels = browser.ask("return [...document.querySelectorAll('h1, h2, h3, h4')].map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert browser.ask("return document.querySelectorAll('svg.plot').length") == 3 * 6 + 2 * 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_plots_stand_out(scheme: str, page: Path, browser: Browser) -> None:
    browser.show(page, scheme=scheme)
    browser.ask(OPEN_ALL)
    texts = browser.ask(TEXTS)
    assert len(texts) > 500
    assert [found for found in texts if found[1] < TEXT_CONTRAST] == []
    shapes = browser.ask(SHAPES)
    assert len(shapes) > 200
    assert [found for found in shapes if found[1] < PLOT_CONTRAST] == []


def test_the_schemes_differ(page: Path, browser: Browser) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        browser.show(page, scheme=scheme)
        grounds.add(browser.ask("return getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


@pytest.mark.parametrize("name", ["results", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(name: str, tmp_path: Path, browser: Browser) -> None:
    page = written(tmp_path, getattr(samples, name)())
    browser.requests()
    browser.complaints()
    browser.show(page)
    browser.ask(OPEN_ALL)
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == [], "the page's own style is what its policy allows"
    assert browser.ask("return document.scripts.length") == 0


def test_the_policy_stops_a_script_that_got_in(page: Path, browser: Browser) -> None:
    """The negative control: were a text not escaped, it would still not run."""
    broken = page.read_text(encoding="utf-8").replace("<main>", "<main><script>document.title = 'evil'</script>")
    page.write_text(broken, encoding="utf-8")
    browser.complaints()
    browser.show(page)
    assert browser.driver.title != "evil"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


def test_the_tabulator_reaches_everything_in_order(page: Path, browser: Browser) -> None:
    browser.show(page)
    browser.ask(OPEN_ALL)
    browser.ask("document.querySelectorAll('a, summary, [tabindex]').forEach((one, index) => one.dataset.nth = index)")
    expected = browser.ask("return document.querySelectorAll('[data-nth]').length")
    reached = []
    for _ in range(expected):
        browser.tab()
        reached.append(browser.ask("return +document.activeElement.dataset.nth"))
        assert browser.ask("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == list(range(expected))


def test_a_link_to_a_case_unfolds_it(page: Path, browser: Browser) -> None:
    browser.show(page)
    closed = "document.querySelector('details:not([open]) > div[id]')"
    identity = browser.ask(f"return {closed}.id")
    browser.ask(f"document.querySelector('a[href=\"#{identity}\"]').click()")
    assert browser.ask(f"return document.getElementById('{identity}').parentElement.open")


def test_a_screen_reader_is_told_the_names(page: Path, browser: Browser) -> None:
    browser.show(page)
    browser.ask(OPEN_ALL)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert "echo: transports by activations" in named["table"]
    assert "Phases of unit, tcp4, cold: medians" in named["table"]
    assert "What the tutorial says, and the tests that prove it" in named["table"]
    assert all(named["table"])
    pictures = named.get("image", []) + named.get("img", [])
    assert any(name.startswith("Timeline of unit, tcp4, cold") for name in pictures), sorted(set(pictures))
    assert all(pictures)
    assert {"rowheader", "columnheader", "main", "navigation"} <= named.keys()
    assert "✗" not in json.dumps([name for role, names in named.items() if role == "cell" for name in names])


def test_paper_shows_what_is_folded(page: Path, browser: Browser) -> None:
    folded = "return document.querySelector('details:not([open])').getBoundingClientRect().height"
    browser.show(page)
    assert browser.ask(folded) < 100
    browser.show(page, media="print")
    assert browser.ask(folded) > 500


#: A run of tests that looks at a page until it is killed.
LOOKING = """
import pathlib, sys, time
from tests.helpers.browser import running
with running(pathlib.Path(sys.argv[1])):
    print("running", flush=True)
    time.sleep(120)
"""


@pytest.mark.usefixtures("browser")
def test_no_browser_outlives_a_killed_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOOKING, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, text=True) as looking:
        assert looking.stdout is not None
        assert looking.stdout.readline() == "running\n"
        assert len(processes_naming(tmp_path)) > 2
        looking.kill()
    wait_until(lambda: processes_naming(tmp_path), lambda left: not left, Deadline.after(30), "the browser to end")


def processes_naming(folder: Path) -> list[str]:
    """Return the command lines in which the folder is named."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            found.append(file.read_text(encoding="utf-8", errors="replace").replace("\0", " "))
    return [line for line in found if str(folder) in line]
