"""Charts of what happened: learning curves, busy workers."""

import math
from collections.abc import Sequence
from typing import Any

from results.curves import Curve
from results.plain import duration
from results.report.costs import Stretch, blocks
from results.report.drawing import (
    FEW_MARKS,
    MOST_MARKS,
    WIDTH,
    axis_x,
    axis_y,
    dots_at,
    focus_range,
    kind_of,
    line_through,
    svg,
)
from results.report.markup import Markup, element, number
from results.report.scales import Scale, between

h = element


def curves_chart(
    curves: Sequence[Curve],
    *,
    metric: str,
    unit: str,
    goal: str,
    best: Sequence[str],
    rungs: Sequence[tuple[int, int, int, int, float | None]],
) -> Markup:
    """Returns the learning curves: stopped ones end in a dot, failed ones in a cross, cutoffs are short lines.

    Args:
        curves: of trials; the best one is drawn on top.
        metric: its name.
        unit: of the metric.
        goal: `min` or `max`.
        best: ids of the best trials, the best first.
        rungs: from `costs.stops_by_rung`.
    """
    height, left, right, top, bottom = 400, 62, WIDTH - 16, 34, 352
    finite = [v for c in curves for v in c.values if math.isfinite(v)]
    last = max((c.epochs[-1] for c in curves), default=1)
    low, high = focus_range(finite, goal)
    x_axis = between(1, max(last, 2), ticks=min(last, 9))
    x_axis = Scale(
        kind="linear", low=x_axis.low, high=x_axis.high,
        ticks=tuple(tick for tick in x_axis.ticks if "." not in tick[1] and "/" not in tick[1]),
    )  # fmt: skip
    y_axis = between(low, high)

    def spot(epoch: float, value: float) -> tuple[float, float] | None:
        across, up = x_axis.at(epoch), y_axis.at(value)
        if across is None or up is None:
            return None
        return left + across * (right - left), bottom - min(max(up, -0.5), 1.5) * (bottom - top)

    order = {"failed": 1, "unfinished": 2, "running": 2, "paused": 2, "completed": 3}
    first = best[0] if best else ""
    drawn = sorted(curves, key=lambda c: (c.id == first, order.get(c.state, 0)))
    alone = {c.id for c in curves} if len(curves) <= MOST_MARKS else set(best[:FEW_MARKS])
    lines: list[Any] = []
    bulk: dict[str, list[str]] = {}
    ends: dict[str, list[tuple[float, float]]] = {}
    for curve in drawn:
        kind = kind_of(curve.state)
        points = [spot(e, v) for e, v in zip(curve.epochs, curve.values, strict=True)]
        seen = [p for p in points if p is not None and top - 1 <= p[1] <= bottom + 1]
        if curve.id in alone:
            text = f"{curve.id}, {curve.state} after epoch {curve.epochs[-1]}: best {number(curve.best(goal))}"
            lines.append(
                h(
                    "g",
                    h("title", text),
                    h("path", d=line_through(points), class_=f"line {kind}" + " best" * (curve.id == first)),
                    _end_mark(kind, seen[-1] if seen else None),
                    data_id=curve.id,
                    class_="mark",
                )
            )
            continue
        bulk.setdefault(kind, []).append(line_through(points))
        if seen and kind in ("stopped", "failed"):
            ends.setdefault(kind, []).append(seen[-1])
    many = [h("path", d="".join(parts), class_=f"line many {kind}") for kind, parts in bulk.items()]
    many += [h("path", d=dots_at(points), class_=f"dots {kind}") for kind, points in ends.items()]
    cutoffs = []
    for bracket, epoch, stopped, judged, cutoff in rungs:
        point = spot(epoch, cutoff) if cutoff is not None else None
        if point is not None and top <= point[1] <= bottom:
            told = (
                f"After epoch {epoch}{f' in bracket {bracket}' if bracket else ''}, {stopped} of {judged} trials were "
            )
            told += f"stopped; the last cutoff was {number(cutoff)}"
            line = h("line", x1=point[0] - 14, x2=point[0] + 14, y1=point[1], y2=point[1], class_="cutoff")
            cutoffs.append(h("g", h("title", told), line, class_="mark"))
    clip = h("clipPath", h("rect", x=left, y=top - 4, width=right - left + 8, height=bottom - top + 8), id="curves")
    return svg(
        WIDTH,
        height,
        f"Learning curves of {len(curves)} trials: {metric} by epoch",
        h("defs", clip),
        axis_x(x_axis, left, right, top, bottom, "epoch"),
        axis_y(y_axis, left, right, top, bottom, f"{metric} ({unit})" if unit else metric),
        h("g", many, lines, cutoffs, clip_path="url(#curves)"),
        about="curves",
    )


def _end_mark(kind: str, point: tuple[float, float] | None) -> Markup | None:
    if point is None or kind not in ("stopped", "failed"):
        return None
    x, y = point
    if kind == "stopped":
        return h("circle", cx=x, cy=y, r=3, class_="dot stopped")
    return h("path", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8", class_="cross failed")


def workers_chart(stretches: Sequence[Stretch]) -> Markup:
    """Returns when workers were busy with which trial; long breaks, as between two sessions, are cut out."""
    lanes = 1 + max(each.lane for each in stretches)
    row = max(4.0, min(22.0, 320 / lanes))
    left, right, top = 20, WIDTH - 16, 12
    bottom = top + row * lanes
    first, last = min(s.begin for s in stretches), max(s.end for s in stretches)
    spans = blocks(stretches)
    total = sum((end - begin).total_seconds() for begin, end in spans) or 1.0
    gap = 14.0 if len(spans) > 1 else 0.0
    room = right - left - gap * (len(spans) - 1)
    starts, x = [], float(left)
    for begin, end in spans:
        starts.append((begin, end, x))
        x += room * (end - begin).total_seconds() / total + gap

    def at(moment: Any) -> float:
        begin, _, x = next(each for each in reversed(starts) if each[0] <= moment or each is starts[0])
        return x + room * (moment - begin).total_seconds() / total

    bars: list[Any] = []
    bulk: dict[str, list[str]] = {}
    for each in stretches:
        x0, x1, y = at(each.begin), at(each.end), top + row * each.lane
        kind = "failed" if each.outcome == "lost" else kind_of(each.outcome)
        wide, high = max(x1 - x0 - 0.6, 0.8), row - min(3.0, row / 4)
        if len(stretches) > MOST_MARKS:
            bulk.setdefault(kind, []).append(f"M{x0:.1f} {y:.1f}h{wide:.1f}v{high:.1f}h-{wide:.1f}z")
            continue
        told = f"{each.id}: {each.outcome} after {duration((each.end - each.begin).total_seconds())}"
        bars.append(
            h("rect", h("title", told), x=x0, y=y, width=wide, height=high, rx=2, class_=f"mark bar {kind}",
              data_id=each.id)
        )  # fmt: skip
    bars += [h("path", d="".join(parts), class_=f"bar {kind}") for kind, parts in bulk.items()]
    breaks = [h("text", "⋯", x=x - gap / 2, y=(top + bottom) / 2, class_="tick middle") for _, _, x in starts[1:]]
    ends = (
        h("text", f"{first:%Y-%m-%d %H:%M} UTC", x=left, y=bottom + 18, class_="tick"),
        h("text", f"{last:%Y-%m-%d %H:%M} UTC", x=right, y=bottom + 18, class_="tick end"),
    )
    return svg(WIDTH, int(bottom + 28), f"When {lanes} workers were busy", bars, breaks, ends, about="workers")
