"""What went wrong in a sweep: how often, why, and whether failures share a value of a parameter."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from results.filters import Condition, rows_where
from results.opening import Results
from results.schema import CONFIG

_LEAST = 3
"""Fewer failures say nothing about what they share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """One kind of failure.

    Attributes:
        kind: the reason's kind, such as `non_finite` or `worker_died`.
        num_trials: trials that ended so.
        num_attempts: attempts that ended so, also those after which the trial was tried again.
        own_fault: attempts among them for which the trial is to blame.
        lost_s: seconds on workers that these attempts took.
        trials: ids of the trials that ended so, `sweep/number`.
        reason: the most frequent one.
        detail: the last traceback; "" if there is none.
        shared: the parameter's value that stands out among them, `model.family=transformer: 8 of 9, elsewhere 2 of 10`;
            "" if none does.
    """

    kind: str
    num_trials: int
    num_attempts: int
    own_fault: int
    lost_s: float
    trials: tuple[str, ...]
    reason: str
    detail: str
    shared: str


def failures(results: Results, where: Sequence[Condition] = ()) -> list[Failure]:
    """Returns the kinds of failures, the one that ended most trials first; empty if nothing failed.

    Args:
        results: the sweeps.
        where: conditions on trials.

    Raises:
        QueryError: an unknown column or an impossible value in a condition.
    """
    names = ["sweep", "trial", "attempt", "outcome", "reason_kind", "reason", "detail", "own_fault", "wall_s"]
    tables = results.tables({"trials": None, "attempt_ends": names})
    trials = rows_where(tables["trials"], where).to_pylist()
    kept = {(row["sweep"], row["trial"]) for row in trials}
    attempts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in tables["attempt_ends"].to_pylist():
        if row["outcome"] in {"failed", "lost"} and (row["sweep"], row["trial"]) in kept:
            attempts[row["reason_kind"] or "unknown"].append(row)
    failed: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in trials:
        if row["state"] == "failed":
            failed[row["reason_kind"] or "unknown"].append(row)
    found = [_failure(kind, failed[kind], attempts[kind], trials) for kind in failed.keys() | attempts.keys()]
    return sorted(found, key=lambda each: (-each.num_trials, -each.num_attempts, each.kind))


def _failure(
    kind: str,
    failed: Sequence[Mapping[str, Any]],
    attempts: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
) -> Failure:
    rows = [*failed, *attempts]
    reasons = Counter(row["reason"] for row in rows if row["reason"])
    return Failure(
        kind=kind,
        num_trials=len(failed),
        num_attempts=len(attempts),
        own_fault=sum(bool(row["own_fault"]) for row in attempts),
        lost_s=sum(row["wall_s"] or 0.0 for row in attempts),
        trials=tuple(f"{row['sweep']}/{row['trial']}" for row in failed),
        reason=reasons.most_common(1)[0][0] if reasons else "",
        detail=next((row["detail"] for row in reversed(rows) if row["detail"]), ""),
        shared=_shared(failed, trials),
    )


def _shared(failed: Sequence[Mapping[str, Any]], trials: Sequence[Mapping[str, Any]]) -> str:
    """Returns the parameter's value whose trials failed most above the rest, if at least half of them did."""
    if len(failed) < _LEAST:
        return ""
    best, words = 0.0, ""
    keys = {(row["sweep"], row["trial"]) for row in failed}
    for name in [name for name in trials[0] if name.startswith(CONFIG)]:
        for value, bad in Counter(row[name] for row in failed if row[name] is not None).items():
            if isinstance(value, float) or bad < _LEAST:
                continue  # a float is hardly met twice
            having = sum(row[name] == value for row in trials)
            others = len(trials) - having
            bad_others = sum((row["sweep"], row["trial"]) in keys for row in trials if row[name] != value)
            if not others:
                continue
            gap = bad / having - bad_others / others
            if gap > max(best, 0.5):
                best = gap
                words = f"{name.removeprefix(CONFIG)}={value}: {bad} of {having}, otherwise {bad_others} of {others}"
    return words
