"""How configurations that were trained anew compare, and which of them is taken: what the table `choices` says.

The final job chooses with `results.choosing` and writes down `rows`; whoever tells of the choice reads it with `last`
and computes nothing.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from results.schema import CONFIG, Goal

Row = Mapping[str, Any]


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
        fair: whether `in_sweep` and `mean` compare, see `results.choosing.Promise`.
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
                values=values_of(trainings[0]) if trainings else {},
                finals=final_numbers(row["finals"]),
                scores=tuple(each[objective] for each in trainings),
                interval=_interval(row, "interval"),
                difference_interval=_interval(row, "difference"),
                costs=mean_costs(trainings, [name for name, _, _ in costs]) if trainings else {},
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


def mean_costs(rows: Sequence[Row], names: Iterable[str]) -> dict[str, float]:
    """Returns the means of some metrics over final trainings, those that are known of all of them."""
    means = {name: statistics.fmean(or_nan(row.get(name)) for row in rows) for name in names}
    return {name: value for name, value in means.items() if math.isfinite(value)}


def values_of(row: Row) -> dict[str, Any]:
    """Returns the configuration that a row has."""
    return {n.removeprefix(CONFIG): value for n, value in row.items() if n.startswith(CONFIG) and value is not None}


def or_nan(value: float | None) -> float:
    """Returns a number; NaN if it is missing."""
    return math.nan if value is None else value
