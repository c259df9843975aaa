"""What the charts have in common: the frame, axes, lines, dots, and which values are worth their room.

Charts are SVG made by hand, which needs no library, no script, and prints. Every mark of a trial carries `data-id`, by
which the page's script lights it up everywhere, and a title, which a screen reader says and a pointer shows. Colours
are classes of `page.css`, so that light and dark are one drawing.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from results.report.markup import Markup, element, joined
from results.report.scales import Scale

WIDTH = 720
MOST_MARKS = 400
"""More trials than that are drawn as one shape a kind: a page of single marks would be slow."""
FEW_MARKS = 50
"""So many of the best are single marks even then."""

h = element


def svg(width: int, height: int, label: str, *children: Any, kind: str = "", about: str = "") -> Markup:
    """Returns a chart: its name for those who cannot see it, and a place in the order of the keyboard.

    Args:
        width: in the chart's own units.
        height: likewise.
        label: what it shows.
        children: elements of it.
        kind: a class more.
        about: of the figure around it, whose text describes it.
    """
    return h(
        "svg",
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        class_=f"chart {kind}".strip(),
        tabindex="0",
        focusable="true",
        aria_label=label,
        aria_describedby=anchor(about) if about else None,
    )


def anchor(about: str) -> str:
    """Returns the id of the text about a figure; names of metrics may hold what an id may not."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", about) + "-about"


def axis_x(axis: Scale, left: float, right: float, top: float, bottom: float, label: str) -> Markup:
    """Returns the axis below a chart, with lines through it."""
    marks = [
        (
            h("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"),
            h("text", text, x=x, y=bottom + 16, class_="tick middle"),
        )
        for x, text in ((left + place * (right - left), text) for place, text in axis.ticks)
    ]
    return joined([marks, h("text", label, x=(left + right) / 2, y=bottom + 34, class_="label middle")])


def axis_y(axis: Scale, left: float, right: float, top: float, bottom: float, label: str) -> Markup:
    """Returns the axis at the left of a chart, with lines through it."""
    marks = [
        (
            h("line", x1=left, x2=right, y1=y, y2=y, class_="grid"),
            h("text", text, x=left - 8, y=y + 4, class_="tick end"),
        )
        for y, text in ((bottom - place * (bottom - top), text) for place, text in axis.ticks)
    ]
    return joined([marks, h("text", label, x=left - 8, y=top - 12, class_="label")])


def line_through(points: Iterable[tuple[float, float] | None]) -> str:
    """Returns the line through points; None breaks it."""
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    return "".join(parts)


def dots_at(points: Iterable[tuple[float, float]]) -> str:
    """Returns dots as one path: lines of no length with round ends."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)


def focus_range(values: Sequence[float], goal: str) -> tuple[float, float]:
    """Returns the range to show: all that is good, and of what is bad only so much that the good stays apart."""
    if not values:
        return 0.0, 1.0
    values = sorted(values)
    low, high = values[0], values[-1]
    if goal == "min":
        high = values[min(len(values) - 1, int(0.85 * len(values)))]
    else:
        low = values[int(0.15 * len(values))]
    margin = 0.04 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - margin, high + margin


def kind_of(state: str) -> str:
    """Returns the colour's name of a trial's or an attempt's state."""
    return state if state in ("completed", "stopped", "failed") else "unfinished"


def cut(text: str, length: int) -> str:
    """Returns a text, shortened if it is longer than so many characters."""
    return text if len(text) <= length else text[: max(length - 1, 1)] + "…"


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Returns what colours mean: pairs of a colour's name in `page.css` and a text."""
    return h(
        "p",
        [h("span", h("span", class_=f"key {kind}"), h("span", text), class_="entry") for kind, text in entries],
        class_="legend",
    )
