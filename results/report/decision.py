"""The decision and its reasons, in sentences."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from results.report.facts import ENSEMBLE, SINGLE, WHOLE, Facts, finite, members, unfinished
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
        figures=(_objective(facts, best[facts.metric], "best trial"), *_others(facts, best)),
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


def _chosen(facts: Facts, row: Mapping[str, Any]) -> Decision:
    name, kind = facts.trial_of(row), row.get("kind") or SINGLE
    card = facts.card_of(row)
    reasons = list(_why(facts, name) if kind != ENSEMBLE else _together(facts, row))
    if kind == WHOLE:
        told = "It is trained on the validation part too, to be shipped; what follows is of trainings without that."
        reasons.insert(0, told)
    mine = next((each for each in facts.contenders if each.id == name and kind != ENSEMBLE), None)
    if mine is not None and mine.in_sweep is not None:
        worse = facts.sign * (mine.standing.mean - mine.in_sweep)
        what = f"{number(abs(worse), 2)} {'worse' if worse > 0 else 'better'}" if worse else "the same"
        reasons.append(
            f"In the sweep its trial had {number(mine.in_sweep)}; trained anew it has {number(mine.standing.mean)}, "
            f"{what}. Only the second was not picked for being good."
        )
    reasons += _ahead(facts, name) if kind != ENSEMBLE else []
    shipped = next((each for each in facts.shipped if each is not row and facts.ships(each)), None)
    if shipped is not None and shipped["sweep"] == row["sweep"]:
        reasons.append(
            f"In the bundle lies final {shipped['final']}: the same configuration, trained on the validation part too."
        )
    openings = len([each for each in facts.tables["openings"] if each["sweep"] == row["sweep"]])
    if openings:
        again = " Each opening after the first makes its score more flattering." if openings > 1 else ""
        reasons.append(f"The test split was opened {'once' if openings == 1 else f'{openings} times'}.{again}")
    figures = [
        *_scores(facts, row, known_models(card, "floors"))[:1],
        _objective(facts, row[facts.metric], "seen in training" if kind == WHOLE else "trained anew"),
    ]
    return Decision(
        headline=_headline(facts, row),
        tone="chosen",
        reasons=tuple(reasons),
        figures=(*figures, *_others(facts, row)),
    )


def _headline(facts: Facts, row: Mapping[str, Any]) -> str:
    kind, sweep = row.get("kind") or SINGLE, facts.source(row)
    of = f", of {sweep}" if len(facts.names) > 1 or sweep != row["sweep"] else ""
    if kind == ENSEMBLE:
        return f"An ensemble of {len(members(row))} models is chosen{of}"
    return f"The model of trial {row['trial']} is chosen{of}" + (", trained on all but test" if kind == WHOLE else "")


def _together(facts: Facts, row: Mapping[str, Any]) -> Sequence[str]:
    said = [f"It is made of the finals {row.get('members')}, and its {facts.metric} is {number(row[facts.metric])}."]
    gain = facts.gain(row)
    if gain is not None:
        apart, span = gain
        text = f"That is {number(abs(apart), 2)} {'worse' if apart > 0 else 'better'} than the best of them alone"
        said.append(
            text + (f" (95 % {number(span[0], 2)} to {number(span[1], 2)} over the same pieces)." if span else ".")
        )
    if facts.contenders:
        best = facts.contenders[0]
        said.append(
            f"Of {count(len(facts.contenders), 'single configuration')}, {best.id} has the best mean: "
            f"{number(best.standing.mean)}."
        )
    return said


def _why(facts: Facts, name: str) -> Sequence[str]:
    comparison, contenders = facts.comparison, facts.contenders
    if comparison is None or not contenders:
        return ()
    trainings = sum(len(each.scores) for each in contenders)
    if len(contenders) == 1:
        seeds = "once" if trainings == 1 else f"{trainings} times"
        return (
            f"It is the only configuration that was trained anew ({seeds}), so it was compared with no other; "
            "`search final --models 3 --seeds 3` compares.",
        )
    best, tied = contenders[0], [each for each in contenders if each.standing.tied]
    said = []
    rules = facts.asked("final", "rule")
    rule = f"the rule `{rules[0]}`" if len(rules) == 1 else "the rule of the final job"
    if best.id == name:
        second = contenders[1]
        behind = number(abs(second.standing.difference), 2)
        said.append(
            f"Of {len(contenders)} configurations trained anew ({trainings} trainings), it has the best mean "
            f"{facts.metric}; the next, {second.id}, is {behind} behind."
        )
    else:
        behind = next((abs(c.standing.difference) for c in contenders if c.id == name), None)
        said.append(
            f"Of {len(contenders)} configurations trained anew ({trainings} trainings), {best.id} has the best mean "
            f"{facts.metric}; the chosen one is {number(behind, 2)} behind and was taken by {rule}."
        )
    if comparison.over == "nothing":
        said.append("With a single seed each, no interval can be given: how much of the difference is luck is unknown.")
    elif len(tied) > 1:
        others = ", ".join(each.id for each in tied if each.id != name)
        said.append(f"It cannot be told from {others}: the differences are within what chance does. Among such models, "
                    "what is cheaper to run, or sounds better to you, may decide.")  # fmt: skip
    elif comparison.over == "pieces":
        said.append(
            "Over other pieces this model would stay ahead. What other seeds would give is unknown with one training "
            "each, so the configuration may still be lucky."
        )
    else:
        said.append("It is ahead by more than chance would explain.")
    mine = next((c.standing for c in contenders if c.id == name), None)
    if mine is not None and mine.chance_best is not None:
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


def _objective(facts: Facts, value: float | None, note: str) -> Figure:
    measure = facts.measure(facts.metric)
    return Figure(
        label=facts.metric, value=number(value), note=f"{measure.unit}, {note}".strip(", "), meaning=measure.meaning
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
    """Returns what the model costs, as far as the task measures that."""
    found = []
    for name, goal in costs(facts):
        if finite(row.get(name)):
            measure = facts.measure(name)
            note = measure.unit or ("less is better" if goal == "min" else "more is better")
            found.append(Figure(label=name, value=number(row[name], 3), note=note, meaning=measure.meaning))
    return found[:2]


def costs(facts: Facts) -> list[tuple[str, str]]:
    """Returns the metrics that are no scores but tell what a model costs, with what is better of each.

    These are the further objectives of the sweep, what the task gave a goal, what is measured per second, and counts of
    parameters.
    """
    objectives = {name: goal for sweep in facts.results.sweeps for name, goal in sweep.schema.objectives}
    found = []
    for name in facts.metrics[1:]:
        measure = facts.measure(name)
        per_second = measure.unit.endswith(("/s", "per second")) or name.endswith("_per_s")
        goal = objectives.get(name) or measure.goal or ("max" if per_second else None)
        goal = goal or ("min" if "parameters" in name else None)
        values = {row[name] for row in facts.ranked if finite(row[name])}
        if goal and len(values) > 1:
            found.append((name, goal))
    return found
