"""The final models whose samples a person compares, and which of their samples lie outside of the usual."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from results.report.facts import SINGLE, Contender, Facts, Row, finite

ORIGINAL = "original"
"""Kind of what no model made: it stands beside the samples for comparison."""
KINDS = ("free", "continued", "harmony", ORIGINAL)
"""Kinds of samples in the order in which they are shown; others follow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maker:
    """A final model that made samples.

    Attributes:
        row: of the table `finals`.
        name: what it is called on the page.
        badge: `chosen`, `shipped` for the one that lies in the bundle in its place, or "".
        contender: its configuration among those that were compared; None if it was not.
        samples: rows of what it made, in the order of the table.
    """

    row: Row
    name: str
    badge: str
    contender: Contender | None
    samples: Sequence[dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outside:
    """A measure of a sample that lies outside of what the task calls usual.

    Attributes:
        measure: its name.
        value: of the sample.
        limit: that it is beyond.
        text: what that means, in the task's words.
    """

    measure: str
    value: float
    limit: float
    text: str

    @property
    def told(self) -> str:
        """Which limit it is, as `above 24` or `below 0.1`, without the unit."""
        return "above" if self.value > self.limit else "below"


def makers(facts: Facts) -> list[Maker]:
    """Returns the models with samples to compare: those chosen or shipped first, then the tied ones, then the rest.

    A model whose configuration has been ruled out since it made them is left out, unless its sweep has chosen none; so
    are samples that are gone.
    """
    of: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in facts.tables["samples"]:
        if not row["path"]:
            continue
        of[row["sweep"], row["final"]].append(row)
    known = {(row["sweep"], row["final"]): row for row in facts.tables["finals"]}
    places = {(each.sweep, one.key): i for each in facts.compared for i, one in enumerate(each.contenders)}
    decided = {row["sweep"] for row in facts.chosen}
    found: list[tuple[Any, Maker]] = []
    for key, samples in of.items():
        row = known.get(key, {"sweep": key[0], "final": key[1], "trial": "?"})
        single, chosen = (row.get("kind") or SINGLE) == SINGLE, facts.is_chosen(row)
        contender = facts.contender_of(row) if single else None
        place = places[key[0], contender.key] if contender else 1e6
        if key[0] in decided and not chosen and single and not (contender and contender.tied):
            continue
        badge = "chosen" if chosen else "shipped" if facts.ships(row) and not single else ""
        maker = Maker(row=row, name=facts.name_of(row), badge=badge, contender=contender, samples=samples)
        found.append(((not badge, place, key), maker))
    ordered = [maker for _, maker in sorted(found, key=lambda each: each[0])]
    times = Counter(maker.name for maker in ordered)
    return [
        dataclasses.replace(maker, name=f"{maker.name}, seed {maker.row.get('seed')}")
        if times[maker.name] > 1
        else maker
        for maker in ordered
    ]


def limits(facts: Facts, sweep: str) -> dict[str, Mapping[str, Any]]:
    """Returns the limits of measures that the card of a sweep's bundle names, by measure."""
    found = facts.cards.get(sweep, {}).get("sample_limits")
    if not isinstance(found, Mapping):
        return {}
    return {str(name): limit for name, limit in found.items() if isinstance(limit, Mapping)}


def outside(facts: Facts, row: Row) -> list[Outside]:
    """Returns what of a sample lies outside of its task's limits; nothing of what no model made."""
    if row.get("kind") == ORIGINAL:
        return []
    found = []
    for name, limit in limits(facts, row["sweep"]).items():
        value, low, high = row.get(name), limit.get("low"), limit.get("high")
        if value is None or not finite(value):
            continue
        beyond = low if finite(low) and value < low else high if finite(high) and value > high else None
        if beyond is not None:
            text = str(limit.get("text") or f"{name} is not usual")
            found.append(Outside(measure=name, value=value, limit=beyond, text=text))
    return found


def references(facts: Facts, sweeps: Sequence[str], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Returns measures of what people made, as the cards of bundles name them: name -> measure -> value."""
    found: dict[str, Mapping[str, Any]] = {}
    for sweep in dict.fromkeys(sweeps):
        known = facts.cards.get(sweep, {}).get("sample_references")
        for name, values in known.items() if isinstance(known, Mapping) else ():
            if isinstance(values, Mapping) and any(finite(values.get(each)) for each in names):
                found.setdefault(str(name), values)
    return found
