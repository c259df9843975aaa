"""The audit of early stopping: why each trial was stopped, and how often that was wrong.

Why stands in the decisions of the ledger. Whether it was right is known only of the *audited* trials, a small share
drawn by chance of those that would have been stopped, which ran to their end all the same; what they say of the others,
they say with the uncertainty of their number.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.ledger import Ledger
from search.errors import SpecError
from search.recordings import Recording, Recordings, read

CONFIDENCE = 0.95
"""Of all intervals."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why a trial was stopped, or would have been.

    Attributes:
        trial: its number.
        epoch: after which epoch.
        bracket: the trial's bracket.
        rung: as the scheduler counts them; -1 if it was not the scheduler.
        value: of the metric; NaN if it was not the scheduler, or a value that is not finite.
        cutoff: the value that it had to reach; None if there was none.
        num_values: how many values the cutoff was taken from.
        audited: whether it went on for the audit.
        reason: in words.
    """

    trial: int
    epoch: int
    bracket: int
    rung: int
    value: float
    cutoff: float | None
    num_values: int
    audited: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Audited:
    """An audited trial that ran to its end.

    Attributes:
        trial: its number.
        epoch: after which it would have been stopped.
        value: of the metric there.
        cutoff: the value that it had to reach.
        final: its best value in the end.
        rank: its place, by the final value, if it were put among the trials that were never to be stopped; from 1.
        wrong: whether stopping it would have been wrong: it is as good as the good ones (see `Audit.num_good`).
    """

    trial: int
    epoch: int
    value: float
    cutoff: float | None
    final: float
    rank: int
    wrong: bool


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share, estimated from a count.

    Attributes:
        count: how many.
        of: of how many.
        low: end of the 95 % interval (Wilson's); 0 if nothing was counted.
        high: the other end; 1 if nothing was counted.
    """

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; NaN of nothing."""
        return self.count / self.of if self.of else math.nan


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """How well the value at a rung foretells the final one: Spearman's rank correlation.

    Attributes:
        epoch: of the rung.
        among: `audited` trials, or `all` whose final value is known. The latter are more, but most of them are those
            that did well at the rung, which makes the correlation smaller than it is among all that came there.
        num_trials: of them.
        rho: -1..1; 1 if the order at the rung is the final one. None of fewer than 3 trials, or if all are equal.
        low: end of the 95 % interval; None if there are fewer than 5 trials.
        high: the other end.
    """

    epoch: int
    among: str
    num_trials: int
    rho: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the ledger says of early stopping.

    Attributes:
        sweep: name of the sweep.
        metric: the first objective.
        goal: what is better.
        num_trials: that were proposed.
        stops: why each trial was stopped, or would have been, in the order of their numbers.
        audited: those that ran to their end.
        unfinished: audited trials that have not, by number.
        num_survivors: trials that completed and were never to be stopped.
        num_good: so many best ones of them are the good ones.
        good_value: final value of the last good one; None if nobody has completed.
        wrong: share of audited trials that are as good as the good ones.
        better_than_winner: share of audited trials that are better than every survivor.
        correlations: by rung.
    """

    sweep: str
    metric: str
    goal: str
    num_trials: int
    stops: tuple[Stop, ...]
    audited: tuple[Audited, ...]
    unfinished: tuple[int, ...]
    num_survivors: int
    num_good: int
    good_value: float | None
    wrong: Share
    better_than_winner: Share
    correlations: tuple[Correlation, ...]

    def document(self) -> dict[str, Any]:
        """Returns all of it, fit for JSON but for numbers that are not finite."""
        return dataclasses.asdict(self)

    def stop_table(self) -> tuple[list[str], list[list[Any]]]:
        """Returns a header and a row for each stop."""
        header = ["trial", "epoch", "bracket", "rung", self.metric, "cutoff", "of", "audited", "why"]
        rows = [
            [
                stop.trial,
                stop.epoch,
                stop.bracket,
                None if stop.rung < 0 else stop.rung,
                None if math.isnan(stop.value) else stop.value,
                stop.cutoff,
                stop.num_values or None,
                "yes" if stop.audited else "",
                stop.reason,
            ]
            for stop in self.stops
        ]
        return header, rows

    def audited_table(self) -> tuple[list[str], list[list[Any]]]:
        """Returns a header and a row for each audited trial that ran to its end."""
        header = ["audited", "epoch", f"{self.metric} there", "cutoff", "final", "place", "wrong"]
        rows = [
            [a.trial, a.epoch, a.value, a.cutoff, a.final, f"{a.rank} of {self.num_survivors + 1}", a.wrong]
            for a in self.audited
        ]
        return header, rows

    def correlation_table(self) -> tuple[list[str], list[list[Any]]]:
        """Returns a header and a row for each rung."""
        header = ["rung at epoch", "among", "trials", "rank correlation", "low", "high"]
        return header, [[c.epoch, c.among, c.num_trials, c.rho, c.low, c.high] for c in self.correlations]

    def summary(self) -> str:
        """Returns in a few sentences what was found."""
        by_scheduler = [stop for stop in self.stops if stop.rung >= 0]
        told = [
            f"{self.sweep}: {sum(not s.audited for s in self.stops)} of {self.num_trials} trials stopped "
            f"({sum(not s.audited for s in by_scheduler)} by the scheduler), "
            f"{len(self.audited) + len(self.unfinished)} audited."
        ]
        if not self.audited:
            told.append(
                "No audited trial has run to its end, so nothing says how often stopping was wrong; "
                "give [scheduler] a larger audit_share."
            )
        elif self.good_value is None:
            told.append("No other trial has completed, so there is nothing to compare the audited ones with.")
        else:
            told.append(
                f"Wrong: {self.wrong.count} of {self.wrong.of} audited trials ended as good as the best "
                f"{self.num_good} of {self.num_survivors} that went on by right ({self.good_value:.5g} or better); "
                f"95 % interval of the share {self.wrong.low:.0%} to {self.wrong.high:.0%}."
            )
            told.append(
                f"Better than the winner: {self.better_than_winner.count} of {self.better_than_winner.of} "
                f"({self.better_than_winner.low:.0%} to {self.better_than_winner.high:.0%})."
            )
        return "\n".join(told)


def audit(ledger: Ledger, *, top_share: float = 0.1) -> Audit:
    """Returns why trials were stopped, and how often it was wrong.

    Args:
        ledger: of the sweep.
        top_share: so many of the trials that completed by right are the good ones, at least one; above 0, to 1.

    Raises:
        SpecError: `top_share` cannot be.
        SweepError: no epoch is recorded.
        LedgerError: there is no ledger.
    """
    if not 0 < top_share <= 1:
        raise SpecError(f"top_share: got {top_share!r}, expected above 0, at most 1")
    recordings = read(ledger)
    decisions = _decisions(ledger)
    would_stop = {
        trial: next(row for row in rows if row["audited"])
        for trial, rows in decisions.items()
        if any(row["audited"] for row in rows)
    }
    finals = {r.trial: r.best for r in recordings.trials if r.state == "completed" and math.isfinite(r.best)}
    survivors = sorted(final for trial, final in finals.items() if trial not in would_stop)
    num_good = math.ceil(top_share * len(survivors))
    limit = survivors[num_good - 1] if survivors else math.nan
    audited = tuple(
        _audited(would_stop[trial], finals[trial], survivors, limit, recordings)
        for trial in sorted(would_stop)
        if trial in finals
    )
    states = {r.trial: r.state for r in recordings.trials}
    compared = len(audited) if survivors else 0
    return Audit(
        sweep=recordings.sweep,
        metric=recordings.metric,
        goal=recordings.goal,
        num_trials=len(recordings.trials),
        stops=tuple(_stops(recordings, decisions, would_stop)),
        audited=audited,
        unfinished=tuple(t for t in sorted(would_stop) if t not in finals and states.get(t) != "stopped"),
        num_survivors=len(survivors),
        num_good=num_good,
        good_value=recordings.shown(limit) if survivors else None,
        wrong=share(sum(a.wrong for a in audited), compared),
        better_than_winner=share(sum(a.rank == 1 for a in audited) if survivors else 0, compared),
        correlations=tuple(_correlations(recordings, decisions, finals, set(would_stop))),
    )


def share(count: int, of: int) -> Share:
    """Returns a share with Wilson's 95 % interval."""
    if of == 0:
        return Share(count=0, of=0, low=0.0, high=1.0)
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Share(count=count, of=of, low=float(interval.low), high=float(interval.high))


def rank_correlation(epoch: int, among: str, pairs: Sequence[tuple[float, float]]) -> Correlation:
    """Returns Spearman's rank correlation with a 95 % interval.

    The interval is Fisher's z with the variance (1 + rho² / 2) / (n - 3) of Bonett and Wright (Psychometrika 65, 2000).

    Args:
        epoch: of the rung.
        among: which trials these are.
        pairs: value at the rung, final value.
    """
    pairs = [pair for pair in pairs if all(math.isfinite(value) for value in pair)]
    num = len(pairs)
    rho: float | None = None
    if num >= 3 and all(len({pair[side] for pair in pairs}) > 1 for side in (0, 1)):
        from scipy.stats import spearmanr

        rho = float(spearmanr([pair[0] for pair in pairs], [pair[1] for pair in pairs])[0])
    low = high = None
    if rho is not None and num >= 5:
        z = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, rho)))
        width = 1.959963984540054 * math.sqrt((1 + rho**2 / 2) / (num - 3))
        low, high = math.tanh(z - width), math.tanh(z + width)
    return Correlation(epoch=epoch, among=among, num_trials=num, rho=rho, low=low, high=high)


def _decisions(ledger: Ledger) -> dict[int, list[dict[str, Any]]]:
    """Returns the decisions on each trial, by epoch."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    names = ["trial", "epoch", "bracket", "rung", "value", "cutoff", "num_values", "verdict", "audited"]
    for row in ledger.table("decisions", names).to_pylist():
        found[row["trial"]].append(row)
    return {trial: sorted(rows, key=lambda row: row["epoch"]) for trial, rows in found.items()}


def _audited(
    row: Mapping[str, Any], final: float, survivors: Sequence[float], limit: float, recordings: Recordings
) -> Audited:
    return Audited(
        trial=row["trial"],
        epoch=row["epoch"],
        value=recordings.shown(_number(row["value"])),
        cutoff=_shown(row["cutoff"], recordings),
        final=recordings.shown(final),
        rank=1 + sum(other <= final for other in survivors),
        wrong=bool(survivors) and final <= limit,
    )


def _stops(
    recordings: Recordings,
    decisions: Mapping[int, Sequence[Mapping[str, Any]]],
    would_stop: Mapping[int, Mapping[str, Any]],
) -> list[Stop]:
    found = []
    for recording in recordings.trials:
        rows = decisions.get(recording.trial, ())
        row = would_stop.get(recording.trial) or next((r for r in reversed(rows) if r["verdict"] == "stop"), None)
        if row is not None and (row["audited"] or recording.reason_kind in ("", "scheduler")):
            found.append(_by_scheduler(row, recordings))
        elif recording.state == "stopped":
            found.append(_by_others(recording, rows))
    return found


def _by_scheduler(row: Mapping[str, Any], recordings: Recordings) -> Stop:
    value, cutoff = recordings.shown(_number(row["value"])), _shown(row["cutoff"], recordings)
    if not math.isfinite(value):
        reason = f"{recordings.metric} is not finite"
    elif cutoff is None:
        reason = "nothing to compare with"
    else:
        worse = ">" if recordings.goal == "min" else "<"
        reason = f"{value:.5g} {worse if value != cutoff else '='} {cutoff:.5g}, the cutoff of {row['num_values']}"
    return Stop(
        trial=row["trial"],
        epoch=row["epoch"],
        bracket=row["bracket"],
        rung=row["rung"],
        value=value,
        cutoff=cutoff,
        num_values=row["num_values"] or 0,
        audited=bool(row["audited"]),
        reason=reason,
    )


def _by_others(recording: Recording, rows: Sequence[Mapping[str, Any]]) -> Stop:
    return Stop(
        trial=recording.trial,
        epoch=len(recording.curve.losses),
        bracket=rows[-1]["bracket"] if rows else 0,
        rung=-1,
        value=math.nan,
        cutoff=None,
        num_values=0,
        audited=False,
        reason=recording.reason or recording.reason_kind or "not said",
    )


def _correlations(
    recordings: Recordings,
    decisions: Mapping[int, Sequence[Mapping[str, Any]]],
    finals: Mapping[int, float],
    audited: set[int],
) -> list[Correlation]:
    curves = {r.trial: r.curve.losses for r in recordings.trials}
    found = []
    for epoch in sorted({row["epoch"] for rows in decisions.values() for row in rows}):
        pairs = {t: (curves[t][epoch - 1], final) for t, final in finals.items() if len(curves[t]) >= epoch}
        found.append(rank_correlation(epoch, "audited", [pair for t, pair in pairs.items() if t in audited]))
        found.append(rank_correlation(epoch, "all", list(pairs.values())))
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _shown(loss: float | None, recordings: Recordings) -> float | None:
    return None if loss is None else recordings.shown(loss)
