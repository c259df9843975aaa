"""Which of the configurations that were trained anew is taken, and how sure that is."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from search.final_candidates import Candidate, Key, Source, key_of
from search.spec import FinalRule, Goal
from search.state import SweepState

if TYPE_CHECKING:
    from results import statistics as library


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """A configuration that was trained anew. What cannot be told is None.

    Attributes:
        trial: whose it is.
        source: the other sweep that the trial is of; "" for the final job's own.
        in_sweep: the first objective that the trial reached in the sweep.
        scores: the first objective of each final training, at its best epoch.
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
    values: Mapping[str, Any]
    in_sweep: float
    scores: tuple[float, ...]
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
    def mean(self) -> float:
        """The mean of `scores`."""
        return statistics.fmean(self.scores)

    @property
    def key(self) -> Key:
        """Which trial of which sweep."""
        return Key(self.source, self.trial)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """How the configurations compare, and which of them is taken.

    Attributes:
        contenders: the best mean first.
        rule: by which one was chosen.
        over: what the figures take into account: seeds and pieces, seeds, pieces, or nothing.
        num_pieces: that the models were compared on; 0 if they were not compared by pieces.
        seed_sd: of the first objective, from one seed to the next; None if each was trained once.
        promised: mean of the scores in the sweep, of those contenders that ran to their end there; None if there are
            none, or if they have other epochs now.
        expected: the same without the luck of being among the best; None if it cannot be told.
        found: mean of their means now.
    """

    contenders: tuple[Contender, ...]
    rule: FinalRule
    over: str
    num_pieces: int
    seed_sd: float | None
    promised: float | None
    expected: float | None
    found: float | None

    @property
    def winner(self) -> Contender:
        """The one that is taken."""
        return next(contender for contender in self.contenders if contender.chosen)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """How configurations are compared and one is taken.

    Attributes:
        split: whose pieces models were scored on, if they were.
        rule: how one is taken.
        costs: metrics that say what is cheap, with what is cheaper.
        as_in_sweep: whether the trainings had as many epochs as in the sweep, so that its scores compare.
        seed: of all that is drawn.
    """

    split: str
    rule: FinalRule
    costs: Sequence[tuple[str, Goal]]
    as_in_sweep: bool
    seed: int


def compared(
    state: SweepState, rows: Iterable[Mapping[str, Any]], way: Way
) -> "tuple[library.Comparison, list[library.Cost]] | None":
    """Returns how configurations stand by their final trainings, by `Key`, and what they cost; None if none is done.

    Args:
        state: of the final job's own sweep.
        rows: of the table `finals`, the configuration that was best in its sweep first.
        way: see `Way`.
    """
    from results import statistics as library

    done = _done(rows)
    if not done:
        return None
    goal: Goal = "max" if state.goal == "max" else "min"
    configurations = [
        library.Configuration(
            name=key,
            scores=tuple(row[state.objective] for row in each),
            pieces=tuple(state.piece_scores(row["final"], way.split) for row in each),
        )
        for key, each in done.items()
    ]
    spent = {key: _costs(each, [name for name, _ in way.costs]) for key, each in done.items()}
    return library.compare(configurations, goal=goal, seed=way.seed), [
        library.Cost(name=name, goal=goal, values={key: known[name] for key, known in spent.items() if name in known})
        for name, goal in way.costs
    ]


def choose(
    state: SweepState,
    chosen: Sequence[Candidate],
    rows: Sequence[Mapping[str, Any]],
    way: Way,
    *,
    sources: Sequence[Source],
) -> Choice | None:
    """Returns how the configurations compare by their final trainings, and which is taken; None if none was finished.

    Args:
        state: of the final job's own sweep.
        chosen: whose configurations they are.
        rows: of the table `finals`, those of these trials.
        way: see `Way`.
        sources: the sweeps that they are of.
    """
    from results import statistics as library

    found = compared(state, rows, way)
    if found is None:
        return None
    standing, costs = found
    winner = library.choose(standing, rule=way.rule, costs=costs)
    done, of = _done(rows), {candidate.key: candidate for candidate in chosen}
    expected = _without_luck(sources, standing.seed_sd) if way.as_in_sweep else {}
    contenders = tuple(
        Contender(
            trial=key.trial,
            source=key.source,
            values=dict(of[key].values),
            in_sweep=of[key].in_sweep,
            scores=tuple(row[state.objective] for row in done[key]),
            **{name: getattr(each, name) for name in _TOLD},
            expected=expected.get(key),
            costs={cost.name: cost.values[key] for cost in costs if key in cost.values},
            chosen=key == winner,
        )
        for key, each in ((cast("Key", each.name), each) for each in standing.standings)
    )
    # What a trial that was cut short has reached is no promise of what all its epochs would give.
    fair = [each for each in contenders if way.as_in_sweep and of[each.key].state == "completed"]
    told = [contender.expected for contender in fair if contender.expected is not None]
    return Choice(
        contenders=contenders,
        rule=way.rule,
        over=standing.over,
        num_pieces=standing.num_pieces,
        seed_sd=standing.seed_sd,
        promised=statistics.fmean(contender.in_sweep for contender in fair) if fair else None,
        expected=statistics.fmean(told) if told else None,
        found=statistics.fmean(contender.mean for contender in fair) if fair else None,
    )


def _done(rows: Iterable[Mapping[str, Any]]) -> dict[Key, list[Mapping[str, Any]]]:
    done: dict[Key, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == "completed":
            done.setdefault(key_of(row), []).append(row)
    return done


_TOLD = ("sd", "interval", "difference", "difference_interval", "chance_best", "tied")


def _costs(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float]:
    means = {name: statistics.fmean(_or_nan(row.get(name)) for row in rows) for name in names}
    return {name: value for name, value in means.items() if math.isfinite(value)}


def _without_luck(sources: Sequence[Source], seed_sd: float | None) -> dict[Key, float]:
    """Trial -> its shrunken score, of those that ran to their end: the others' scores are of fewer epochs."""
    from results.statistics import shrunken

    told: dict[Key, float] = {}
    for source in sources:
        found = [trial.trial for trial in source.ranked() if trial.state == "completed"]
        values = [_or_nan(source.state.best_value(trial)) for trial in found]
        keys = [Key(source.name, trial) for trial in found]
        goal: Goal = "max" if source.state.goal == "max" else "min"
        told |= dict(zip(keys, shrunken(values, seed_sd, goal=goal) or [], strict=False))
    return told


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
