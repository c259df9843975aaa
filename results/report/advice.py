"""What the next sweep should look at, by rules that name their evidence."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from results.plain import several
from results.report.costs import time_shares
from results.report.facts import Facts, unfinished
from results.report.markup import count, number
from results.report.scales import Scale, between, scale
from results.schema import CONFIG

LEAST = 10
"""With fewer ranked trials, where the best ones lie says nothing."""
EDGE = 0.1
"""So near to the end of a range counts as at its edge."""
LIFT = 1.3
"""So many times as often as all trials, the best ones must lie at an edge."""
MOST_EDGES = 5
FOR_NEGLIGIBLE = 50
"""With fewer ranked trials, importance says too little to leave anything out."""
MATTERS = 0.1
"""Share of importance from which a parameter matters."""
NEGLIGIBLE = 0.01


def advice(facts: Facts) -> list[tuple[str, str]]:
    """Returns advice as pairs: what to do in a few words, and why."""
    found = []
    if len(facts.ranked) >= LEAST:
        found += _edges(facts) + _little_explored(facts) + _longer(facts) + _negligible(facts)
    return found + _failures(facts) + _budget(facts) + _seeds(facts)


def _best(facts: Facts) -> list[dict[str, Any]]:
    """Returns the best tenth of the trials, at least five."""
    return list(facts.ranked[: max(5, len(facts.ranked) // 10)])


def _edges(facts: Facts) -> list[tuple[str, str]]:
    found = []
    for name in facts.varying:
        best = [row[CONFIG + name] for row in _best(facts) if row[CONFIG + name] is not None]
        tried = [row[CONFIG + name] for row in facts.ranked if row[CONFIG + name] is not None]
        if len(best) < 4 or any(isinstance(value, str | bool) for value in tried) or len(set(tried)) < 2:
            continue
        axis, asked = _range(facts, name, tried)
        for end in (0, -1):
            near, usual = _at_end(axis, end, best), _at_end(axis, end, tried) / len(tried)
            if near < 0.8 * len(best) or near < LIFT * usual * len(best):
                continue
            word, sense = (("smaller", "smallest"), ("larger", "largest"))[end]
            value = axis.steps[end] if axis.kind == "steps" else (axis.low, axis.high)[end]
            many = "All" if near == len(best) else f"{near}"
            why = f"{many} of the best {len(best)} trials that have it lie there, at the {sense} that was "
            why += f"{'allowed' if asked else 'tried'}; of all trials {usual:.0%} do."
            found.append((f"Try {word} values of {name} than {number(value)}", why))
    return found[:MOST_EDGES]


def _at_end(axis: Scale, end: int, values: list[Any]) -> int:
    """Returns how many values lie at an end of an axis: 0 for the low one, -1 for the high one."""
    if axis.kind == "steps":
        return sum(value == axis.steps[end] for value in values)
    places = [place for place in map(axis.at, values) if place is not None]
    return sum(place <= EDGE if end == 0 else place >= 1 - EDGE for place in places)


def _range(facts: Facts, name: str, tried: list[Any]) -> tuple[Scale, bool]:
    """Returns the axis of a parameter, and whether its ends are those that the sweep file set."""
    ranges = [settings.get("space", {}) for settings in facts.settings.values()]
    ranges = [space.get(name) for space in ranges if isinstance(space, Mapping)]
    known = [r for r in ranges if isinstance(r, Mapping)]
    lows = [r["low"] for r in known if isinstance(r.get("low"), int | float)]
    highs = [r["high"] for r in known if isinstance(r.get("high"), int | float)]
    axis = scale(tried)
    if not lows or not highs or axis.kind == "steps":
        return axis, False
    low, high = min([*lows, *tried]), max([*highs, *tried])
    logarithmic = low > 0 and (axis.kind == "log" or any(r.get("scale") == "log" for r in known))
    return between(low, high, "log" if logarithmic else "linear"), True


def _little_explored(facts: Facts) -> list[tuple[str, str]]:
    found = []
    shares = {each.parameter: each.importance for each in facts.importances if each.scope == "all"}
    for name in facts.varying:
        if shares.get(name, 0.0) < MATTERS:
            continue
        tried = Counter(row[CONFIG + name] for row in facts.trials if row[CONFIG + name] is not None)
        if len(tried) > 12 or any(isinstance(value, float) for value in tried):
            continue
        rare = [value for value, times in tried.items() if times <= max(2, 0.05 * tried.total())]
        if rare and len(rare) < len(tried):
            told = ", ".join(f"{number(value)} ({count(tried[value], 'trial')})" for value in rare)
            why = f"It mattered ({shares[name]:.0%} of the importance), and these values were hardly tried: {told}."
            found.append((f"Explore {name} more", why))
    return found


def _longer(facts: Facts) -> list[tuple[str, str]]:
    best = [row for row in _best(facts) if row["state"] == "completed" and row["best_epoch"] and row["epochs"]]
    still = [row for row in best if row["best_epoch"] == row["epochs"]]
    if len(best) < 3 or len(still) < 0.8 * len(best):
        return []
    why = f"{len(still)} of the {len(best)} best completed trials had their best value in their last epoch."
    return [("Train longer", f"{why} A schedule that ends with the training does that too, so compare two lengths.")]


def _negligible(facts: Facts) -> list[tuple[str, str]]:
    names = [e.parameter for e in facts.importances if e.scope == "all" and e.importance < NEGLIGIBLE]
    if not names or len(names) == len(facts.importances) or len(facts.ranked) < FOR_NEGLIGIBLE:
        return []
    shown = several(names, 8)
    return [("Fix what did not matter", f"Each of these has less than 1 % of the importance: {shown}.")]


def _failures(facts: Facts) -> list[tuple[str, str]]:
    found = [
        (f"Look into the failures of kind {each.kind}", f"They share a value. {each.shared} failed.")
        for each in facts.failures
        if each.shared
    ]
    shares = time_shares(facts)
    total = sum(share.seconds for share in shares)
    lost = sum(share.seconds for share in shares if share.kind == "failed")
    if lost > 0.1 * total > 0:
        found.append(("Make failures cheaper", f"{lost / total:.0%} of the time went into attempts that failed."))
    return found


def _budget(facts: Facts) -> list[tuple[str, str]]:
    left = [row for row in unfinished(facts) if row["epochs"]]
    good = {row["id"] for row in _best(facts)} & {row["id"] for row in left}
    if not good:
        return []
    why = f"{', '.join(sorted(good))} had not ended when this page was made, and {'is' if len(good) == 1 else 'are'} "
    return [("Let good trials end", f"{why}among the best. `search resume` or `search extend` goes on.")]


def _seeds(facts: Facts) -> list[tuple[str, str]]:
    if not facts.contenders:
        return []
    found = []
    if any(len(each.contenders) == 1 for each in facts.compared):
        why = "Only one was trained anew, so nothing was compared. `search final --models 3` trains the best three."
        found.append(("Compare several configurations in the end", why))
    if max(len(each.finals) for each in facts.contenders) == 1:
        why = "With one seed, nobody knows how much of a score is luck. `search final --seeds 3` makes it measurable."
        found.append(("Use more seeds in the final job", why))
    return found
