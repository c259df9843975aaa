"""Which configurations should be trained once more, so that it is decided which one is taken."""

import math
from collections.abc import Hashable

from results.statistics import Comparison, Rule


def next_seeds(comparison: Comparison, count: int, *, rule: Rule = "best_mean") -> list[Hashable]:
    """Returns the configurations that the next fresh seeds should go to, one name a training; none if it is decided.

    It is decided when only one may still be the best. Until then, where the mean decides (`best_mean`, and
    `one_standard_error`, which looks around the best mean), each seed goes to one of two: the best mean, and of those
    tied with it the one that the figures tell apart from it least; and of these two to the one whose mean becomes surer
    by it. `tied_cheapest` takes any of the tied, so each of these is to be known equally well: there, each seed goes
    to the tied one that has the fewest. docs/decisions/0007 has the figures. A longer list begins with the shorter one.

    Args:
        comparison: from `results.statistics.compare`, over seeds.
        count: so many at most.
        rule: how one is taken in the end.
    """
    tied = comparison.tied
    if len(tied) < 2 or any(standing.seed_error is None for standing in tied):
        return []
    return _fewest(comparison, count) if rule == "tied_cheapest" else _surest(comparison, count)


def _fewest(comparison: Comparison, count: int) -> list[Hashable]:
    trainings = {standing.name: standing.num_trainings for standing in comparison.tied}
    found: list[Hashable] = []
    while len(found) < count:
        found.append(min(trainings, key=lambda name: trainings[name]))  # the best mean first among equals
        trainings[found[-1]] += 1
    return found


def _surest(comparison: Comparison, count: int) -> list[Hashable]:
    best, *others = comparison.tied
    spread = {s.name: (s.seed_error or 0.0) ** 2 * s.num_trainings for s in comparison.tied}
    trainings = {s.name: s.num_trainings for s in comparison.tied}

    def error(name: Hashable) -> float:
        return spread[name] / trainings[name]

    def apart(name: Hashable, difference: float) -> float:
        noise = math.sqrt(error(name) + error(best.name))
        return abs(difference) / noise if noise else math.inf if difference else 0.0

    found: list[Hashable] = []
    while len(found) < count:
        rival = min(others, key=lambda s: apart(s.name, s.difference))
        pair = (best.name, rival.name)
        found.append(max(pair, key=lambda name: error(name) / (trainings[name] + 1)))
        trainings[found[-1]] += 1
    return found
