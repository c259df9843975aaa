"""A sweep at one moment: all that a view of it shows, taken from its state.

The same for a sweep that runs in this process and for one whose ledger was read from elsewhere, finished or dead.
"""

import bisect
import dataclasses
import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from results.plain import finite
from search.shares import priced
from search.state import ENDED, SweepState, TrialState, held

if TYPE_CHECKING:
    from search.spec import SweepSpec

Condition = Literal["running", "finished", "stopped", "dead"]
"""Stopped: ended in order before its work was done, on request. Dead: its driver is gone and left trials open."""

RATE_WINDOW_S = 120.0
"""Rates are those of the last so many seconds."""
NUM_TOP = 5
NUM_RECENT = 30
JUDGEABLE = 3
"""With fewer ended trials it cannot be said how many epochs a trial takes."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a sweep may use up; None is no limit.

    Attributes:
        trials: how many.
        epochs: of a trial that nothing stops.
        wall_time_s: of the sweep, without the time between its sessions.
        gpu_hours: GPUs that trials hold, times hours.
        money: in the unit of the price.
        price_per_hour: of one GPU, or of one core where trials use no GPU.
    """

    trials: int | None = None
    epochs: int | None = None
    wall_time_s: float | None = None
    gpu_hours: float | None = None
    money: float | None = None
    price_per_hour: float | None = None

    @classmethod
    def of(cls, spec: "SweepSpec") -> "Limits":
        """Returns the limits of a sweep file."""
        return cls(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(cls)})


@dataclass(frozen=True, kw_only=True)
class TrialView:
    """One trial, as it is shown.

    Attributes:
        epoch: the last one that there are results of.
        epochs: as many as it may train; None if unknown.
        value: the first objective at the best epoch, as measured; None without.
        last_value: the first objective at the last epoch; may be NaN.
        curve: the first objective by epoch, as measured.
        node: where it runs or ran last; "" if unknown.
        quiet_s: seconds since its last result, or since its attempt started; None if it does not run.
    """

    trial: int
    state: str
    attempt: int
    epoch: int
    epochs: int | None
    best_epoch: int | None
    value: float | None
    last_value: float | None
    curve: tuple[float, ...]
    values: Mapping[str, Any]
    objectives: tuple[float, ...]
    node: str
    quiet_s: float | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class Use:
    """How much of a budget is used.

    Attributes:
        name: trials, epochs, wall_time_s, gpu_hours or money.
        limit: None is no limit.
    """

    name: str
    used: float
    limit: float | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What went wrong for one kind of reason.

    Attributes:
        kind: a word such as out_of_memory; "" if the ledger has none.
        attempts: attempts that failed or were lost for it.
        trials: trials that failed for good for it.
        trial: the trial of the last such attempt.
        message: the last reason.
        time: when, in seconds since 1970; None if unknown.
    """

    kind: str
    attempts: int
    trials: int
    trial: int
    message: str
    time: float | None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A trial that ended lately.

    Attributes:
        time: when, in seconds since 1970.
        text: a sentence; holds whatever the task's messages hold.
    """

    time: float
    trial: int
    state: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        storage: where it lies.
        now: seconds since 1970.
        elapsed_s: how long it has run, without the time between its sessions.
        objectives: metric and goal; trials are ranked by the first.
        counts: trials by state.
        running: trials with an attempt that has not ended, the oldest first.
        best: the best trial so far; None while no trial has a finite value.
        top: the best few, `best` first.
        budget: what is used and what may be, those without a limit too.
        trials_per_min: trials ended, over the last minutes; 0 for a sweep that does not run.
        epochs_per_s: epochs trained, over the last minutes; 0 for a sweep that does not run.
        time_left_s: an estimate; None if there is nothing to make it from.
        time_left_how: what the estimate is made of, or why there is none.
        failures: by kind, the most frequent first.
        stopped: trials that were stopped, by the kind of reason.
        endings: the trials that ended last, the latest first.
        num_finals: trainings of the final job that are done.
    """

    name: str
    storage: str
    condition: Condition
    now: float
    elapsed_s: float
    objectives: tuple[tuple[str, str], ...]
    counts: Mapping[str, int]
    running: tuple[TrialView, ...]
    best: TrialView | None
    top: tuple[TrialView, ...]
    budget: tuple[Use, ...]
    trials_per_min: float
    epochs_per_s: float
    time_left_s: float | None
    time_left_how: str
    failures: tuple[Failure, ...]
    stopped: Mapping[str, int]
    endings: tuple[Ending, ...]
    num_finals: int
    sessions: int

    def use(self, name: str) -> Use:
        """Returns the use of the budget of this name."""
        return next(use for use in self.budget if use.name == name)

    def document(self) -> dict[str, Any]:
        """Returns it as plain values for JSON; NaN and infinities are None."""
        return finite(dataclasses.asdict(self))


def take(state: SweepState, limits: Limits, *, now: float, storage: str = "", condition: Condition) -> Snapshot:
    """Returns the sweep as it is now.

    Args:
        state: of the sweep.
        limits: of the sweep.
        now: seconds since 1970, by the clock of the ledger's `time`.
        storage: where it lies.
        condition: whether it runs.
    """
    alive = condition == "running"
    epochs_per_s = _rate(state.recent_results, state, now) if alive else 0.0
    ends_per_s = _rate(state.recent_ends, state, now) if alive else 0.0
    running = tuple(_view(state, trial, limits, now, alive=alive) for trial in state.running)
    top = tuple(_view(state, trial, limits, now, alive=alive) for trial in state.ranked(NUM_TOP))
    budget = _budget(state, limits, now=now if alive else None)
    left_s, how = _time_left(state, limits, budget, epochs_per_s) if alive else (None, "it does not run")
    return Snapshot(
        name=state.schema.sweep,
        storage=storage,
        condition=condition,
        now=now,
        elapsed_s=state.elapsed_s(now if alive else None),
        objectives=tuple((name, goal) for name, goal in state.schema.objectives),
        counts={**state.counts()},
        running=running,
        best=top[0] if top else None,
        top=top,
        budget=budget,
        trials_per_min=60 * ends_per_s,
        epochs_per_s=epochs_per_s,
        time_left_s=left_s,
        time_left_how=how,
        failures=_failures(state),
        stopped=_stopped(state),
        endings=_endings(state, limits),
        num_finals=len(state.finals),
        sessions=len(state.sessions),
    )


def ending_text(state: SweepState, trial: TrialState, epochs: int | None = None) -> str:
    """Returns how a trial ended, as a sentence.

    Args:
        state: of the sweep.
        trial: one that has ended.
        epochs: as many as a trial may train; None if unknown.
    """
    best = state.best(trial.trial)
    at = f"epoch {trial.epoch}" + (f" of {epochs}" if epochs else "")
    score = "" if best is None else f", {state.objective} {best.metrics[state.objective]:.5g} at epoch {best.epoch}"
    if trial.state == "completed":
        return f"trial {trial.trial} completed after {at}{score}"
    reason = trial.reason or trial.reason_kind.replace("_", " ")
    kind = f" ({trial.reason_kind})" if trial.reason_kind and trial.state == "failed" else ""
    return f"trial {trial.trial} {trial.state}{kind} after {at}{score}" + (f": {reason}" if reason else "")


def _view(state: SweepState, trial: TrialState, limits: Limits, now: float, *, alive: bool) -> TrialView:
    curve = [row.metrics.get(state.objective, math.nan) for _, row in sorted(trial.epochs.items())]
    last = trial.last_attempt
    quiet_s = None
    if alive and trial.state == "running":
        signs = [time for time in (trial.last_result, last.started if last else None) if time is not None]
        quiet_s = max(0.0, now - max(signs)) if signs else None
    return TrialView(
        trial=trial.trial,
        state=trial.state,
        attempt=trial.attempt,
        epoch=trial.epoch,
        epochs=limits.epochs,
        best_epoch=trial.best_epoch,
        value=state.best_value(trial.trial),
        last_value=curve[-1] if curve else None,
        curve=tuple(curve),
        values=dict(trial.values),
        objectives=() if trial.best_epoch is None else state.results(trial.trial, trial.best_epoch),
        node=last.node if last else "",
        quiet_s=quiet_s,
        origin=trial.origin,
    )


def _budget(state: SweepState, limits: Limits, *, now: float | None) -> tuple[Use, ...]:
    gpu_s, priced_s = state.gpu_s, state.priced_s
    for trial in state.running:
        attempt = trial.last_attempt
        if attempt is None:
            continue
        started = attempt.started
        held_s = held(trial, attempt) if now is None or started is None else max(0.0, now - started)
        gpu_s += attempt.gpus * held_s
        priced_s += priced(attempt) * held_s
    return (
        Use(name="trials", used=len(state.trials), limit=limits.trials),
        Use(name="epochs", used=state.num_results, limit=None),
        Use(name="wall_time_s", used=state.elapsed_s(now), limit=limits.wall_time_s),
        Use(name="gpu_hours", used=gpu_s / 3600, limit=limits.gpu_hours),
        Use(name="money", used=priced_s / 3600 * (limits.price_per_hour or 0.0), limit=limits.money),
    )


def _rate(times: Sequence[float], state: SweepState, now: float) -> float:
    """Returns events a second over the last minutes, or since the session's start if that was later."""
    start = max(now - RATE_WINDOW_S, state.spans.get(state.session, (now,))[0])
    ordered = list(times)
    since = ordered[bisect.bisect_left(ordered, start) :]
    if len(since) == len(ordered) and len(ordered) == getattr(times, "maxlen", None):
        start = ordered[0]  # more than are remembered
    return len(since) / max(now - start, 1.0) if since else 0.0


def _time_left(
    state: SweepState, limits: Limits, budget: Sequence[Use], epochs_per_s: float
) -> tuple[float | None, str]:
    """Returns the shortest of what the budgets leave, and how it was found; without the final job."""
    found: list[tuple[float, str]] = []
    for use in budget:
        if use.limit is None or use.name in ("trials", "epochs"):
            continue
        left = max(0.0, use.limit - use.used)
        if use.name == "wall_time_s":
            found.append((left, "until the wall time is used up"))
            continue
        running = [trial.last_attempt for trial in state.running]
        an_hour = sum(attempt.gpus for attempt in running if attempt)
        if use.name == "money":
            an_hour = sum(priced(attempt) for attempt in running if attempt) * (limits.price_per_hour or 0.0)
        if an_hour > 0:
            words = "money" if use.name == "money" else "GPU-hours"
            found.append((left / an_hour * 3600, f"until the {words} are used up, at {an_hour:.3g} an hour"))
    if limits.trials is not None and epochs_per_s > 0:
        epochs, a_trial = _epochs_to_come(state, limits)
        if epochs is not None:
            to_come = max(0, limits.trials - state.num_ended)
            found.append(
                (
                    epochs / epochs_per_s,
                    f"{to_come} trials to come or running, {a_trial:.3g} epochs each, {epochs_per_s:.3g} epochs/s",
                )
            )
    return min(found, default=(None, "too few results yet" if limits.trials else "no limit is set"))


def _epochs_to_come(state: SweepState, limits: Limits) -> tuple[float | None, float]:
    """Returns how many epochs the trials that have not ended will train, and the mean of a trial.

    A trial is taken to be like those that have ended: one that has come to epoch e trains on as those did that came
    further than e. Before a few have ended, a trial is taken to train all its epochs.
    """
    lengths = Counter(next(reversed(state.trials[n].epochs), 0) for n in state.numbers("completed", "stopped"))
    if lengths.total() < JUDGEABLE:
        if limits.epochs is None:
            return None, math.nan
        lengths = Counter([limits.epochs])
    ascending = sorted(lengths)
    # For each length, and for one beyond: how many are as long or longer, and their sum.
    nums, sums = [0], [0.0]
    for length in reversed(ascending):
        nums.append(nums[-1] + lengths[length])
        sums.append(sums[-1] + lengths[length] * length)

    def rest(done: int) -> float:
        longer = len(ascending) - bisect.bisect_right(ascending, done)
        if longer:
            return sums[longer] / nums[longer] - done
        return max(0.0, (limits.epochs or done) - done)

    new = max(0, (limits.trials or 0) - len(state.trials))
    return new * rest(0) + sum(rest(trial.epoch) for trial in state.unfinished), rest(0)


def _failures(state: SweepState) -> tuple[Failure, ...]:
    attempts: dict[str, int] = {}
    trials: dict[str, int] = {}
    last: dict[str, tuple[float, int, str]] = {}
    for trial in map(state.trials.__getitem__, sorted(state.troubled)):
        if trial.state == "failed":
            trials[trial.reason_kind] = trials.get(trial.reason_kind, 0) + 1
            last[trial.reason_kind] = max(
                last.get(trial.reason_kind, (-1.0, 0, "")), (trial.ended or 0.0, trial.trial, trial.reason)
            )
        for attempt in trial.attempts.values():
            if attempt.outcome in ("failed", "lost"):
                kind = attempt.reason_kind
                attempts[kind] = attempts.get(kind, 0) + 1
                last[kind] = max(last.get(kind, (-1.0, 0, "")), (attempt.ended or 0.0, trial.trial, attempt.reason))
    kinds = sorted(last, key=lambda kind: (-trials.get(kind, 0), -attempts.get(kind, 0), kind))
    return tuple(
        Failure(
            kind=kind,
            attempts=attempts.get(kind, 0),
            trials=trials.get(kind, 0),
            trial=last[kind][1],
            message=last[kind][2],
            time=last[kind][0] or None,
        )
        for kind in kinds
    )


def _stopped(state: SweepState) -> dict[str, int]:
    return dict(sorted(Counter(state.trials[n].reason_kind for n in state.numbers("stopped")).items()))


def _endings(state: SweepState, limits: Limits) -> tuple[Ending, ...]:
    lately = [state.trials[number] for number in set(state.recently_ended)]
    ended = ((trial.ended or 0.0, trial.trial) for trial in lately if trial.state in ENDED)
    latest = [state.trials[number] for _, number in heapq.nlargest(NUM_RECENT, ended)]
    return tuple(
        Ending(
            time=trial.ended or 0.0,
            trial=trial.trial,
            state=trial.state,
            text=ending_text(state, trial, limits.epochs),
        )
        for trial in latest
    )
