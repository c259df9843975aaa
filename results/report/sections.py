"""The page's sections that say what was found; one that has nothing to tell says so in a sentence, or is left out."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from results.leaderboard import undominated
from results.report import charts, drawing, space_charts
from results.report.costs import stops_by_rung
from results.report.decision import costs, decision, interval, known_models, score_names
from results.report.facts import Facts, finite
from results.report.markup import Markup, count, element, joined, number, prose
from results.schema import CONFIG

MOST_ROWS = 25
"""Rows of a table; a page is no export, and `results export` is one."""
MOST_AXES = 7
MOST_SLICES = 30
FIRST_SLICES = 9
_IMPORTANCE = (
    "Which values the best tenth of the trials has more often than the others (PED-ANOVA). With few trials this "
    "is a hint, no more."
)

h = element
Section = tuple[str, str, Markup]
"""Its anchor, its title, its content."""


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]], ids: Sequence[str] = (), caption: str = "") -> Markup:
    """Returns a table that scrolls by itself where the page is narrow.

    Args:
        head: names of the columns.
        rows: cells; numbers are set flush right, elements stand as they are.
        ids: of the trials that the rows are of, to light up with their marks.
        caption: what it shows.
    """

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

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
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption or "table",
    )


def figure(chart: Markup, text: str | Markup = "", keys: Sequence[tuple[str, str]] = (), more: Any = None) -> Markup:
    """Returns a chart with its legend and what to see in it."""
    return h(
        "figure",
        drawing.legend(keys) if keys else None,
        h("div", chart, class_="scroll wide"),
        h("figcaption", prose(text)) if text else None,
        more,
    )


def details(summary: str, *content: Any) -> Markup:
    """Returns something that is folded until it is asked for."""
    return h("details", h("summary", summary), *content)


def top(facts: Facts) -> Markup:
    """Returns the first screen: the decision, why, and the numbers that matter."""
    made = decision(facts)
    named = ", ".join(facts.names[:6]) + (f" and {len(facts.names) - 6} more" if len(facts.names) > 6 else "")
    data = f"data {facts.data[0]}" if facts.data[0] else "data not recorded"
    begun = [row["time"] for row in facts.tables["sessions"] if row["time"] is not None]
    when = f"begun {min(begun):%-d %B %Y}" if begun else ""
    tiles = [
        h(
            "div",
            h("dt", each.label, title=each.meaning or None),
            h("dd", h("strong", each.value), h("span", each.note) if each.note else None),
        )
        for each in made.figures
    ]
    return h(
        "header",
        h("p", " · ".join(filter(None, [f"Sweep {named}" if len(facts.names) == 1 else f"Sweeps {named}", data, when])),
          class_="eyebrow"),
        h("h1", made.headline, class_=made.tone),
        h("dl", tiles, class_="figures") if tiles else None,
        h("ul", [h("li", prose(reason)) for reason in made.reasons], class_="reasons"),
        _progress(facts),
        id="decision",
    )  # fmt: skip


def _progress(facts: Facts) -> Markup | None:
    states = ("completed", "stopped", "failed")
    numbers = {state: sum(row["state"] == state for row in facts.trials) for state in states}
    numbers["unfinished"] = len(facts.trials) - sum(numbers.values())
    shown = [(state, times) for state, times in numbers.items() if times]
    if not shown:
        return None
    bar = [h("span", class_=f"fill {state}", style=f"flex-grow:{times}") for state, times in shown]
    told = [
        h(
            "span",
            h("span", class_=f"key {state}"),
            h("span", f"{number(times)} {'not ended' if state == 'unfinished' else state}"),
            class_="entry",
        )
        for state, times in shown
    ]
    epochs = sum(row["epochs"] or 0 for row in facts.trials)
    legend = h("p", told, h("span", f"{count(len(facts.trials), 'trial')}, {count(epochs, 'epoch')}", class_="all"))
    return h("div", h("div", bar, class_="stack"), legend, class_="progress")


def leaderboard(facts: Facts) -> Section:
    """Returns the final models with their intervals, and the best trials."""
    parts: list[Any] = []
    if facts.contenders:
        parts += _finals(facts)
    if not facts.ranked:
        parts.append(h("p", "No trial has a finite value yet, so there is nothing to rank."))
    else:
        parts += _best_trials(facts)
    return "leaderboard", "The best", joined(parts)


def _finals(facts: Facts) -> list[Any]:
    chosen = [f"{row['sweep']}/{row['trial']}" for row in facts.chosen]
    unit = facts.measure(facts.metric).unit
    parts: list[Any] = [h("h3", "Trained anew")]
    if len(facts.contenders) > 1:
        text = "Dots are single trainings with fresh seeds, the stroke is their mean, the line its 95 % interval"
        text += ", the ring what the sweep itself had promised: the best of many promises too much."
        if all(each.standing.interval is None for each in facts.contenders):
            text = "Dots are single trainings with fresh seeds; with one each, there is no interval. The ring is what "
            text += "the sweep itself had promised: the best of many promises too much."
        if any(each.expected is not None for each in facts.contenders):
            text += " The diamond is that promise without the luck of being among the best."
        parts.append(figure(charts.contenders_chart(facts.contenders, facts.metric, unit, chosen), text))
    rows = []
    for each in facts.contenders:
        standing, span = each.standing, each.standing.interval
        gap = standing.difference_interval
        chance = standing.chance_best
        rows.append([
            h("b", each.id, " ", h("span", "chosen", class_="badge")) if each.id in chosen else each.id,
            standing.mean,
            f"{number(span[0])} to {number(span[1])}" if span else "–",
            number(standing.sd, 2),
            standing.num_trainings,
            f"{number(standing.difference, 2)} ({number(gap[0], 2)} to {number(gap[1], 2)})"
            if gap and standing.difference else number(standing.difference, 2),
            f"{chance:.0%}" if chance is not None else "–",
            each.in_sweep,
        ])  # fmt: skip
    head = ["trial", f"mean {facts.metric}", "95 % interval", "deviation", "trainings", "behind the best",
            "chance to be best", "in the sweep"]  # fmt: skip
    parts.append(table(head, rows, [c.id for c in facts.contenders], "Configurations that were trained anew"))
    failed = [row for row in facts.tables["finals"] if row["state"] == "failed"]
    if failed:
        parts.append(h("p", f"{count(len(failed), 'final training')} failed: {failed[-1]['reason']}", class_="note"))
    return parts + [_scores(facts, row) for row in facts.chosen]


def _scores(facts: Facts, row: Mapping[str, Any]) -> Markup | None:
    names = score_names(facts, row)
    if not names:
        return None
    card = facts.card_of(row)
    known = known_models(card, "floors", "references")
    floors = {name: values for name, values in known.items() if any(finite(values.get(each)) for each in names)}
    rows = []
    for name in names:
        span, measure = interval(row, name), facts.measure(name)
        meaning = " · ".join(filter(None, [measure.meaning, measure.unit]))
        rows.append([
            h("span", name, h("small", meaning)),
            row[name],
            f"{number(span[0])} to {number(span[1])}" if span else "–",
            *(values.get(name) for values in floors.values()),
        ])  # fmt: skip
    head = ["score", "value", "95 % interval", *floors]
    title = f"Scores of the chosen model of trial {row['trial']}"
    return joined([
        h("h3", title if len(facts.chosen) < 2 else f"{title}, {row['sweep']}"),
        table(head, rows, caption=title),
        h("p", "The other models are known by name: such as need no training, and such as shipped.", class_="note")
        if floors else None,
        details("What it cannot do", [h("p", prose(line.strip("- "))) for line in _paragraphs(card["limits"])])
        if card.get("limits") else None,
        details("How to load it", h("pre", str(card["how_to_load"]), tabindex="0"))
        if card.get("how_to_load") else None,
    ])  # fmt: skip


def _paragraphs(text: object) -> list[str]:
    """Returns the items of a list in Markdown, or its lines, each as one text."""
    found: list[str] = []
    for line in str(text).splitlines():
        if line.startswith(" ") and found:
            found[-1] += " " + line.strip()
        elif line.strip():
            found.append(line.strip())
    return found


def _best_trials(facts: Facts) -> list[Any]:
    shown = facts.ranked[:MOST_ROWS]
    others = [name for name in facts.metrics[1:] if any(finite(row[name]) for row in shown)]
    important = [each.parameter for each in facts.importances if each.parameter in facts.varying]
    parameters = list(dict.fromkeys([*important, *facts.varying]))
    used = [n for n in parameters if any(row[CONFIG + n] is not None for row in shown)]
    rows = [
        [rank, row["id"], row[facts.metric], row["state"], h("span", f"{row['best_epoch']} of {row['epochs']}"),
         *(row[name] for name in others), *(row[CONFIG + name] for name in used)]
        for rank, row in enumerate(shown, start=1)
    ]  # fmt: skip
    head = ["", "trial", facts.metric, "state", "best epoch", *others, *used]
    text = f"{count(len(facts.ranked), 'trial')} ranked by the best epoch, never by the last."
    if len(facts.ranked) > len(shown):
        text += f" These are the best {len(shown)}; `results top` shows more."
    if facts.elsewhere:
        text += f" {count(facts.elsewhere, 'trial')} scored on other data, which is never ranked together, left out."
    return [
        h("h3", "In the sweep" if len(facts.names) == 1 else "In the sweeps"),
        table(head, rows, [row["id"] for row in shown], "Best trials"),
        h("p", prose(text), class_="note"),
    ]


def learning(facts: Facts) -> Section | None:
    """Returns the learning curves, with the stopped ones and where they were stopped."""
    if not facts.curves:
        return None
    states = {row["state"] for row in facts.trials}
    keys = [("line completed", "completed"), ("line stopped", "stopped, a dot where"), ("line failed", "failed")]
    keys = [key for key in keys if key[0].split()[1] in states]
    if states - {"completed", "stopped", "failed"}:
        keys.append(("line unfinished", "not ended"))
    rungs = stops_by_rung(facts)
    if any(cutoff is not None for *_, cutoff in rungs):
        keys.append(("line cut", "last cutoff of a rung"))
    unit = facts.measure(facts.metric).unit
    chart = charts.curves_chart(
        facts.curves,
        metric=facts.metric,
        unit=unit,
        goal=facts.goal,
        best=facts.ranked[0]["id"] if facts.ranked else "",
        rungs=rungs,
    )
    stops = [(b, e, s, j, c) for b, e, s, j, c in rungs if j]
    text = "The strong line is the best trial. Values far from the good ones run out of the picture."
    more = None
    if stops:
        head = ["bracket", "after epoch", "stopped", "judged", "last cutoff"]
        more = details(
            "Where trials were stopped, as a table", table(head, stops, caption="Judgements of the scheduler")
        )
    return "learning", "How they learned", figure(chart, text, keys, more)


def parameters(facts: Facts) -> Section | None:
    """Returns what mattered: importance, parallel coordinates, slices."""
    if len(facts.ranked) < 3 or not facts.varying:
        return None
    important = [each for each in facts.importances if each.scope == "all"]
    order = list(dict.fromkeys([*(e.parameter for e in important if e.parameter in facts.varying), *facts.varying]))
    order = [name for name in order if len({row[CONFIG + name] for row in facts.ranked} - {None}) > 1]
    if not order:
        return None
    parts: list[Any] = []
    if important:
        most = max(each.importance for each in important) or 1.0
        bars = [
            h(
                "li",
                h("span", each.parameter, class_="name"),
                h("span", h("span", style=f"width:{100 * each.importance / most:.1f}%"), class_="track"),
                h("span", f"{each.importance:.0%}" if each.importance >= 0.005 else "<1%", class_="num"),
            )
            for each in important[:12]
        ]
        parts += [
            h("h3", "Importance"),
            h("ol", bars, class_="bars"),
            h(
                "p",
                _IMPORTANCE + (f" {len(important) - 12} more follow." if len(important) > 12 else ""),
                class_="note",
            ),
        ]
    else:
        parts.append(
            h("p", "Importance needs at least ten trials with different values on the same data.", class_="note")
        )
    axes = [(CONFIG + name, name) for name in order[:MOST_AXES]]
    rows = facts.ranked
    parts += [
        h("h3", "Parallel coordinates"),
        figure(
            space_charts.parallel_chart(rows, axes, facts.metric, facts.goal),
            "One line a trial, through its parameters to its score; better is higher, and the better, the stronger.",
            [("line rank0", "best fifth"), ("line rank2", "middle"), ("line rank4", "last fifth")],
        ),
        h("h3", "Slices"),
    ]
    focus = drawing.focus_range([row[facts.metric] for row in rows], facts.goal)
    slices = [space_charts.slice_chart(rows, CONFIG + name, name, facts.metric, focus) for name in order[:MOST_SLICES]]
    parts += [
        drawing.legend([("dot good", "best tenth"), ("dot completed", "completed"), ("dot stopped", "stopped")]),
        h("div", slices[:FIRST_SLICES], class_="slices"),
        details(count(len(slices) - FIRST_SLICES, 'more parameter'), h("div", slices[FIRST_SLICES:], class_="slices"))
        if len(slices) > FIRST_SLICES
        else None,
        h("p", f"Each parameter against {facts.metric}; values far from the good ones lie at the edge.", class_="note"),
    ]  # fmt: skip
    return "parameters", "What mattered", joined(parts)


def pareto(facts: Facts) -> Section | None:
    """Returns the score against what a model costs, where that was measured."""
    figures = []
    for name, goal in costs(facts)[:4]:
        rows = [row for row in facts.ranked if finite(row[name])]
        if len(rows) < 2:
            continue
        sign = 1 if goal == "min" else -1
        points = np.array([[facts.sign * row[facts.metric], sign * row[name]] for row in rows], float)
        front = undominated(points).tolist()
        measure = facts.measure(name)
        sense = "less" if goal == "min" else "more"
        text = f"{measure.meaning.capitalize() or name}; {sense} is better. The line joins those that "
        text += "nothing beats in both."
        chart = space_charts.pareto_chart(
            rows, front, metric=facts.metric, other=name, unit=measure.unit, goal=facts.goal
        )  # fmt: skip
        figures.append(figure(chart, text))
    if not figures:
        return None
    keys = drawing.legend([("dot good", "beaten by none"), ("dot completed", "completed"), ("dot stopped", "stopped")])
    return "pareto", "Score against cost", joined([keys, *figures])
