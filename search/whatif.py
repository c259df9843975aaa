"""What if: another scheduler, or another order of trials, over the curves of a sweep that has run, without training.

What was recorded is all that is known. A trial that the sweep itself stopped has no curve beyond; where the other
scheduler asks for more of it, the trial is *censored*: it ends there, and is counted. The more are censored, the less
the figures say; a sweep that stopped nothing, or a large `audit_share`, gives the most.
"""

import dataclasses
import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from results.ledger import Ledger
from results.plain import duration
from search.errors import SpecError
from search.recordings import Recording, Recordings, read
from search.scheduler import Kind, SchedulerSettings, create
from search.simulation import Curve, Simulation, simulate

Order = Literal["recorded", "random"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
        kind, reduction, brackets, min_trials, seed: of the scheduler, see `search.scheduler.SchedulerSettings`.
        first_rung: None: the earliest epoch at which the sweep itself judged a trial, or 1.
        max_epochs: None: the most epochs that a recorded trial has.
        order: in which the configurations are tried: as they were, or by chance.
        num_orders: so many orders by chance, from 1; with `recorded` there is only one.
        workers: trials at a time, from 1.
        top_share: a trial is a good one if its best loss is among so many of all that are known in full; above 0, to 1.
    """

    kind: Kind = "asha"
    first_rung: int | None = None
    reduction: float = 3
    brackets: int = 1
    max_epochs: int | None = None
    min_trials: int = 5
    seed: int = 0
    order: Order = "recorded"
    num_orders: int = 20
    workers: int = 1
    top_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuses impossible values; the scheduler refuses its own.

        Raises:
            SpecError: with a sentence a mistake.
        """
        problems = [
            f"{name}: got {getattr(self, name)!r}, expected a whole number from 1"
            for name in ("num_orders", "workers")
            if getattr(self, name) < 1
        ]
        if not 0 < self.top_share <= 1:
            problems.append(f"top_share: got {self.top_share!r}, expected above 0, at most 1")
        if self.order not in ("recorded", "random"):
            problems.append(f"order: got {self.order!r}, expected recorded or random")
        if problems:
            raise SpecError("what-if: these settings cannot be", problems)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run over the curves came to.

    Attributes:
        order: `recorded`, or the seed of the order.
        num_trials: that were begun.
        epochs: that it took.
        train_s: seconds in them, as recorded.
        elapsed_s: with the workers asked for.
        best: value of the metric.
        best_trial: recorded number of the trial that has it.
        completed, stopped, failed, censored: trials by how they ended.
        judged_stops: stopped trials whose whole curve is known.
        wrong_stops: good ones among them (see `Question.top_share`), by recorded number.
        lost_winner: whether the trial with the best known value was stopped before it got there.
    """

    order: str
    num_trials: int
    epochs: int
    train_s: float
    elapsed_s: float
    best: float
    best_trial: int
    completed: int
    stopped: int
    failed: int
    censored: int
    judged_stops: int
    wrong_stops: tuple[int, ...]
    lost_winner: bool


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """The answer.

    Attributes:
        sweep: name of the sweep.
        metric: the first objective.
        goal: what is better.
        scheduler: what was run over the curves.
        workers: trials at a time.
        num_trials: recorded.
        num_known: of these the ones whose curve is known in full, or up to their failure.
        num_good: how many trials count as good ones.
        epochs: that the sweep really trained and that count.
        epochs_again: that it trained once more after a loss.
        train_s: seconds in the epochs that count.
        best: the best value that is recorded.
        completed, stopped, failed: recorded trials by how they ended; the rest is unfinished.
        outcomes: one an order.
    """

    sweep: str
    metric: str
    goal: str
    scheduler: SchedulerSettings
    workers: int
    num_trials: int
    num_known: int
    num_good: int
    epochs: int
    epochs_again: int
    train_s: float
    best: float
    completed: int
    stopped: int
    failed: int
    outcomes: tuple[Outcome, ...]

    @property
    def saved_s(self) -> float:
        """Training time that the sweep took and this would not have taken, seconds; the median of the orders."""
        return self.train_s - statistics.median(outcome.train_s for outcome in self.outcomes)

    def document(self) -> dict[str, Any]:
        """Returns all of it, fit for JSON."""
        return dataclasses.asdict(self) | {"saved_s": self.saved_s}

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Returns a header and rows: what happened, and what would have; of several orders the median and the range."""
        header = ["", "happened", "what if", *(["lowest", "highest"] if len(self.outcomes) > 1 else [])]
        counted = [
            ("trials begun", self.num_trials, [o.num_trials for o in self.outcomes]),
            ("epochs", self.epochs, [o.epochs for o in self.outcomes]),
            ("training", self.train_s, [o.train_s for o in self.outcomes]),
            (f"elapsed, {self.workers} at a time", None, [o.elapsed_s for o in self.outcomes]),
            (f"best {self.metric}", self.best, [o.best for o in self.outcomes]),
            ("completed", self.completed, [o.completed for o in self.outcomes]),
            ("stopped", self.stopped, [o.stopped for o in self.outcomes]),
            ("failed", self.failed, [o.failed for o in self.outcomes]),
            ("censored: more was asked than is known", None, [o.censored for o in self.outcomes]),
            ("stopped, outcome known", None, [o.judged_stops for o in self.outcomes]),
            (f"stopped wrongly, of {self.num_good} good", None, [len(o.wrong_stops) for o in self.outcomes]),
            ("winner lost (share of orders)", None, [float(o.lost_winner) for o in self.outcomes]),
        ]
        rows = []
        for name, happened, figures in counted:
            show = duration if name.startswith(("training", "elapsed")) else _figure
            middle = statistics.fmean(figures) if name.startswith("winner") else statistics.median(figures)
            row = [name, "" if happened is None else show(happened), show(middle)]
            rows.append([*row, show(min(figures)), show(max(figures))] if len(self.outcomes) > 1 else row)
        return header, rows

    def summary(self) -> str:
        """Returns in a few sentences what the figures say, and how far they can be trusted."""
        censored = statistics.median(outcome.censored for outcome in self.outcomes)
        begun = statistics.median(outcome.num_trials for outcome in self.outcomes)
        share = self.saved_s / self.train_s if self.train_s else 0.0
        told = [
            f"{self.scheduler.kind} over {self.num_trials} recorded trials of {self.sweep}: "
            f"{duration(abs(self.saved_s))} of training {'saved' if self.saved_s >= 0 else 'more'} ({share:+.0%}).",
            f"{self.num_known} of {self.num_trials} curves are known in full; of the others nothing is known beyond "
            "where the sweep left them.",
        ]
        if censored > 0:
            told.append(
                f"In the median order {_figure(censored)} of {_figure(begun)} trials needed more than that: it would "
                "have taken longer than shown, and might have found better."
            )
        return "\n".join(told)


def what_if(ledger: Ledger, question: Question | None = None) -> WhatIf:
    """Returns what a scheduler would have done with the trials of a sweep.

    Raises:
        SweepError: no epoch is recorded.
        SpecError: the scheduler's settings cannot be.
        LedgerError: there is no ledger.
    """
    question = question or Question()
    recordings = read(ledger)
    max_epochs = question.max_epochs or recordings.max_epochs
    first_rung = question.first_rung
    settings = SchedulerSettings(
        kind=question.kind,
        first_rung=(recordings.first_rung or 1) if first_rung is None else first_rung,
        reduction=question.reduction,
        brackets=question.brackets,
        max_epochs=max_epochs,
        min_trials=question.min_trials,
        seed=question.seed,
    )
    cut = [_cut(recording, max_epochs) for recording in recordings.trials]
    known = [r for r in cut if _known(r, max_epochs)]
    good = _good(known, question.top_share)
    states = Counter(recording.state for recording in recordings.trials)
    return WhatIf(
        sweep=recordings.sweep,
        metric=recordings.metric,
        goal=recordings.goal,
        scheduler=settings,
        workers=question.workers,
        num_trials=len(recordings.trials),
        num_known=len(known),
        num_good=len(good),
        epochs=sum(len(r.curve.losses) for r in recordings.trials),
        epochs_again=recordings.num_epochs - sum(len(r.curve.losses) for r in recordings.trials),
        train_s=recordings.train_s,
        best=recordings.shown(recordings.best),
        completed=states["completed"],
        stopped=states["stopped"],
        failed=states["failed"],
        outcomes=tuple(
            _outcome(name, order, recordings, settings, question.workers, good)
            for name, order in _orders(cut, question)
        ),
    )


def _orders(trials: Sequence[Recording], question: Question) -> list[tuple[str, list[Recording]]]:
    if question.order == "recorded":
        return [("recorded", list(trials))]
    found = []
    for seed in range(question.seed, question.seed + question.num_orders):
        order = list(trials)
        random.Random(seed).shuffle(order)
        found.append((str(seed), order))
    return found


def _outcome(
    name: str,
    order: Sequence[Recording],
    recordings: Recordings,
    settings: SchedulerSettings,
    workers: int,
    good: frozenset[int],
) -> Outcome:
    def propose(trial: int) -> Curve | None:
        return order[trial].curve if trial < len(order) else None

    done = simulate(create(settings), propose, workers=workers)
    states = Counter(run.state for run in done.runs.values())
    stopped = [order[run.trial] for run in done.runs.values() if run.state == "stopped"]
    judged = [r for r in stopped if _known(r, settings.max_epochs)]
    return Outcome(
        order=name,
        num_trials=len(done.runs),
        epochs=done.epochs,
        train_s=done.cost,
        elapsed_s=done.time,
        best=recordings.shown(done.best),
        best_trial=order[done.improvements[-1].trial].trial if done.improvements else -1,
        completed=states["completed"],
        stopped=states["stopped"],
        failed=states["failed"],
        censored=states["censored"],
        judged_stops=len(judged),
        wrong_stops=tuple(sorted(r.trial for r in judged if r.trial in good)),
        lost_winner=_lost_winner(done, order),
    )


def _lost_winner(done: Simulation, order: Sequence[Recording]) -> bool:
    return done.best > min((recording.best for recording in order), default=math.inf)


def _cut(recording: Recording, max_epochs: int) -> Recording:
    """Returns a recording as far as a sweep of `max_epochs` goes."""
    curve = recording.curve
    if len(curve.losses) <= max_epochs:
        return recording
    return dataclasses.replace(
        recording, curve=dataclasses.replace(curve, losses=curve.losses[:max_epochs], failed=False)
    )


def _known(recording: Recording, max_epochs: int) -> bool:
    """Whether nothing that a trial might have done is unknown."""
    return recording.curve.failed or len(recording.curve.losses) >= max_epochs


def _good(known: Sequence[Recording], share: float) -> frozenset[int]:
    """Returns the trials whose best losses are the best `share` of those that are known, at least one."""
    finished = sorted((r.best, r.trial) for r in known if not r.curve.failed and math.isfinite(r.best))
    return frozenset(trial for _, trial in finished[: math.ceil(share * len(finished))])


def _figure(value: float) -> str:
    return f"{value:.5g}"
