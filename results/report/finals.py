"""The configurations that were trained anew: how they compare, what was promised of them, and what was made of them."""

from collections.abc import Mapping
from typing import Any

from results.choices import Choice
from results.report.decision import interval, known_models, score_names
from results.report.facts import ENSEMBLE, KINDS, WHOLE, Compared, Facts, finite
from results.report.final_charts import behind, contenders_chart, promises_chart
from results.report.markup import Markup, Numeral, count, element, joined, number
from results.report.tables import details, figure, table

h = element

_KINDS = {
    ENSEMBLE: "Several models as one: the mean of what they say.",
    WHOLE: "Trained on the validation part too, to be shipped. What it scores there it has seen.",
}


def finals(facts: Facts) -> list[Any]:
    """Returns how the configurations compare that were trained anew; nothing if none was."""
    parts: list[Any] = []
    for compared in facts.compared:
        parts += [h("h3", f"Trained anew{_of(facts, compared)}"), *_comparison(facts, compared)]
    failed = [row for row in facts.tables["finals"] if row["state"] == "failed"]
    if failed:
        parts.append(h("p", f"{count(len(failed), 'final training')} failed: {failed[-1]['reason']}", class_="note"))
    for compared in facts.compared:
        parts += _promises(facts, compared)
    return [*parts, _shipped(facts), *(_scores(facts, row) for row in facts.chosen)]


def _of(facts: Facts, compared: Compared) -> str:
    return f", by {compared.sweep}" if len(facts.compared) > 1 else ""


def _mark(facts: Facts, compared: Compared, name: str) -> str:
    """Returns the id of an element that a page has for each sweep."""
    place = facts.compared.index(compared)
    return f"{name}-{place + 1}" if place else name


def _chosen(compared: Compared) -> list[str]:
    """Returns whose model was taken; nobody's if that is an ensemble."""
    return [each.id for each in compared.contenders if each.chosen]


def _comparison(facts: Facts, compared: Compared) -> list[Any]:
    contenders, chosen, about = compared.contenders, _chosen(compared), _mark(facts, compared, "anew")
    parts: list[Any] = []
    if len(contenders) > 1:
        text = "Dots are single trainings with fresh seeds, the stroke is their mean, the line its 95 % interval. At "
        text += "the right the distance to the best mean, with its interval over the same seeds and pieces."
        if all(each.interval is None for each in contenders):
            text = "Dots are single trainings with fresh seeds; with one each, there is no interval."
        unit = facts.measure(facts.metric).unit
        chart = contenders_chart(contenders, facts.metric, unit, chosen, sign=facts.sign, about=about)
        parts.append(figure(chart, text, about=about))
    rows = []
    for each in contenders:
        span, chance, trainings = each.interval, each.chance_best, len(each.finals)
        gap, ends = behind(each, facts.sign)
        badge = "chosen" if each.id in chosen else "tied" if each.tied and chance is not None else ""
        rows.append([
            h("b" if each.id in chosen else "span", each.id, _badge(badge)),
            each.mean,
            f"{number(span[0])} to {number(span[1])}" if span else "–",
            number(each.sd, 2),
            Numeral(h("span", number(trainings), h("small", f"{each.raced} by racing"))) if each.raced else trainings,
            f"{number(gap, 2)} ({number(ends[0], 2)} to {number(ends[1], 2)})" if ends and gap else number(gap, 2),
            f"{chance:.0%}" if chance is not None else "–",
            each.in_sweep,
            each.expected,
        ])  # fmt: skip
    head = ["trial", f"mean {facts.metric}", "95 % interval", "deviation", "trainings", "behind the best",
            "chance to be best", "in the sweep", "expected of it"]  # fmt: skip
    caption = f"Configurations that were trained anew{_of(facts, compared)}"
    parts.append(table(head, rows, [each.id for each in contenders], caption))
    return parts


def _badge(text: str) -> Markup | None:
    return joined([" ", h("span", text, class_="badge")]) if text else None


def _promises(facts: Facts, compared: Compared) -> list[Any]:
    """Returns the winner's curse: the best of many scores are the lucky ones."""
    known = [each for each in compared.contenders if each.fair]
    if not known:
        return []
    about = _mark(facts, compared, "promised")
    chart = promises_chart(known, facts.metric, _chosen(compared), about=about)
    return [
        h("h3", f"What the sweep had promised{_of(facts, compared)}"),
        figure(chart, promised(facts, compared.choice), about=about),
    ]


def promised(facts: Facts, choice: Choice) -> str:
    """Returns in sentences how far the sweep's scores were from what training anew gave; "" if they do not compare."""
    if choice.promised is None or choice.found is None:
        return ""
    some = "" if choice.kept == len(choice.contenders) else f" of {choice.kept} of these configurations"
    text = "The best of many scores are partly lucky ones. "
    text += f"On average, training anew gave scores{some} {_apart(facts.sign * (choice.found - choice.promised))} than "
    text += "the sweep had promised"
    if choice.expected is not None:
        expected = _apart(facts.sign * (choice.expected - choice.promised))
        return f"{text}; {expected} was to be expected from the spread of trials and seeds."
    return (
        f"{text}. What was to be expected cannot be told: that takes a configuration with two seeds, three trials that "
        "ran to their end, and final trainings as long as theirs."
    )


def _apart(worse: float) -> str:
    return f"{number(abs(worse), 2)} {'worse' if worse > 0 else 'better'}" if worse else "no better or worse"


def _shipped(facts: Facts) -> Markup | None:
    """Returns the models that are compared with nothing, marked as what they are."""
    rows = [row for row in facts.shipped if row["state"] == "completed"]
    if not rows:
        return None
    names = list(dict.fromkeys(n for row in rows for n in score_names(facts, row)))
    spent = [name for name, _ in facts.costs if any(finite(row.get(name)) for row in rows)]
    body = []
    for row in rows:
        value = number(row.get(facts.metric))
        seen = h("span", value, h("small", "seen in training")) if row["kind"] == WHOLE else h("span", value)
        about = f"of the finals {row['members']}" if row.get("members") else ""
        badge = "chosen" if facts.is_chosen(row) else "shipped" if facts.ships(row) else ""
        gain = facts.gain(row) if row["kind"] == ENSEMBLE else None
        body.append([
            h("span", facts.name_of(row), _badge(badge), h("small", about) if about else None),
            KINDS.get(row["kind"], row["kind"]),
            Numeral(seen),
            h("span", number(gain[0], 2), f" ({number(gain[1][0], 2)} to {number(gain[1][1], 2)})" if gain[1] else None)
            if gain else None,
            *(row.get(name) for name in names),
            *(row.get(name) for name in spent),
            row["model"],
        ])  # fmt: skip
    head = ["model", "what it is", facts.metric, "behind its best member", *names, *spent, "where it lies"]
    said = [_KINDS[kind] for kind in dict.fromkeys(row["kind"] for row in rows) if kind in _KINDS]
    caption = "Models made of these"
    return joined([h("h3", "Made of them"), table(head, body, caption=caption), h("p", " ".join(said), class_="note")])


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
        details("What it cannot do", [h("p", line.strip("- ")) for line in _paragraphs(card["limits"])])
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
