"""Which of the configurations that were trained anew is taken, and how sure that is."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.spec import FinalRule, Goal
from search.state import SweepState, TrialState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """A configuration that was trained anew. What cannot be told is None.

    Attributes:
        trial: whose it is.
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


def choose(
    state: SweepState,
    trials: Sequence[TrialState],
    rows: Iterable[Mapping[str, Any]],
    *,
    split: str,
    rule: FinalRule,
    costs: Sequence[tuple[str, Goal]],
    as_in_sweep: bool,
    seed: int,
) -> Choice | None:
    """Returns how the configurations compare by their final trainings, and which is taken; None if none was finished.

    Args:
        state: of the sweep.
        trials: whose configurations they are, the best of the sweep first.
        rows: of the table `finals`, those of these trials.
        split: whose pieces the models were scored on, if they were.
        rule: how one is chosen.
        costs: metrics that say what is cheap, with what is cheaper.
        as_in_sweep: whether the trainings had as many epochs as in the sweep, so that its scores compare.
        seed: of all that is drawn.
    """
    from results import statistics as library

    done: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == "completed":
            done.setdefault(row["trial"], []).append(row)
    trials = [trial for trial in trials if trial.trial in done]
    if not trials:
        return None
    goal: Goal = "max" if state.goal == "max" else "min"
    compared = library.compare(
        [
            library.Configuration(
                name=trial.trial,
                scores=tuple(row[state.objective] for row in done[trial.trial]),
                pieces=tuple(state.piece_scores(row["final"], split) for row in done[trial.trial]),
            )
            for trial in trials
        ],
        goal=goal,
        seed=seed,
    )
    spent = {trial.trial: _costs(done[trial.trial], [name for name, _ in costs]) for trial in trials}
    winner = library.choose(
        compared,
        rule=rule,
        costs=[
            library.Cost(name=name, goal=goal, values={t: known[name] for t, known in spent.items() if name in known})
            for name, goal in costs
        ],
    )
    promised = {trial.trial: _or_nan(state.best_value(trial.trial)) for trial in trials}
    expected = _without_luck(state, compared.seed_sd) if as_in_sweep else {}
    values = {trial.trial: trial.values for trial in trials}
    contenders = tuple(
        Contender(
            trial=number,
            values=dict(values[number]),
            in_sweep=promised[number],
            scores=tuple(row[state.objective] for row in done[number]),
            **{name: getattr(standing, name) for name in _TOLD},
            expected=expected.get(number),
            costs=spent[number],
            chosen=number == winner,
        )
        for number, standing in ((int(str(standing.name)), standing) for standing in compared.standings)
    )
    # What a trial that was cut short has reached is no promise of what all its epochs would give.
    whole = {trial.trial for trial in trials if as_in_sweep and trial.state == "completed"}
    fair = [contender for contender in contenders if contender.trial in whole]
    told = [contender.expected for contender in fair if contender.expected is not None]
    return Choice(
        contenders=contenders,
        rule=rule,
        over=compared.over,
        num_pieces=compared.num_pieces,
        seed_sd=compared.seed_sd,
        promised=statistics.fmean(contender.in_sweep for contender in fair) if fair else None,
        expected=statistics.fmean(told) if told else None,
        found=statistics.fmean(contender.mean for contender in fair) if fair else None,
    )


_TOLD = ("sd", "interval", "difference", "difference_interval", "chance_best", "tied")


def _costs(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float]:
    means = {name: statistics.fmean(_or_nan(row.get(name)) for row in rows) for name in names}
    return {name: value for name, value in means.items() if math.isfinite(value)}


def _without_luck(state: SweepState, seed_sd: float | None) -> dict[int, float]:
    """Trial -> its shrunken score, of those that ran to their end: the others' scores are of fewer epochs."""
    from results.statistics import shrunken

    found = [trial.trial for trial in state.ranked() if trial.state == "completed"]
    values = [_or_nan(state.best_value(trial)) for trial in found]
    return dict(zip(found, shrunken(values, seed_sd) or [], strict=False))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
