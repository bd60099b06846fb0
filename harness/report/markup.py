"""Building HTML and SVG whose every foreign text is escaped: what is not `Markup` can only become text.

A template engine would be one more dependency of every run, for one page without a designer; functions can be checked
by mypy, and can't forget to escape.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from harness.core.text import shown

#: Elements without an end.
_VOID = frozenset({"meta"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


#: What stands inside an element; None and the empty text are left out.
Child = str | None

#: Value of an attribute; True writes its name only, None and False leave it out.
Value = str | float | bool | None


def text(content: str) -> Markup:
    """Return a text as markup."""
    return content if isinstance(content, Markup) else Markup(html.escape(shown(content)))


def element(tag: str, *children: Child, **attributes: Value) -> Markup:
    """Return an element; `class_` and `aria_label` stand for `class` and `aria-label`."""
    start = "".join([tag, *(_attribute(name, value) for name, value in attributes.items())])
    return Markup(f"<{start}>" if tag in _VOID else f"<{start}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Return markup after markup."""
    return Markup("".join(text(child) for child in children if child))


def _attribute(name: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    written = f"{value:g}" if isinstance(value, int | float) else text(value)
    return f' {name}="{written}"'


def table(
    caption: str, head: Iterable[Child], rows: Iterable[Iterable[Child]], *, identity: str, numbers: bool = False
) -> Markup:
    """Return a table in a box of its own that scrolls where the screen is narrow; the first column names the rows."""
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    inside = (
        element("caption", element("span", caption), id=identity),
        element("thead", element("tr", *(element("th", title, scope="col") for title in head))),
        element("tbody", *body),
    )
    return element(
        "div",
        element("table", *inside, class_="numbers" if numbers else None),
        class_="scroll",
        role="region",
        tabindex="0",
        aria_labelledby=identity,
    )
