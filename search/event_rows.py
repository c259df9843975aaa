"""The ledger's rows of what happens to trials, made from what is known when it happens."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from search.attempts import Attempt, Progress
from search.checkpoints import folder_of
from search.scheduler import Decision
from search.state import CONFIG, DecisionRow, SweepState, TrialState

_DECISION = ("trial", "epoch", "bracket", "rung", "value", "cutoff", "num_values", "verdict", "audited")


def of_proposal(trial: int, values: Mapping[str, Any], *, origin: str, seed: int, bracket: int) -> dict[str, Any]:
    """Returns the row of `proposals`."""
    return {"trial": trial, "origin": origin, "seed": seed, "bracket": bracket, **_config(values)}


def of_attempt(attempt: Attempt) -> dict[str, Any]:
    """Returns the row of `attempts`."""
    names = ("trial", "attempt", "cause", "cpus", "gpus")
    return {name: getattr(attempt, name) for name in names}


def of_attempt_end(
    trial: TrialState, progress: Progress, *, fault: bool, held_s: float | None, wait_s: float | None
) -> dict[str, Any]:
    """Returns the row of `attempt_ends`.

    Args:
        trial: as it stands.
        progress: how the attempt ended, and what its worker told of it.
        fault: whether it counts against the trial's retries.
        held_s: how long a worker had it, by the driver's clock; None if nobody knows. The worker knows better.
        wait_s: how long it was out before that, by the driver's clock; None if nobody knows.
    """
    return {
        "trial": trial.trial,
        "attempt": trial.attempt,
        "outcome": progress.outcome,
        "reason_kind": progress.reason_kind,
        "reason": progress.reason,
        "detail": progress.detail,
        "own_fault": fault,
        "to_epoch": trial.epoch,
        "wall_s": held_s,
        "wait_s": wait_s,
        **progress.facts,
    }


def of_epoch(attempt: Attempt, told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the row of `epochs` for one of `Progress.epochs`."""
    return {
        "trial": attempt.trial,
        "attempt": attempt.attempt,
        "epoch": told["epoch"],
        "duration_s": told["duration_s"],
        "ended": _time(told["ended"]),
        **told["metrics"],
    }


def of_decision(decision: Decision, attempt: int) -> dict[str, Any]:
    """Returns the row of `decisions`."""
    return {name: getattr(decision, name) for name in _DECISION} | {"attempt": attempt}


def decision_of(row: Mapping[str, Any]) -> Decision:
    """Returns the decision that a row of `decisions` holds."""
    return Decision(**{name: row[name] for name in _DECISION})


def of_trial(
    state: SweepState, trial: TrialState, ending: str, kind: str, reason: str, detail: str, *, now: float
) -> dict[str, Any]:
    """Returns the row of `trials`.

    Args:
        state: of the sweep.
        trial: as it stands.
        ending: its state from now on.
        kind: word for the reason, or "".
        reason: in a sentence, or "".
        detail: a traceback, or "".
        now: UTC seconds.
    """
    best = state.best(trial.trial)
    return {
        "trial": trial.trial,
        "state": ending,
        "reason_kind": kind,
        "reason": reason,
        "detail": detail,
        "origin": trial.origin,
        "seed": trial.seed,
        "bracket": trial.bracket,
        "attempts": trial.attempt,
        "epochs": trial.epoch,
        "best_epoch": trial.best_epoch,
        "train_s": sum(row.duration_s for row in trial.epochs.values()),
        "wall_s": sum(attempt.wall_s for attempt in trial.attempts.values() if math.isfinite(attempt.wall_s)),
        "gpu_s": trial.gpu_s,
        "checkpoint": folder_of(trial.trial),
        "started": None if trial.started is None else _time(trial.started),
        "ended": _time(now),
        **({} if best is None else best.metrics),
        **_config(trial.values),
    }


def why_stopped(decision: Decision | DecisionRow) -> str:
    """Returns a verdict's reason as a sentence."""
    if decision.cutoff is None:
        return f"epoch {decision.epoch}: {decision.value:.6g} is no value to go on with"
    return (
        f"epoch {decision.epoch}: {decision.value:.6g} is worse than the cutoff {decision.cutoff:.6g} "
        f"of {decision.num_values} at rung {decision.rung}"
    )


def _config(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{CONFIG}{name}": value for name, value in values.items()}


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
