"""Charts of the configurations that were trained anew: how they compare, and what the sweep had promised of them."""

import itertools
from collections.abc import Sequence
from typing import Any

from results.report.drawing import WIDTH, axis_x, axis_y, cut, svg
from results.report.facts import Contender
from results.report.markup import Markup, element, number
from results.report.scales import Scale, between

h = element

ROW = 34


def behind(each: Contender, sign: int) -> tuple[float, tuple[float, float] | None]:
    """Returns how far a configuration is behind the best mean, worse being more, and the interval of that."""
    span = each.difference_interval
    ends = (min(sign * span[0], sign * span[1]), max(sign * span[0], sign * span[1])) if span else None
    return sign * each.difference, ends


def contenders_chart(
    contenders: Sequence[Contender], metric: str, unit: str, chosen: Sequence[str], *, sign: int, about: str = ""
) -> Markup:
    """Returns configurations beside each other: trainings, mean and interval; distance to the best; chance to be it.

    Args:
        contenders: the best first.
        metric: what they were trained for.
        unit: of the metric.
        chosen: ids of the trials whose model was chosen.
        sign: 1 if less is better, -1 if more is.
        about: id of the element that says what is to be seen.
    """
    left, middle, second, right, top = 132, 418, 452, WIDTH - 70, 30
    bottom = top + ROW * len(contenders)
    axis = _around([v for c in contenders for v in (*c.scores, *(c.interval or ()))])
    gaps = [behind(each, sign) for each in contenders]
    apart = _around([0.0, *(v for gap, span in gaps for v in (gap, *(span or ())))])

    def x(value: float) -> float:
        return left + (axis.at(value) or 0.0) * (middle - left)

    def x2(value: float) -> float:
        return second + (apart.at(value) or 0.0) * (right - second)

    rows: list[Any] = []
    for i, (each, (gap, ends)) in enumerate(zip(contenders, gaps, strict=True)):
        y = top + ROW * (i + 0.5)
        span, chance = each.interval, each.chance_best
        told = f"{each.id}: mean {number(each.mean)} of {len(each.scores)}"
        told += f", 95 % {number(span[0])} to {number(span[1])}" if span else ""
        told += f"; {number(gap, 2)} behind the best" if i else "; the best mean"
        told += f"; chance to be the best {chance:.0%}" if chance is not None else ""
        rows.append(
            h(
                "g",
                h("title", told),
                h("text", cut(each.id, 20), x=left - 10, y=y + 4, class_="tick end" + " strong" * (each.id in chosen)),
                h("line", x1=left, x2=middle, y1=y, y2=y, class_="grid"),
                h("line", x1=second, x2=right, y1=y, y2=y, class_="grid"),
                h("line", x1=x(span[0]), x2=x(span[1]), y1=y, y2=y, class_="whisker") if span else None,
                [h("circle", cx=x(v), cy=y, r=3.5, class_="dot seed") for v in each.scores],
                h("path", d=f"M{x(each.mean):.1f} {y - 8:.1f}v16", class_="mean"),
                h("line", x1=x2(ends[0]), x2=x2(ends[1]), y1=y, y2=y, class_="whisker") if ends and i else None,
                h("path", d=f"M{x2(gap):.1f} {y - 8:.1f}v16", class_="mean"),
                h("text", f"{chance:.0%}" if chance is not None else "–", x=WIDTH - 12, y=y + 4,
                  class_="tick end" + " strong" * (each.id in chosen)),
                data_id=each.id,
                class_="mark",
            )
        )  # fmt: skip
    named = f"{metric} ({unit})" if unit else metric
    return svg(
        WIDTH,
        int(bottom + 46),
        f"{metric} of {len(contenders)} configurations that were trained anew, and how far each is behind the best",
        axis_x(axis, left, middle, top, bottom, named),
        axis_x(apart, second, right, top, bottom, "behind the best"),
        h("line", x1=x2(0.0), x2=x2(0.0), y1=top - 4, y2=bottom, class_="axis"),
        h("text", "chance to be best", x=WIDTH - 12, y=top - 12, class_="label end"),
        rows,
        about=about,
    )


def promises_chart(contenders: Sequence[Contender], metric: str, chosen: Sequence[str], *, about: str = "") -> Markup:
    """Returns what the sweep had promised of each configuration, what was to be expected, and what was found.

    Args:
        contenders: those with a score in the sweep.
        metric: what they were trained for.
        chosen: ids of the trials whose model was chosen.
        about: id of the element that says what is to be seen.
    """
    left, right, top, bottom = 76, WIDTH - 150, 44, 280
    expected = any(each.expected is not None for each in contenders)
    stages = ["promised in the sweep", *(["expected without luck"] if expected else []), "found by training anew"]
    places = [left + 40 + i * (right - left - 60) / (len(stages) - 1) for i in range(len(stages))]
    values = [v for c in contenders for v in (c.in_sweep, c.expected, c.mean, *(c.interval or ()))]
    axis = _around([v for v in values if v is not None])

    def y(value: float) -> float:
        return bottom - (axis.at(value) or 0.0) * (bottom - top)

    drawn = []
    beside = _apart([y(each.mean) for each in contenders], 14.0)
    for each, label in zip(contenders, beside, strict=True):
        mean, span = each.mean, each.interval
        steps = [(places[0], each.in_sweep), (places[1], each.expected), (places[-1], mean)]
        steps = [(x, value) for x, value in steps if value is not None]
        told = f"{each.id}: promised {number(each.in_sweep)}"
        told += f", expected {number(each.expected)}" if each.expected is not None else ""
        told += f", found {number(mean)}"
        kind = "rank0" if each.id in chosen else "rank1"
        drawn.append(
            h(
                "g",
                h("title", told),
                h("path", d=f"M{places[-1]:.1f} {y(span[0]):.1f}V{y(span[1]):.1f}", class_="whisker") if span else None,
                h("path", d="".join(f"{'L' if i else 'M'}{x:.1f} {y(v):.1f}" for i, (x, v) in enumerate(steps)),
                  class_=f"line {kind}"),
                [
                    h("circle", cx=x, cy=y(v), r=4.5, class_="dot " + ("good" if x == places[-1] else "seed"))
                    for x, v in steps
                ],
                h("text", cut(each.id, 20), x=places[-1] + 12, y=label + 4,
                  class_="tick" + " strong" * (each.id in chosen)),
                data_id=each.id,
                class_="mark",
            )
        )  # fmt: skip
    heads = [h("text", text, x=x, y=bottom + 24, class_="label middle") for text, x in zip(stages, places, strict=True)]
    return svg(
        WIDTH,
        bottom + 40,
        f"{metric} of {len(contenders)} configurations: promised in the sweep, and found by training anew",
        axis_y(axis, left, right, top, bottom, metric),
        heads,
        drawn,
        about=about,
    )


def _around(values: Sequence[float]) -> Scale:
    margin = 0.08 * (max(values) - min(values)) or max(abs(values[0]) * 0.02, 1e-6)
    return between(min(values) - margin, max(values) + margin, ticks=4)


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Returns places moved so far apart that labels there do not lie on each other."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    return moved
