"""Charts of trials in the space of their parameters, and of their score against what they cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.report.drawing import (
    FEW_MARKS,
    MOST_MARKS,
    WIDTH,
    axis_x,
    axis_y,
    cut,
    dots_at,
    focus_range,
    kind_of,
    line_through,
    svg,
)
from results.report.markup import Markup, element, number
from results.report.scales import between, scale

h = element


def parallel_chart(
    rows: Sequence[Mapping[str, Any]], axes: Sequence[tuple[str, str]], metric: str, goal: str
) -> Markup:
    """Returns parallel coordinates: one line a trial, through its parameters to its score.

    Args:
        rows: of trials, the best first, with an `id`.
        axes: columns with their labels, from left to right; the metric comes last by itself.
        metric: the column of the score.
        goal: its better end is at the top.
    """
    height, top, bottom, gone = 380, 70, 316, 340
    scales = [scale([row[name] for row in rows]) for name, _ in axes]
    low, high = focus_range([row[metric] for row in rows], goal)
    scales.append(between(low, high))
    named = [*axes, (metric, metric)]
    left, right = 48, WIDTH - 56
    places = [left + i * (right - left) / max(len(named) - 1, 1) for i in range(len(named))]
    single = len(rows) if len(rows) <= MOST_MARKS else FEW_MARKS
    classes = [f"rank{min(4, 5 * i // max(len(rows), 1))}" for i in range(len(rows))]
    lines: list[Any] = []
    bulk: dict[str, list[str]] = {}
    for rank, (row, kind) in reversed(list(enumerate(zip(rows, classes, strict=True)))):
        points = []
        for x, (name, _), axis in zip(places, named, scales, strict=True):
            at = axis.at(row[name])
            if at is not None and name == metric and goal == "min":
                at = 1 - at
            at = None if at is None else min(max(at, 0.0), 1.0)
            points.append((x, gone if at is None else bottom - at * (bottom - top)))
        if rank < single:
            path = h("path", h("title", f"{row['id']}: {metric} {number(row[metric])}"), d=line_through(points),
                     class_=f"line mark {kind}", data_id=row["id"])  # fmt: skip
            lines.append(path)
        else:
            bulk.setdefault(kind, []).append(line_through(points))
    many = [h("path", d="".join(parts), class_=f"line many {kind}") for kind, parts in bulk.items()]
    drawn = []
    fits = max(int((right - left) / max(len(named) - 1, 1) / 5.6) - 1, 6)
    for i, (x, (_, label), axis) in enumerate(zip(places, named, scales, strict=True)):
        flip = i == len(named) - 1 and goal == "min"
        parts = label.split(".", 1)
        heads = [(top - 34, parts[0] + "."), (top - 20, parts[1])] if len(parts) > 1 else [(top - 20, label)]
        ticks = _thinned(axis.ticks)
        drawn.append(
            h(
                "g",
                h("title", label),
                [h("text", cut(text, fits), x=x, y=y, class_="label middle small") for y, text in heads],
                h("line", x1=x, x2=x, y1=top - 6, y2=bottom + 6, class_="axis"),
                [
                    h("text", cut(text, 14), x=x + 5, y=bottom - (1 - at if flip else at) * (bottom - top) + 4,
                      class_="tick halo")
                    for at, text in ticks
                ],
            )
        )  # fmt: skip
    absent = any(row[name] is None for row in rows for name, _ in axes)
    note = h("text", "not used", x=left, y=gone + 18, class_="tick middle") if absent else None
    label = f"Parallel coordinates of {len(rows)} trials, from their parameters to {metric}; better is higher"
    return svg(WIDTH, height, label, many, lines, drawn, note, kind="parallel", about="parallel")


def _thinned(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Returns ticks that do not lie on each other."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] > 0.055:
            kept.append(tick)
    return kept


def slice_chart(
    rows: Sequence[Mapping[str, Any]], column: str, label: str, metric: str, focus: tuple[float, float]
) -> Markup:
    """Returns one parameter against the score, as a small picture.

    Args:
        rows: of trials, the best first; those without the parameter are left out.
        column: of the parameter.
        label: its name.
        metric: the column of the score.
        focus: the range of scores to show, from `drawing.focus_range`; what is beyond lies at the edge.
    """
    width, height, left, right, top, bottom = 230, 170, 40, 220, 26, 132
    having = [row for row in rows if row[column] is not None]
    axis, up = scale([row[column] for row in having]), between(*focus, ticks=4)
    best = {row["id"] for row in rows[: max(5, len(rows) // 10)]}
    spots: list[tuple[Mapping[str, Any], float, float]] = []
    for row in having:
        x, y = axis.at(row[column]), up.at(row[metric])
        if x is not None and y is not None:
            # Trials with the same value of a choice would lie on each other; the golden ratio spreads them evenly.
            shift = ((row["trial"] * 0.618) % 1 - 0.5) * 0.5 / len(axis.steps) if axis.kind == "steps" else 0.0
            spots.append((row, left + (x + shift) * (right - left), bottom - min(max(y, 0.0), 1.0) * (bottom - top)))
    many = len(rows) > MOST_MARKS
    alone = {row["id"] for row in (rows[:FEW_MARKS] if many else rows)}
    marks: list[Any] = []
    if many:
        rest = ((x, y) for row, x, y in spots if row["id"] not in alone)
        marks.append(h("path", d=dots_at(rest), class_="dots many stopped"))
    marks += [
        h(
            "circle",
            h("title", f"{row['id']}: {label} {number(row[column])}, {metric} {number(row[metric])}"),
            cx=x,
            cy=y,
            r=3,
            class_="mark dot " + ("good" if row["id"] in best else kind_of(row["state"])),
            data_id=row["id"],
        )
        for row, x, y in reversed(spots)
        if row["id"] in alone
    ]
    longest = max((len(text) for _, text in axis.ticks), default=1)
    room = max(int((right - left) / 6.2 / max(len(axis.ticks), 1)), 3)
    every = 1 if axis.kind == "steps" else max(1, math.ceil(longest * len(axis.ticks) * 6.2 / (right - left)))
    ticks = [
        h("text", cut(text, room) if axis.kind == "steps" else text, x=left + at * (right - left), y=bottom + 16,
          class_="tick middle")
        for at, text in axis.ticks[::every]
    ]  # fmt: skip
    grid = [
        (
            h(
                "line",
                x1=left,
                x2=right,
                y1=bottom - at * (bottom - top),
                y2=bottom - at * (bottom - top),
                class_="grid",
            ),
            h("text", text, x=left - 6, y=bottom - at * (bottom - top) + 4, class_="tick end"),
        )
        for at, text in up.ticks
    ]
    head = h("text", cut(label, 34), x=4, y=14, class_="label")
    scale_name = h("text", "log", x=right, y=bottom + 30, class_="tick end") if axis.kind == "log" else None
    return svg(
        width, height, f"{label} against {metric}", grid, head, ticks, scale_name, marks, kind="slice", about="slices"
    )


def pareto_chart(
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[int],
    *,
    metric: str,
    other: str,
    unit: str,
    goal: str,
    about: str = "",
) -> Markup:
    """Returns a cost against the score; the trials that nothing beats in both are joined by a line.

    Args:
        rows: of trials that have both.
        front: places in `rows` of those that nothing beats.
        metric: the score, upwards.
        other: the cost, from left to right.
        unit: of the cost.
        goal: of the score.
        about: of the figure around it.
    """
    height, left, right, top, bottom = 320, 62, WIDTH - 24, 34, 268
    axis = scale([row[other] for row in rows])
    if axis.kind != "log":
        values = sorted({float(row[other]) for row in rows})
        pad = 0.05 * (values[-1] - values[0]) or max(abs(values[0]) * 0.1, 1.0)
        axis = between(values[0] - pad, values[-1] + pad)
    up = between(*focus_range([row[metric] for row in rows], goal))
    best = set(front)

    def spot(row: Mapping[str, Any]) -> tuple[float, float]:
        x, y = axis.at(row[other]) or 0.0, up.at(row[metric]) or 0.0
        return left + x * (right - left), bottom - min(max(y, 0.0), 1.0) * (bottom - top)

    line = sorted((spot(rows[i]) for i in front), key=lambda point: point[0])
    spots = [(*spot(row), row, i in best) for i, row in enumerate(rows)]
    marks: list[Any] = []
    if len(rows) > MOST_MARKS:
        alone = {row["id"] for row in rows[:FEW_MARKS]} | {rows[i]["id"] for i in front}
        rest = ((x, y) for x, y, row, _ in spots if row["id"] not in alone)
        marks.append(h("path", d=dots_at(rest), class_="dots many stopped"))
        spots = [each for each in spots if each[2]["id"] in alone]
    marks += [
        h(
            "circle",
            h("title", f"{row['id']}: {metric} {number(row[metric])}, {other} {number(row[other])}"),
            cx=x,
            cy=y,
            r=5 if good else 3.5,
            class_="mark dot " + ("good" if good else kind_of(row["state"])),
            data_id=row["id"],
        )
        for x, y, row, good in sorted(spots, key=lambda each: each[3])
    ]
    return svg(
        WIDTH,
        height,
        f"{metric} against {other}",
        axis_x(axis, left, right, top, bottom, f"{other} ({unit})" if unit else other),
        axis_y(up, left, right, top, bottom, metric),
        h("path", d=line_through(line), class_="line front"),
        marks,
        about=about,
    )
