"""How far apart two configurations are in a space."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from search.parameters import Options, Parameter, Range
from search.space import Space, single

Shares = Mapping[str, tuple[Parameter, float | None]]
"""Parameter -> its declaration, and where between 0 and 1 its value lies; None where values have no order."""
T = TypeVar("T")


def apart(space: Space, items: Iterable[tuple[T, Mapping[str, Any]]], *, count: int, least: float) -> list[T]:
    """Returns the first `count` items that are at least `least` away from all those taken before, and not the same.

    A distance goes from 0 (the same) to 1. It is the root of the mean square over all parameters that vary and that one
    of the two configurations has: the difference on the parameter's own scale, its whole range being 1; options without
    an order differ by 1, and so does a parameter that only one of them has.

    Args:
        space: where the distance is measured.
        items: what to choose from, with their whole configurations, the best first.
        count: so many at most.
        least: a distance, 0 or more.
    """
    taken: list[tuple[T, Mapping[str, Any], Shares]] = []
    for item, values in items:
        if len(taken) == count:
            break
        shares = _shares(space, values)
        gaps = (_between(values, before, shares, known) for _, before, known in taken)
        if all(gap > 0 and gap >= least for gap in gaps):
            taken.append((item, values, shares))
    return [item for item, _, _ in taken]


def _shares(space: Space, values: Mapping[str, Any]) -> Shares:
    declared = (p for p in space.active(values) if p.name in values and not single(p))
    return {p.name: (p, _share(p, values[p.name])) for p in declared}


def _share(parameter: Parameter, value: Any) -> float | None:
    if isinstance(parameter, Options):
        fitted = parameter.fitted(value) if parameter.ordered else None
        return None if fitted is None else parameter.values.index(fitted) / (len(parameter.values) - 1)
    if not isinstance(parameter, Range) or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = parameter.min_value, parameter.max_value
    value = min(max(value, low), high)
    if parameter.sampling == "linear":
        return (value - low) / (high - low)
    if parameter.sampling == "log":
        return math.log(value / low) / math.log(high / low)
    return 1 - math.log((low + high - value) / low) / math.log(high / low)


def _between(one: Mapping[str, Any], other: Mapping[str, Any], first: Shares, second: Shares) -> float:
    names = first.keys() | second.keys()
    if not names:
        return 0.0
    squares = 0.0
    for name in names:
        here, there = first.get(name), second.get(name)
        if here is None or there is None or not here[0].same_range(there[0]):
            squares += 1.0
        elif here[1] is None or there[1] is None:
            squares += float(one[name] != other[name])
        else:
            squares += (here[1] - there[1]) ** 2
    return math.sqrt(squares / len(names))
