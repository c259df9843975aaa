"""How configurations that were trained anew compare, and which of them is taken: what the table `choices` says.

The final job compares and chooses with `choose` and writes down `rows`. Whoever tells of the choice reads it with
`last` and computes nothing. A ledger from before the table is compared as its final job would have, by `earlier`.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from results.schema import CONFIG, Goal

if TYPE_CHECKING:
    from results import statistics as library

Row = Mapping[str, Any]
PieceScores = Mapping[int, Mapping[str, tuple[float, float]]]
"""Number of a final training -> piece -> (value, weight)."""


class Key(NamedTuple):
    """Which trial: numbers alone are those of one sweep.

    Attributes:
        source: name of the other sweep that it is of; "" for the final job's own.
    """

    source: str
    trial: int

    def __str__(self) -> str:
        return f"{self.source}/{self.trial}" if self.source else str(self.trial)


def key_of(row: Row) -> Key:
    """Returns whose configuration a row of `finals` or `choices` has."""
    return Key(row.get("source") or "", row["trial"])


@dataclasses.dataclass(frozen=True)
class Promise:
    """What a trial had reached in its sweep.

    Attributes:
        value: the first objective.
        fair: whether it ran to its end and the final trainings are as long: only then do they compare.
    """

    value: float
    fair: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """A configuration that was trained anew. What cannot be told is None.

    Attributes:
        trial: whose it is.
        source: the other sweep that the trial is of; "" for the final job's own.
        finals: numbers of its final trainings.
        scores: the first objective of each of them, at its best epoch.
        mean: of `scores`.
        in_sweep: the first objective that the trial reached in the sweep.
        fair: whether `in_sweep` and `mean` compare, see `Promise`.
        sd: standard deviation of `scores`.
        interval: 95 % interval of `mean`, over other seeds and, where models were scored by pieces, other pieces.
        difference: `mean` less the best one.
        difference_interval: the same interval for it.
        chance_best: that it is the best of all.
        tied: that it is the best cannot be ruled out.
        expected: what `in_sweep` promised, without the luck that comes with being among the best of many.
        costs: the measures that say how cheap it is to run, means of the trainings.
        chosen: whether it is the one that is taken.
    """

    trial: int
    source: str = ""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    finals: tuple[int, ...] = ()
    scores: tuple[float, ...]
    mean: float
    in_sweep: float | None = None
    fair: bool = False
    sd: float | None = None
    interval: tuple[float, float] | None = None
    difference: float = 0.0
    difference_interval: tuple[float, float] | None = None
    chance_best: float | None = None
    tied: bool = False
    expected: float | None = None
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    chosen: bool = False

    @property
    def key(self) -> Key:
        """Which trial of which sweep."""
        return Key(self.source, self.trial)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """How the configurations compare, and which of them is taken.

    Attributes:
        contenders: the best mean first.
        rule: by which one was chosen; "" if that is not known.
        costs: the measures that say what is cheap, each with what is cheaper; what decides first comes first.
        over: what the figures take into account: seeds and pieces, seeds, pieces, or nothing.
        num_pieces: that the models were compared on; 0 if they were not compared by pieces.
        seed_sd: of the first objective, from one seed to the next; None if each was trained once.
        final: number of the model that was taken; None as long as it is not known.
        kept: those whose promise is held against what was found: the ones with `expected`, or if there are none, the
            ones that are `fair`. The next three are means over these, None if there are none.
        promised: the scores in the sweep.
        expected: the same without the luck of being among the best; None if it cannot be told.
        found: the means now.
    """

    contenders: tuple[Contender, ...]
    rule: str
    costs: tuple[tuple[str, Goal], ...]
    over: str
    num_pieces: int
    seed_sd: float | None
    final: int | None = None
    kept: int = dataclasses.field(init=False)
    promised: float | None = dataclasses.field(init=False)
    expected: float | None = dataclasses.field(init=False)
    found: float | None = dataclasses.field(init=False)

    def __post_init__(self):
        told = [each for each in self.contenders if each.fair and each.expected is not None]
        kept = told or [each for each in self.contenders if each.fair]
        means = {
            "promised": [each.in_sweep for each in kept if each.in_sweep is not None],
            "expected": [each.expected for each in kept if each.expected is not None],
            "found": [each.mean for each in kept],
        }
        for name, values in means.items():
            object.__setattr__(self, name, statistics.fmean(values) if values else None)
        object.__setattr__(self, "kept", len(kept))

    @property
    def winner(self) -> Contender:
        """The one that is taken."""
        return next(contender for contender in self.contenders if contender.chosen)


# --- comparing --------------------------------------------------------------------------------------------------------


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
    spent = {key: _costs(each, [name for name, _ in costs]) for key, each in done.items()}
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
        promises: see `choose`, as are the others; those of trials that are as long as `length_of` says are fair.
        objective: see `choose`.
        goal: see `choose`.
        pieces: see `choose`.
        rule: what the sweep asked for; "" if that is not known.
        seed: see `choose`.
    """
    chosen = _marked(rows)
    like = _like(rows)
    sign = -1.0 if goal == "max" else 1.0

    def place(row: Row) -> float:
        promise = promises.get(key_of(row))
        return math.inf if promise is None else sign * promise.value

    mine = sorted((row for row in _singles(rows, objective) if like and _alike(row, like)), key=place)
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
    done = [row for row in rows if (row.get("kind") or "single") == "single" and row["state"] == "completed"]
    chosen = _marked(rows)
    own = [row for row in done if chosen and key_of(row) == key_of(chosen)]
    same = [row for row in own if chosen and row["final"] == chosen["final"]]
    return (same or own or done or [None])[-1]


def _alike(row: Row, other: Row) -> bool:
    return all(row[name] == other[name] for name in ("epochs", "data_fingerprint"))


def _singles(rows: Iterable[Row], objective: str) -> list[Row]:
    return [row for row in rows if (row.get("kind") or "single") == "single" and math.isfinite(_or_nan(row[objective]))]


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
                values=_values(done[key][0]),
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


def _costs(rows: Sequence[Row], names: Iterable[str]) -> dict[str, float]:
    means = {name: statistics.fmean(_or_nan(row.get(name)) for row in rows) for name in names}
    return {name: value for name, value in means.items() if math.isfinite(value)}


def _values(row: Row) -> dict[str, Any]:
    return {n.removeprefix(CONFIG): value for n, value in row.items() if n.startswith(CONFIG) and value is not None}


def _without_luck(promises: Mapping[Key, Promise], seed_sd: float | None, goal: Goal) -> dict[Key, float]:
    """Trial -> its shrunken score, each among those of its sweep that ran to their end."""
    from results.statistics import shrunken

    told: dict[Key, float] = {}
    for source in dict.fromkeys(key.source for key in promises):
        fair = {key: each.value for key, each in promises.items() if each.fair and key.source == source}
        told |= dict(zip(fair, shrunken(list(fair.values()), seed_sd, goal=goal) or [], strict=False))
    return told


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


# --- the table --------------------------------------------------------------------------------------------------------

_SAME = ("source", "trial", "mean", "sd", "difference", "chance_best", "tied", "in_sweep", "expected", "fair", "chosen")


def rows(choice: Choice, number: int) -> list[dict[str, Any]]:
    """Returns the rows of the table `choices` that say all of a choice.

    Args:
        choice: what to write down.
        number: that it has in its sweep.
    """
    costs = ", ".join(f"{name} {goal}" for name, goal in choice.costs)
    of_all = {name: getattr(choice, name) for name in ("rule", "over", "num_pieces", "seed_sd")}
    return [
        {
            "choice": number,
            "rank": rank,
            "finals": ", ".join(map(str, each.finals)),
            **{name: getattr(each, name) for name in _SAME},
            **_ends("interval", each.interval),
            **_ends("difference", each.difference_interval),
            "final": choice.final if each.chosen else None,
            "costs": costs,
            **of_all,
        }
        for rank, each in enumerate(choice.contenders, 1)
    ]


def last(found: Iterable[Row], finals: Iterable[Row], objective: str) -> Choice | None:
    """Returns the newest choice that rows of the table `choices` tell of; None without any row.

    Args:
        found: of one sweep.
        finals: of the table of this name, of the same sweep.
        objective: the metric that configurations were compared by.
    """
    found = list(found)
    newest = max((row["choice"] for row in found), default=None)
    mine = sorted((row for row in found if row["choice"] == newest), key=lambda row: row["rank"])
    if not mine:
        return None
    models = {row["final"]: row for row in finals}
    costs = [text.rpartition(" ") for text in (mine[0]["costs"] or "").split(", ") if text]
    contenders = []
    for row in mine:
        trainings = [models[number] for number in final_numbers(row["finals"]) if number in models]
        contenders.append(
            Contender(
                values=_values(trainings[0]) if trainings else {},
                finals=final_numbers(row["finals"]),
                scores=tuple(each[objective] for each in trainings),
                interval=_interval(row, "interval"),
                difference_interval=_interval(row, "difference"),
                costs=_costs(trainings, [name for name, _, _ in costs]) if trainings else {},
                **{name: row[name] for name in _SAME},
            )
        )
    return Choice(
        contenders=tuple(contenders),
        rule=mine[0]["rule"] or "",
        costs=tuple((name, "max" if goal == "max" else "min") for name, _, goal in costs),
        over=mine[0]["over"],
        num_pieces=mine[0]["num_pieces"],
        seed_sd=mine[0]["seed_sd"],
        final=next((row["final"] for row in mine if row["chosen"]), None),
    )


def final_numbers(text: str | None) -> tuple[int, ...]:
    """Returns the numbers of final models that a column names: `0, 3, …`."""
    return tuple(int(each) for each in (text or "").split(",") if each.strip().isdecimal())


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _interval(row: Row, name: str) -> tuple[float, float] | None:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return None if low is None or high is None else (low, high)
