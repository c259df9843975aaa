"""Compares configurations by their final trainings and chooses one of them, for the final job.

A ledger from before the table `choices` is compared as its final job would have, by `earlier`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from results.choices import Choice, Contender, Key, Row, key_of, mean_costs, or_nan, values_of
from results.schema import Goal

if TYPE_CHECKING:
    from results import statistics as library

PieceScores = Mapping[int, Mapping[str, tuple[float, float]]]
"""Number of a final training -> piece -> (value, weight)."""


@dataclasses.dataclass(frozen=True)
class Promise:
    """What a trial had reached in its sweep.

    Attributes:
        value: the first objective.
        fair: whether it ran to its end and the final trainings are as long: only then do they compare.
    """

    value: float
    fair: bool


def compared(
    rows: Iterable[Row],
    *,
    objective: str,
    goal: str,
    pieces: PieceScores,
    costs: Sequence[tuple[str, Goal]],
    seed: int,
) -> "tuple[library.Comparison, list[library.Cost]] | None":
    """Returns how configurations stand by their final trainings, by `Key`, and what they cost; None if none is done.

    Args:
        rows: of the table `finals`, of equal length and data, the configuration that was best in its sweep first.
        objective: the metric that they are compared by.
        goal: what is better of it, `min` or `max`.
        pieces: what the models scored on each piece, where that is known.
        costs: metrics that say what is cheap, with what is cheaper.
        seed: of all that is drawn.
    """
    from results import statistics as library

    done = _done(rows)
    if not done:
        return None
    configurations = [
        library.Configuration(
            name=key,
            scores=tuple(row[objective] for row in each),
            pieces=tuple(pieces.get(row["final"], {}) for row in each),
        )
        for key, each in done.items()
    ]
    spent = {key: mean_costs(each, [name for name, _ in costs]) for key, each in done.items()}
    return library.compare(configurations, goal="max" if goal == "max" else "min", seed=seed), [
        library.Cost(name=name, goal=way, values={key: known[name] for key, known in spent.items() if name in known})
        for name, way in costs
    ]


def choose(
    rows: Sequence[Row],
    promises: Mapping[Key, Promise],
    *,
    objective: str,
    goal: str,
    pieces: PieceScores,
    rule: "library.Rule",
    costs: Sequence[tuple[str, Goal]],
    seed: int,
) -> Choice | None:
    """Returns how the configurations compare by their final trainings, and which is taken; None if none was finished.

    Args:
        rows: see `compared`, as are the others.
        promises: of all trials of the sweeps that the configurations are of.
        rule: one of `results.statistics.RULES`.
        objective: see above.
        goal: see above.
        pieces: see above.
        costs: see above.
        seed: see above.
    """
    from results import statistics as library

    found = compared(rows, objective=objective, goal=goal, pieces=pieces, costs=costs, seed=seed)
    if found is None:
        return None
    winner = library.choose(found[0], rule=rule, costs=found[1])
    return _told(rows, promises, found, objective=objective, winner=winner, rule=rule)


def earlier(
    rows: Sequence[Row],
    promises: Mapping[Key, Promise],
    *,
    objective: str,
    goal: str,
    pieces: PieceScores,
    rule: str,
    seed: int,
) -> Choice | None:
    """Returns what a final job chose that wrote no `choices`; None if it has finished no training.

    Trainings of other lengths, and on other data, than the model that is marked as chosen belong to other choices.

    Args:
        rows: of the table `finals`, all of one sweep.
        promises: see `choose`, as are the others; in the order in which the job had the trials, the best first.
        objective: see `choose`.
        goal: see `choose`.
        pieces: see `choose`.
        rule: what the sweep asked for; "" if that is not known.
        seed: see `choose`.
    """
    chosen = _marked(rows)
    like = _like(rows)
    places = {key: place for place, key in enumerate(promises)}
    mine = [row for row in _singles(rows) if like and _alike(row, like) and math.isfinite(or_nan(row[objective]))]
    mine.sort(key=lambda row: places.get(key_of(row), len(places)))
    found = compared(mine, objective=objective, goal=goal, pieces=pieces, costs=(), seed=seed)
    if found is None:
        return None
    winner = key_of(chosen) if chosen else None
    told = _told(mine, promises, found, objective=objective, winner=winner, rule=rule)
    return dataclasses.replace(told, final=chosen["final"] if chosen else None)


def length_of(rows: Sequence[Row]) -> int | None:
    """Returns how many epochs the trainings have that `earlier` compares; None if that is not known."""
    like = _like(rows)
    return like["epochs"] if like else None


def _marked(rows: Iterable[Row]) -> Row | None:
    return next((row for row in rows if row["chosen"]), None)


def _like(rows: Sequence[Row]) -> Row | None:
    """The single training whose length and data those have that are compared with it."""
    done = [row for row in _singles(rows) if row["state"] == "completed"]
    chosen = _marked(rows)
    own = [row for row in done if chosen and key_of(row) == key_of(chosen)]
    same = [row for row in own if chosen and row["final"] == chosen["final"]]
    return (same or own or done or [None])[-1]


def _alike(row: Row, other: Row) -> bool:
    return all(row[name] == other[name] for name in ("epochs", "data_fingerprint"))


def _singles(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if (row.get("kind") or "single") == "single"]


_TOLD = ("mean", "sd", "interval", "difference", "difference_interval", "chance_best", "tied")


def _told(
    rows: Iterable[Row],
    promises: Mapping[Key, Promise],
    found: "tuple[library.Comparison, list[library.Cost]]",
    *,
    objective: str,
    winner: Any,
    rule: str,
) -> Choice:
    standing, costs = found
    done = _done(rows)
    expected = _without_luck(promises, standing.seed_sd, standing.goal)
    contenders = []
    for each in standing.standings:
        key = cast("Key", each.name)
        promise = promises.get(key)
        contenders.append(
            Contender(
                trial=key.trial,
                source=key.source,
                values=values_of(done[key][0]),
                finals=tuple(row["final"] for row in done[key]),
                scores=tuple(row[objective] for row in done[key]),
                in_sweep=promise.value if promise else None,
                fair=bool(promise and promise.fair),
                **{name: getattr(each, name) for name in _TOLD},
                expected=expected.get(key),
                costs={cost.name: cost.values[key] for cost in costs if key in cost.values},
                chosen=key == winner,
            )
        )
    return Choice(
        contenders=tuple(contenders),
        rule=rule,
        costs=tuple((cost.name, cost.goal) for cost in costs),
        over=standing.over,
        num_pieces=standing.num_pieces,
        seed_sd=standing.seed_sd,
    )


def _done(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    done: dict[Key, list[Row]] = {}
    for row in rows:
        if row["state"] == "completed":
            done.setdefault(key_of(row), []).append(row)
    return done


def _without_luck(promises: Mapping[Key, Promise], seed_sd: float | None, goal: Goal) -> dict[Key, float]:
    """Trial -> its shrunken score, each among those of its sweep that ran to their end."""
    from results.statistics import shrunken

    told: dict[Key, float] = {}
    for source in dict.fromkeys(key.source for key in promises):
        fair = {key: each.value for key, each in promises.items() if each.fair and key.source == source}
        told |= dict(zip(fair, shrunken(list(fair.values()), seed_sd, goal=goal) or [], strict=False))
    return told
