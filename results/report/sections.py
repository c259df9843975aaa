"""The page's sections that say what was found; one that has nothing to tell says so in a sentence, or is left out."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from results.leaderboard import undominated
from results.plain import several
from results.report import charts, drawing, space_charts
from results.report.costs import stops_by_rung
from results.report.decision import decision
from results.report.facts import Facts, finite
from results.report.finals import finals
from results.report.markup import Markup, count, element, joined, number, prose
from results.report.tables import MOST_ROWS, Section, details, figure, table
from results.schema import CONFIG

MOST_AXES = 7
MOST_SLICES = 30
FIRST_SLICES = 9
_IMPORTANCE = (
    "Which values the best tenth of the trials has more often than the others (PED-ANOVA). With few trials this "
    "is a hint, no more."
)

h = element


def top(facts: Facts) -> Markup:
    """Returns the first screen: the decision, why, and the numbers that matter."""
    made = decision(facts)
    named = several(facts.names, 6)
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
    parts += finals(facts)
    if not facts.ranked:
        parts.append(h("p", "No trial has a finite value yet, so there is nothing to rank."))
    else:
        parts += _best_trials(facts)
    return "leaderboard", "The best", joined(parts)


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
        best=[row["id"] for row in facts.ranked],
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
    return "learning", "How they learned", figure(chart, text, keys, more, about="curves")


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
            about="parallel",
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
        h("p", f"Each parameter against {facts.metric}; values far from the good ones lie at the edge.", class_="note",
          id="slices-about"),
        details("The parameters as a table", _ranges(rows, order)),
    ]  # fmt: skip
    return "parameters", "What mattered", joined(parts)


def _ranges(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Markup:
    """Returns what values of each parameter were tried, and which the best tenth has."""
    best = rows[: max(5, len(rows) // 10)]

    def told(of: Sequence[Mapping[str, Any]], name: str) -> Markup:
        values = [row[CONFIG + name] for row in of if row[CONFIG + name] is not None]
        if not values:
            return h("span", "–")
        if any(isinstance(value, str | bool) for value in values):
            times = Counter(values).most_common(6)
            return h("span", ", ".join(f"{number(value)} ({n})" for value, n in times))
        return h("span", f"{number(min(values))} to {number(max(values))}, median {number(statistics.median(values))}")

    body = [[h("span", name), told(rows, name), told(best, name)] for name in names]
    return table(["parameter", "tried", f"of the best {len(best)}"], body, caption="Values of the parameters")


def pareto(facts: Facts) -> Section | None:
    """Returns the score against what a model costs, where that was measured."""
    figures = []
    for name, goal in _costs(facts)[:4]:
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
            rows, front, metric=facts.metric, other=name, unit=measure.unit, goal=facts.goal, about=f"cost-{name}"
        )
        unbeaten = sorted((rows[i] for i in front), key=lambda row: sign * row[name])[:MOST_ROWS]
        body = [[row["id"], row[facts.metric], row[name], row["state"]] for row in unbeaten]
        caption = f"Trials that nothing beats in both {facts.metric} and {name}"
        as_table = table(["trial", facts.metric, name, "state"], body, [row["id"] for row in unbeaten], caption)
        more = details("Those that nothing beats, as a table", as_table)
        figures.append(figure(chart, text, more=more, about=f"cost-{name}"))
    if not figures:
        return None
    keys = drawing.legend([("dot good", "beaten by none"), ("dot completed", "completed"), ("dot stopped", "stopped")])
    return "pareto", "Score against cost", joined([keys, *figures])


def _costs(facts: Facts) -> list[tuple[str, str]]:
    """Returns the metrics that are no scores but tell what a model costs, with what is better of each.

    These are the further objectives, and those by which the final jobs said what is cheap. Where none did, it is what
    the task gave a goal, what is measured per second, and counts of parameters.
    """
    objectives = {name: goal for sweep in facts.results.sweeps for name, goal in sweep.schema.objectives}
    known = objectives | dict(facts.costs)
    if not facts.costs:
        for name in facts.metrics:
            measure = facts.measure(name)
            per_second = measure.unit.endswith(("/s", "per second")) or name.endswith("_per_s")
            goal = measure.goal or ("max" if per_second else "min" if "parameters" in name else None)
            known |= {name: goal} if goal and name not in known else {}
    known.pop(facts.metric, None)
    return [
        (name, goal)
        for name, goal in known.items()
        if len({row[name] for row in facts.ranked if finite(row.get(name))}) > 1
    ]
