"""Which configurations should be trained once more, so that it is decided which one is the best."""

import math
from collections.abc import Hashable

from results.statistics import Comparison


def next_seeds(comparison: Comparison, count: int) -> list[Hashable]:
    """Returns the configurations that the next fresh seeds should go to, one name a training; none if it is decided.

    It is decided when only one may still be the best. Until then each seed goes to one of two: the best mean, and of
    those tied with it the one that the figures tell apart from it least. Of these two it goes to the one whose mean
    becomes surer by it. A longer list begins with the shorter one.

    Args:
        comparison: from `results.statistics.compare`, over seeds.
        count: so many at most.
    """
    best, *others = comparison.tied
    if not others or any(standing.seed_error is None for standing in comparison.tied):
        return []
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
