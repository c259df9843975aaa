"""Tables, figures and folds: what the sections are made of."""

import itertools
from collections.abc import Sequence
from typing import Any

from results.report import drawing
from results.report.markup import Markup, Numeral, element, number, prose

h = element

MOST_ROWS = 25
"""Rows of a table; a page is no export, and `results export` is one."""
Section = tuple[str, str, Markup]
"""Its anchor, its title, its content."""


def table(
    head: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    ids: Sequence[str] = (),
    caption: str = "",
    *,
    sticky: bool = False,
) -> Markup:
    """Returns a table that scrolls by itself where the page is narrow.

    Args:
        head: names of the columns.
        rows: cells; numbers are set flush right, elements stand as they are.
        ids: of the trials that the rows are of, to light up with their marks.
        caption: what it shows.
        sticky: whether the first column stays in sight.
    """

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float | Numeral) and not isinstance(value, bool)

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    right = [any(map(is_number, column)) and all(v is None or is_number(v) for v in column) for column in columns]
    kinds = ["num" if flush else None for flush in right]

    def cell(value: Any, kind: str | None) -> Markup:
        return h("td", value if isinstance(value, Markup) else number(value), class_=kind)

    body = [
        h("tr", [cell(value, kind) for value, kind in zip(row, kinds, strict=True)], data_id=name)
        for row, name in itertools.zip_longest(rows, ids[: len(rows)])
    ]
    return h(
        "div",
        h(
            "table",
            h("caption", caption) if caption else None,
            h(
                "thead",
                h("tr", [h("th", name, scope="col", class_=kind) for name, kind in zip(head, kinds, strict=True)]),
            ),
            h("tbody", body),
        ),
        class_="scroll sticky" if sticky else "scroll",
        tabindex="0",
        role="region",
        aria_label=caption or "table",
    )


def figure(
    chart: Markup, text: str | Markup = "", keys: Sequence[tuple[str, str]] = (), more: Any = None, *, about: str = ""
) -> Markup:
    """Returns a chart with its legend and what to see in it.

    Args:
        chart: made with the same `about`.
        text: what to see.
        keys: what its colours mean.
        more: what follows, such as the chart as a table.
        about: id of the text, by which the chart points to it.
    """
    return h(
        "figure",
        drawing.legend(keys) if keys else None,
        h("div", chart, class_="scroll wide"),
        h("figcaption", prose(text), id=drawing.anchor(about) if about else None) if text else None,
        more,
    )


def details(summary: str, *content: Any, screen: bool = False) -> Markup:
    """Returns something that is folded until it is asked for; on paper too, if it is for the screen alone."""
    return h("details", h("summary", summary), *content, class_="screen" if screen else None)
