"""Which of some configurations is the best, and how sure can one be: statistics of a few trainings each.

    found = compare([Configuration(name=3, scores=(0.41, 0.42)), Configuration(name=7, scores=(0.40, 0.44))])
    choose(found, rule="best_mean")

A score varies for two reasons. Another *seed* gives another model; and other *pieces* to score it on give another
number, though for all configurations alike. Draws of both give every figure here. Pieces are drawn with
replacement, the same for all configurations: that is the pairing. Of two to five seeds there is nothing to draw with
replacement, for the spread of so few is always too small. What another set of seeds would have given is drawn from a
t distribution instead, with a spread that the configurations tell together; docs/decisions/0005 has the reasons and
the figures.
"""

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from results.errors import CallerError, did_you_mean

Goal = Literal["min", "max"]
Over = Literal["seeds and pieces", "seeds", "pieces", "nothing"]
Rule = Literal["tied_cheapest", "one_standard_error", "best_mean"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""How a configuration is chosen, by name; see `choose`."""

CONFIDENCE = 0.95
"""Of every interval. The best configuration is in the tied set at least so often."""
DRAWS = 4000
OWN_SPREAD = 2
"""A configuration's own spread counts against that of all as its degrees of freedom against this number."""
AS_CHEAP = 1.1
"""What costs up to so many times the least is as cheap: speed is not measured better than that."""
AS_ONE = 0.01
"""Pieces explain a score if their mean misses it by no more than this share of it."""
LEAST_PIECES = 5
"""Of fewer, nothing can be said of other pieces."""
FEW_FOR_SPREAD = 3
"""Scores of a sweep that a spread among configurations can be told from."""
FAR_OUT = 3
"""So many standard deviations from the middle, a score belongs to something else than the others."""

Pieces = Mapping[str, tuple[float, float]]
"""Piece -> (value, weight). The mean of the values by weight is the model's score."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What is known of a configuration that was trained, perhaps several times.

    Attributes:
        name: what it goes by.
        scores: of each training, finite.
        pieces: of each training, in the same order, if it is known by pieces.
    """

    name: Hashable
    scores: tuple[float, ...]
    pieces: tuple[Pieces, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a configuration stands among the others. What cannot be told is None.

    Attributes:
        name: of the configuration.
        num_trainings: how many scores there are.
        mean: of the scores.
        sd: standard deviation of the scores, of one training to the next; None for a single one.
        error: standard error of `mean`, over seeds and pieces.
        seed_error: the same over seeds alone.
        interval: where the mean would lie with all seeds and, if pieces are known, all pieces of their kind.
        difference: `mean` less that of the best; 0 for the best.
        difference_interval: the same interval for it, over the same pieces for both.
        chance_best: that it is the best of all; they sum to 1.
        tied: that it is the best cannot be ruled out.
    """

    name: Hashable
    num_trainings: int
    mean: float
    sd: float | None
    error: float | None
    seed_error: float | None
    interval: tuple[float, float] | None
    difference: float
    difference_interval: tuple[float, float] | None
    chance_best: float | None
    tied: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What some configurations look like beside each other.

    Attributes:
        goal: what is better, `min` or `max`.
        standings: the best mean first, the one named first among equals.
        over: what the figures take into account. With "pieces" alone, as with a single training each, there are no
            intervals, and configurations that are tied are so for these models only; with "nothing" no tie is known.
        seed_sd: from one seed to the next, told by all configurations together; None if each was trained once.
        num_pieces: that the models were compared on; 0 if that is not known.
    """

    goal: Goal
    standings: tuple[Standing, ...]
    over: Over
    seed_sd: float | None
    num_pieces: int

    @property
    def tied(self) -> tuple[Standing, ...]:
        """Those that may be the best, the best mean first."""
        return tuple(standing for standing in self.standings if standing.tied)

    def of(self, name: Hashable) -> Standing:
        """Returns the standing of a configuration."""
        return next(standing for standing in self.standings if standing.name == name)


def compare(
    configurations: Sequence[Configuration], *, goal: Goal = "min", seed: int = 0, draws: int = DRAWS
) -> Comparison:
    """Returns how configurations compare by the scores of their trainings.

    Args:
        configurations: one or more, each with one score or more.
        goal: what is better of a score.
        seed: of all that is drawn; the same one gives the same figures.
        draws: how many.

    Raises:
        CallerError: there are none, one has no score, or a score is not finite.
    """
    if not configurations:
        raise CallerError("there is nothing to compare: got no configuration, expected one or more")
    for one in configurations:
        if not one.scores or not all(map(math.isfinite, one.scores)):
            raise CallerError(f"configuration {one.name!r}: got the scores {one.scores}, expected one or more numbers")
    sign = -1.0 if goal == "max" else 1.0
    scores = [sign * np.asarray(one.scores, float) for one in configurations]
    means = np.array([each.mean() for each in scores])
    rng = np.random.default_rng(seed)
    of_seeds, seed_errors, seed_sd = _seed_draws(scores, draws, rng)
    of_pieces, piece_errors, num_pieces = _piece_draws(configurations, draws, rng)
    known = {"seeds": of_seeds is not None, "pieces": of_pieces is not None}
    over: Any = " and ".join(name for name, there in known.items() if there) or "nothing"
    moved = sum((each for each in (of_seeds, of_pieces) if each is not None), np.zeros((len(means), draws)))
    errors = np.hypot(seed_errors, piece_errors)
    best = int(np.argmin(means))
    tied = _tied(means, moved) if over != "nothing" else means == means[best]
    chances = _chances(means[:, None] + moved)
    told = over.startswith("seeds")
    standings = [
        Standing(
            name=one.name,
            num_trainings=len(one.scores),
            mean=float(sign * means[i]),
            sd=statistics.stdev(one.scores) if len(one.scores) > 1 else None,
            error=float(errors[i]) if told else None,
            seed_error=float(seed_errors[i]) if told else None,
            interval=_interval(sign * (means[i] + moved[i])) if told else None,
            difference=float(sign * (means[i] - means[best])),
            difference_interval=_interval(sign * (means[i] - means[best] + moved[i] - moved[best])) if told else None,
            chance_best=float(chances[i]) if told else None,
            tied=bool(tied[i]),
        )
        for i, one in enumerate(configurations)
    ]
    standings.sort(key=lambda standing: sign * standing.mean)
    return Comparison(goal=goal, standings=tuple(standings), over=over, seed_sd=seed_sd, num_pieces=num_pieces)


def _seed_draws(
    scores: Sequence[np.ndarray], draws: int, rng: np.random.Generator
) -> tuple[np.ndarray | None, np.ndarray, float | None]:
    """Returns how far other seeds would have moved each mean, `[C, draws]`; its standard errors `[C]`; one seed's sd.

    None and zeros if nothing was trained twice.
    """
    from scipy import stats

    own = np.array([len(each) - 1 for each in scores])
    total = int(own.sum())
    if not total:
        return None, np.zeros(len(scores)), None
    squares = np.array([((each - each.mean()) ** 2).sum() for each in scores])
    shared = squares.sum() / total
    # What the others lend a configuration is worth no more than what they know.
    lent = np.minimum(OWN_SPREAD, total - own)
    freedom = own + lent
    others = np.where(total > own, (squares.sum() - squares) / np.maximum(total - own, 1), shared)
    variances = (squares + lent * others) / freedom
    errors = np.sqrt(variances / (own + 1))
    drawn = stats.t.rvs(freedom[:, None], size=(len(scores), draws), random_state=rng)
    return errors[:, None] * drawn, errors, float(np.sqrt(shared))


def _piece_draws(
    configurations: Sequence[Configuration], draws: int, rng: np.random.Generator
) -> tuple[np.ndarray | None, np.ndarray, int]:
    """Returns how far other pieces would have moved each mean, `[C, draws]`; its standard errors `[C]`; their number.

    The sign of the scores does not matter: what pieces do is as likely one way as the other. None and zeros if the
    trainings were not all scored on the same pieces, on too few of them, or if the pieces do not explain the scores.
    """
    none = None, np.zeros(len(configurations)), 0
    if any(len(one.pieces) != len(one.scores) for one in configurations):
        return none
    first = configurations[0].pieces[0]
    names = sorted(first)
    weights = np.array([first[name][1] for name in names], float)
    if len(names) < LEAST_PIECES or not (np.isfinite(weights).all() and (weights > 0).all()):
        return none
    values = []
    for one in configurations:
        for score, pieces in zip(one.scores, one.pieces, strict=True):
            if pieces.keys() != first.keys() or any(pieces[n][1] != first[n][1] for n in names):
                return none
            mean = sum(pieces[name][0] * pieces[name][1] for name in names) / weights.sum()
            if not abs(mean - score) <= AS_ONE * abs(score):  # NaN too
                return none
        values.append(np.mean([[pieces[name][0] for name in names] for pieces in one.pieces], axis=0))
    moved = _moved(np.array(values), weights, draws, rng)
    return moved, moved.std(axis=1), len(names)


def _moved(values: np.ndarray, weights: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Returns how far other pieces would have moved each of some means, `[C, draws]`, the same pieces for all.

    Args:
        values: `[C, P]`, of each piece.
        weights: `[P]`.
        draws: how many.
        rng: of the draws.
    """
    from scipy import stats

    count, table = len(weights), values * weights  # [C, P]

    def mean_scores(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = drawn.astype(int)
        return table[:, drawn].sum(axis=axis) / weights[drawn].sum(axis=axis)

    made = stats.bootstrap(
        (np.arange(count),), mean_scores, vectorized=True, n_resamples=draws, batch=500, method="percentile", rng=rng
    )
    # Draws with replacement spread a little less than pieces do.
    means = (table.sum(axis=1) / weights.sum())[:, None]
    return (made.bootstrap_distribution - means) * math.sqrt(count / (count - 1))


def difference(
    one: Pieces, other: Pieces, *, seed: int = 0, draws: int = DRAWS
) -> tuple[float, tuple[float, float] | None]:
    """Returns how far the score of one model is above that of another, and the 95 % interval over pieces of that.

    It says something of these two models, not of what other seeds would give.

    Args:
        one: a model's score on each piece.
        other: the other's, on the same pieces.
        seed: of all that is drawn.
        draws: how many.

    Returns:
        The difference of the means by weight, and its interval; None with fewer than `LEAST_PIECES` pieces.

    Raises:
        CallerError: they were not scored on the same pieces.
    """
    if one.keys() != other.keys() or any(one[name][1] != other[name][1] for name in one):
        raise CallerError(f"two models cannot be compared: got scores of {len(one)} and {len(other)} other pieces")
    names = sorted(one)
    weights = np.array([one[name][1] for name in names], float)
    values = np.array([[pieces[name][0] for name in names] for pieces in (one, other)])
    apart = float(((values[0] - values[1]) * weights).sum() / weights.sum())
    if len(names) < LEAST_PIECES:
        return apart, None
    moved = _moved(values, weights, draws, np.random.default_rng(seed))
    return apart, _interval(apart + moved[0] - moved[1])


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def _chances(drawn: np.ndarray) -> np.ndarray:
    """Returns how often each row has the least value; equal ones share it."""
    least = drawn == drawn.min(axis=0)
    return (least / least.sum(axis=0)).mean(axis=1)


def _tied(means: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Returns which configurations may be the best, given how draws moved their means.

    One is left out only if it lies further behind than the best one of all ever would by chance: all comparisons at a
    time (Gupta's selection of a subset, with drawn quantiles). For two it is the interval of their difference. Those
    that are left out are compared with nobody any more, and the rest is looked at again, until it stays as it is: a
    configuration far behind, of which little is known, would make it hard to tell the others apart.
    """
    tied = np.ones(len(means), bool)
    while True:
        left = tied.copy()
        for i in np.flatnonzero(tied):
            others = tied.copy()
            others[i] = False
            if others.any():
                allowed = np.quantile((moved[i] - moved[others]).max(axis=0), (1 + CONFIDENCE) / 2)
                left[i] = means[i] - means[others].min() <= max(allowed, 0.0)
        if (left == tied).all():
            return tied
        tied = left


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What running a model takes.

    Attributes:
        name: of the measure.
        goal: `min` for what is spent, `max` for what is got, such as notes per second.
        values: configuration -> its value; those that are not known are left out.
    """

    name: str
    goal: Goal
    values: Mapping[Any, float]


def choose(comparison: Comparison, *, rule: Rule = "tied_cheapest", costs: Sequence[Cost] = ()) -> Hashable:
    """Returns the configuration to take.

    Rules: `tied_cheapest`, the cheapest of those that may be the best; `one_standard_error`, the cheapest of those
    whose mean is within one standard error of the best; `best_mean`, the best mean. Cheapest is decided by the first
    cost that tells them apart by more than `AS_CHEAP`, and by the better mean where none does. A cost that is not known
    of all of them decides nothing.

    Args:
        comparison: from `compare`.
        rule: one of `RULES`.
        costs: what decides first comes first.

    Raises:
        CallerError: there is no such rule.
    """
    best = comparison.standings[0]
    if rule == "best_mean":
        return best.name
    if rule == "tied_cheapest":
        left = list(comparison.tied)
    elif rule == "one_standard_error":
        left = [s for s in comparison.standings if abs(s.difference) <= (best.error or 0.0)]
    else:
        raise CallerError(f"unknown rule {rule!r}{did_you_mean(str(rule), RULES)}")
    for cost in costs:
        spent = {s.name: _spent(cost, s.name) for s in left}
        if all(math.isfinite(value) for value in spent.values()):
            least = min(spent.values())
            left = [s for s in left if spent[s.name] <= least * AS_CHEAP]
    return left[0].name


def _spent(cost: Cost, name: Hashable) -> float:
    """A cost such that less is cheaper; NaN if it is not known, or no positive number."""
    value = cost.values.get(name, math.nan)
    if not value > 0:
        return math.nan
    return 1 / value if cost.goal == "max" else value


def shrunken(values: Sequence[float], seed_sd: float | None, *, goal: Goal = "min") -> list[float] | None:
    """Returns what configurations would score on average, given one score of each: the best of many was also lucky.

    Each score is drawn towards the middle of all, the more, the more of their spread is due to seeds (the James-Stein
    estimate, as normal distributions have it). It needs no correction for having looked at the best. Middle and spread
    are told by the median and the better half alone: how far behind the bad ones lie says nothing of the luck of the
    good ones. What lies far out is drawn no further than the last that is not (a limited translation).

    Args:
        values: one score a configuration; of all that were scored alike, not of the best alone.
        seed_sd: from one seed to the next; None if it is not known.
        goal: what is better of a score.

    Returns:
        One value each; None with fewer than three scores, or if `seed_sd` is None.
    """
    if seed_sd is None or len(values) < FEW_FOR_SPREAD:
        return None
    middle = statistics.median(values)
    better = [value - middle for value in values if (value >= middle if goal == "max" else value <= middle)]
    # As if the worse half were the mirror image of the better one.
    variance = 2 * sum(gap**2 for gap in better) / (len(values) - 1)
    lost = min(1.0, seed_sd**2 / variance) if variance else 1.0
    most = FAR_OUT * max(math.sqrt(variance), seed_sd)
    return [value - lost * max(-most, min(most, value - middle)) for value in values]
