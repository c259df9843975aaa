"""The decision and its reasons, in sentences."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from results.report.facts import ENSEMBLE, SINGLE, Contender, Facts, finite, members, unfinished
from results.report.markup import count, number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A number that stands out.

    Attributes:
        label: what it is.
        value: as text.
        note: what to compare it with; "" for nothing.
        meaning: a sentence for who asks.
    """

    label: str
    value: str
    note: str = ""
    meaning: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What is at the top of the page.

    Attributes:
        headline: the decision.
        tone: `chosen`, `open` or `failed`.
        reasons: sentences.
        figures: the numbers that matter, the most important first.
    """

    headline: str
    tone: str
    reasons: tuple[str, ...]
    figures: tuple[Figure, ...] = ()


def decision(facts: Facts) -> Decision:
    """Returns what was decided, or what is known as long as nothing is."""
    if len(facts.chosen) > 1:
        return _several(facts)
    if facts.chosen:
        return _chosen(facts, facts.chosen[0])
    if not facts.trials:
        return Decision(
            headline="Nothing has been tried yet",
            tone="open",
            reasons=("The ledger has no trial. `search resume` begins them; then this page has something to tell.",),
        )
    if not facts.ranked:
        return _nothing(facts)
    best = facts.ranked[0]
    left = unfinished(facts)
    reasons = [
        f"Of {count(len(facts.ranked), 'trial')} with a value, {best['id']} has the best {facts.metric}: "
        f"{number(best[facts.metric])}, after epoch {best['best_epoch']} of {best['epochs']}.",
        "The best of many scores is partly luck. `search final` trains the best configurations anew, with fresh seeds, "
        "and chooses among those.",
    ]
    if left:
        reasons.append(f"{count(len(left), 'trial')} had not ended when this page was made.")
    failed = [row for row in facts.tables["finals"] if row["state"] == "failed"]
    if failed:
        reasons.append(f"{count(len(failed), 'final training')} failed: {failed[-1]['reason']}.")
    return Decision(
        headline=f"No model has been chosen yet; {best['id']} is ahead",
        tone="open",
        reasons=tuple(reasons),
        figures=(_objective(facts, best[facts.metric], "best trial"),),
    )


def _nothing(facts: Facts) -> Decision:
    states = Counter(row["state"] for row in facts.trials)
    if states["failed"] == len(facts.trials):
        kinds = ", ".join(f"{each.kind} ({each.num_trials})" for each in facts.failures if each.num_trials)
        return Decision(
            headline=f"All {len(facts.trials)} trials failed" if len(facts.trials) > 1 else "The only trial failed",
            tone="failed",
            reasons=(f"The reasons, by kind: {kinds}. See “What failed”; there is nothing to choose from.",),
        )
    told = ", ".join(f"{number(times)} {state}" for state, times in states.most_common())
    return Decision(
        headline="No trial has a score yet",
        tone="open",
        reasons=(f"There {'is' if len(facts.trials) == 1 else 'are'} {count(len(facts.trials), 'trial')}: {told}.",),
    )


def _several(facts: Facts) -> Decision:
    """Returns the choice of each sweep, and what is best over all, which is nobody's choice."""
    reasons = []
    for row in facts.chosen:
        mine, kind = facts.contender_of(row), row.get("kind") or SINGLE
        what = f"the model of trial {facts.trial_of(row)}"
        if kind == ENSEMBLE:
            reasons.append(
                f"{row['sweep']} chose an ensemble of {len(members(row))} models: {facts.metric} "
                f"{number(row[facts.metric])}."
            )
        elif mine is None:
            reasons.append(f"{row['sweep']} chose {what}: {facts.metric} {number(row[facts.metric])}.")
        else:
            tied = [each.id for each in _compared_with(facts, row) if each.tied and each is not mine]
            beside = f"; it cannot be told from {', '.join(tied)}" if mine.tied and tied else ""
            reasons.append(f"{row['sweep']} chose {what}: {facts.metric} {number(mine.mean)}, {_spread(mine)}{beside}.")
    reasons += _over_all(facts)
    reasons += [opened for row in facts.chosen if (opened := _openings(facts, row, f" by {row['sweep']}"))]
    return Decision(
        headline=f"Each of {len(facts.chosen)} sweeps has chosen a model of its own",
        tone="chosen",
        reasons=tuple(reasons),
        figures=tuple(_found(facts, row, label=f"{facts.metric}, {row['sweep']}") for row in facts.chosen[:4]),
    )


def _over_all(facts: Facts) -> list[str]:
    """Returns which final job compared configurations of all sweeps; else what is best over all, by nobody's choice."""
    sweeps = {row["sweep"] for row in facts.chosen}
    for each in facts.compared:
        if sweeps <= {contender.id.rpartition("/")[0] for contender in each.contenders}:
            return [
                f"The final job of {each.sweep} compared configurations of all of them: its choice is one over all."
            ]
    best = min(facts.contenders, key=lambda each: facts.sign * each.mean, default=None)
    if best is None:
        return []
    first, other, *_ = facts.names
    return [
        f"Of all {len(facts.contenders)} configurations trained anew, {best.id} has the best mean {facts.metric}: "
        f"{number(best.mean)}. That is no choice: each sweep compared its own, and no rule covered them all. "
        f"`search final {first} --with {other}` compares them."
    ]


def _chosen(facts: Facts, row: Mapping[str, Any]) -> Decision:
    kind = row.get("kind") or SINGLE
    mine = facts.contender_of(row) if kind == SINGLE else None
    reasons = list(_together(facts, row) if kind == ENSEMBLE else _why(facts, row))
    if mine is not None and mine.in_sweep is not None:
        worse = facts.sign * (mine.mean - mine.in_sweep)
        what = f"{number(abs(worse), 2)} {'worse' if worse > 0 else 'better'}" if worse else "the same"
        reasons.append(
            f"In the sweep its trial had {number(mine.in_sweep)}; trained anew it has {number(mine.mean)}, "
            f"{what}. Only the second was not picked for being good."
        )
    reasons += _ahead(facts, facts.trial_of(row)) if kind == SINGLE else []
    shipped = next((each for each in facts.shipped if each is not row and facts.ships(each)), None)
    if shipped is not None and shipped["sweep"] == row["sweep"]:
        reasons.append(
            f"In the bundle lies final {shipped['final']}: the same configuration, trained on the validation part too."
        )
    opened = _openings(facts, row)
    reasons += [opened] if opened else []
    figures = [*_scores(facts, row, known_models(facts.card_of(row), "floors"))[:1], _found(facts, row)]
    return Decision(
        headline=_headline(facts, row),
        tone="chosen",
        reasons=tuple(reasons),
        figures=(*figures, *_others(facts, row)),
    )


def _openings(facts: Facts, row: Mapping[str, Any], by: str = "") -> str:
    openings = sum(each["sweep"] == row["sweep"] for each in facts.tables["openings"])
    again = " Each opening after the first makes its score more flattering." if openings > 1 else ""
    times = "once" if openings == 1 else f"{openings} times"
    return f"The test split was opened {times}{by}.{again}" if openings else ""


def _found(facts: Facts, row: Mapping[str, Any], label: str = "") -> Figure:
    """Returns what the configuration of a chosen model has, on average; beside it what this one model has."""
    mine = facts.contender_of(row) if (row.get("kind") or SINGLE) == SINGLE else None
    own = number(row[facts.metric])
    if mine is None:
        return _objective(facts, row[facts.metric], "of the ensemble", label)
    note = _spread(mine) + (f"; this one model {own}" if len(mine.finals) > 1 else "")
    return _objective(facts, mine.mean, note, label)


def _spread(mine: Contender) -> str:
    if len(mine.finals) == 1:
        return "trained anew once"
    span = f", 95 %: {number(mine.interval[0])} to {number(mine.interval[1])}" if mine.interval else ""
    return f"mean of {len(mine.finals)} trainings{span}"


def _compared_with(facts: Facts, row: Mapping[str, Any]) -> Sequence[Contender]:
    found = facts.compared_in(row["sweep"])
    return found.contenders if found else ()


def _headline(facts: Facts, row: Mapping[str, Any]) -> str:
    sweep = facts.source(row)
    of = f", of {sweep}" if len(facts.names) > 1 or sweep != row["sweep"] else ""
    if row.get("kind") == ENSEMBLE:
        return f"An ensemble of {len(members(row))} models is chosen{of}"
    return f"The model of trial {row['trial']} is chosen{of}"


def _together(facts: Facts, row: Mapping[str, Any]) -> Sequence[str]:
    said = [f"It is made of the finals {row.get('members')}, and its {facts.metric} is {number(row[facts.metric])}."]
    gain = facts.gain(row)
    if gain is not None:
        apart, span = gain
        text = f"That is {number(abs(apart), 2)} {'worse' if apart > 0 else 'better'} than the best of them alone"
        said.append(
            text + (f" (95 % {number(span[0], 2)} to {number(span[1], 2)} over the same pieces)." if span else ".")
        )
    contenders = _compared_with(facts, row)
    if contenders:
        best = contenders[0]
        said.append(
            f"Of {count(len(contenders), 'single configuration')}, {best.id} has the best mean: {number(best.mean)}."
        )
    return said


def _why(facts: Facts, row: Mapping[str, Any]) -> Sequence[str]:
    compared, mine = facts.compared_in(row["sweep"]), facts.contender_of(row)
    if compared is None or mine is None:
        return ()
    contenders = compared.contenders
    trainings = sum(len(each.finals) for each in contenders)
    if len(contenders) == 1:
        seeds = "once" if trainings == 1 else f"{trainings} times"
        return (
            f"It is the only configuration that was trained anew ({seeds}), so it was compared with no other; "
            "`search final --models 3 --seeds 3` compares.",
        )
    best, tied = contenders[0], [each for each in contenders if each.tied]
    said = []
    rule = f"the rule `{compared.choice.rule}`" if compared.choice.rule else "the rule of the final job"
    if best is mine:
        said.append(
            f"Of {len(contenders)} configurations trained anew ({trainings} trainings), it has the best mean "
            f"{facts.metric}; the next, {contenders[1].id}, is {number(abs(contenders[1].difference), 2)} behind."
        )
    else:
        said.append(
            f"Of {len(contenders)} configurations trained anew ({trainings} trainings), {best.id} has the best mean "
            f"{facts.metric}; the chosen one is {number(abs(mine.difference), 2)} behind and was taken by {rule}."
        )
    others = ", ".join(each.id for each in tied if each is not mine)
    if compared.choice.over == "nothing":
        said.append("With a single seed each, no interval can be given: how much of the difference is luck is unknown.")
    elif mine.tied and others:
        said.append(f"It cannot be told from {others}: the differences are within what chance does. Among such models, "
                    "what is cheaper to run, or sounds better to you, may decide.")  # fmt: skip
    elif not mine.tied:
        said.append(f"{others} {'is' if len(tied) == 1 else 'are'} ahead of it by more than chance would explain.")
    elif compared.choice.over == "pieces":
        said.append(
            "Over other pieces this model would stay ahead. What other seeds would give is unknown with one training "
            "each, so the configuration may still be lucky."
        )
    else:
        said.append("It is ahead by more than chance would explain.")
    if mine.chance_best is not None:
        said.append(f"The probability that it is the best of them is {mine.chance_best:.0%}.")
    return said


def _ahead(facts: Facts, name: str) -> list[str]:
    """Returns what is to be said of trials that were better in the sweep and have not been trained anew."""
    known = {each.id for each in facts.contenders}
    place = next((i for i, row in enumerate(facts.ranked) if row["id"] == name), 0)
    left_out = [row for row in facts.ranked[:place] if row["id"] not in known]
    if not left_out:
        return []
    first = left_out[0]
    more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
    return [
        f"In the sweep, {first['id']}{more} had a better {facts.metric} ({number(first[facts.metric])}, "
        f"{first['state']} after epoch {first['epochs']}), but {'were' if more else 'was'} not trained anew."
    ]


def _objective(facts: Facts, value: float | None, note: str, label: str = "") -> Figure:
    measure = facts.measure(facts.metric)
    return Figure(
        label=label or facts.metric,
        value=number(value),
        note=f"{measure.unit}, {note}".strip(", "),
        meaning=measure.meaning,
    )


def known_models(card: Mapping[str, Any], *groups: str) -> dict[str, Mapping[str, float]]:
    """Returns the scores of models that a card names beside its own, by their names.

    Args:
        card: of a bundle, perhaps without them.
        groups: `floors` need no training, `references` are known by name.
    """
    found: dict[str, Mapping[str, float]] = {}
    for group in groups:
        known = card.get(group)
        found |= {str(n): v for n, v in known.items() if isinstance(v, Mapping)} if isinstance(known, Mapping) else {}
    return found


def _scores(facts: Facts, row: Mapping[str, Any], floors: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    found = []
    for name in score_names(facts, row):
        measure, span = facts.measure(name), interval(row, name)
        notes = [measure.unit] if measure.unit else []
        if span:
            notes.append(f"95 %: {number(span[0])} to {number(span[1])}")
        below = {floor: values[name] for floor, values in floors.items() if finite(values.get(name))}
        notes += [f"{floor} model {number(value)}" for floor, value in below.items()]
        found.append(Figure(label=name, value=number(row[name]), note="; ".join(notes), meaning=measure.meaning))
    return found


def score_names(facts: Facts, row: Mapping[str, Any]) -> list[str]:
    """Returns the scores that a final model has; the ends of intervals belong to the score that they are of."""
    names = dict.fromkeys(name for sweep in facts.results.sweeps for name in sweep.schema.scores)
    ends = {f"{name}_{end}" for name in names for end in ("low", "high")}
    return [name for name in names if name not in ends and finite(row.get(name))]


def interval(row: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Returns the interval of a score, if the row has one: columns of its name with `_low` and `_high`."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return (low, high) if low is not None and high is not None and finite(low) and finite(high) else None


def _others(facts: Facts, row: Mapping[str, Any]) -> list[Figure]:
    """Returns what the model costs, by the measures that its final job went by."""
    found, compared = [], facts.compared_in(row["sweep"])
    for name, goal in compared.choice.costs if compared else ():
        if finite(row.get(name)):
            measure = facts.measure(name)
            note = measure.unit or ("less is better" if goal == "min" else "more is better")
            found.append(Figure(label=name, value=number(row[name], 3), note=note, meaning=measure.meaning))
    return found[:2]
