"""Learning curves that a sweep has recorded, taken from its ledger."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from results.ledger import Ledger, Look
from results.schema import CONFIG, Goal
from search.errors import SweepError
from search.simulation import Curve

State = Literal["completed", "stopped", "failed", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is recorded of one trial.

    Attributes:
        trial: its number.
        state: how it ended; a trial that has not ended is unfinished.
        reason_kind: why, as the table `trials` says.
        reason: in words.
        values: its configuration, without what was inactive.
        curve: losses of the first objective and seconds of each epoch, in full or as far as it went.
    """

    trial: int
    state: State
    reason_kind: str
    reason: str
    values: Mapping[str, Any]
    curve: Curve

    @property
    def best(self) -> float:
        """The best loss of all its epochs, infinite if there is none that is finite."""
        return min((loss for loss in self.curve.losses if math.isfinite(loss)), default=math.inf)


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """All recorded curves of a sweep.

    Attributes:
        sweep: its name.
        metric: the first objective.
        goal: what is better; where it is `max`, losses are negated values.
        trials: in the order of their numbers.
        num_epochs: that were trained, those that a later attempt did again among them.
        first_rung: the earliest epoch that a trial was judged after; None if none was.
    """

    sweep: str
    metric: str
    goal: Goal
    trials: tuple[Recording, ...]
    num_epochs: int
    first_rung: int | None

    @cached_property
    def max_epochs(self) -> int:
        """The most epochs that a trial has, 0 if there is none."""
        return max((len(recording.curve.losses) for recording in self.trials), default=0)

    @property
    def best(self) -> float:
        """The best loss of all."""
        return min((recording.best for recording in self.trials), default=math.inf)

    @property
    def train_s(self) -> float:
        """Seconds in epochs that count, without those that were done again."""
        return math.fsum(r.curve.cost(e) for r in self.trials for e in range(1, len(r.curve.losses) + 1))

    def shown(self, loss: float) -> float:
        """Returns a loss as a value of the metric."""
        return -loss if self.goal == "max" else loss


def read(ledger: Ledger) -> Recordings:
    """Returns the curves that a ledger has.

    An epoch without a number for the objective has NaN. A curve ends before the first epoch that is missing.

    Raises:
        SweepError: the sweep has no objective, or no epoch was recorded.
        LedgerError: there is no ledger.
    """
    return ledger.at_once(_read)


def _read(look: Look) -> Recordings:
    schema = look.schema
    if not schema.objectives:
        raise SweepError(f"sweep {schema.sweep!r} has no objective, so there are no curves to look at")
    metric, goal = schema.objectives[0]
    sign = -1.0 if goal == "max" else 1.0
    rows: dict[int, dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in look.table("epochs", ["trial", "epoch", "duration_s", metric]).to_pylist():
        value, seconds = row[metric], row["duration_s"]
        rows[row["trial"]][row["epoch"]] = (
            math.nan if value is None else sign * value,
            seconds if seconds is not None and 0 <= seconds < math.inf else 0.0,
        )
    if not rows:
        raise SweepError(f"sweep {schema.sweep!r} has no recorded epochs yet; let it run for a while")
    ends = {row["trial"]: row for row in look.table("trials", ["trial", "state", "reason_kind", "reason"]).to_pylist()}
    judged = [row["epoch"] for row in look.table("decisions", ["epoch"]).to_pylist()]
    return Recordings(
        sweep=schema.sweep,
        metric=metric,
        goal=goal,
        trials=tuple(
            _recording(row, rows[row["trial"]], ends.get(row["trial"], {}))
            for row in sorted(look.table("proposals").to_pylist(), key=lambda row: row["trial"])
        ),
        num_epochs=look.raw("epochs", ["trial"]).num_rows,
        first_rung=min(judged, default=None),
    )


def _recording(
    proposal: Mapping[str, Any], epochs: Mapping[int, tuple[float, float]], end: Mapping[str, Any]
) -> Recording:
    known: list[tuple[float, float]] = []
    while (row := epochs.get(len(known) + 1)) is not None:
        known.append(row)
    state = end.get("state") or "unfinished"
    return Recording(
        trial=proposal["trial"],
        state=state,
        reason_kind=end.get("reason_kind") or "",
        reason=end.get("reason") or "",
        values={
            name.removeprefix(CONFIG): value
            for name, value in proposal.items()
            if name.startswith(CONFIG) and value is not None
        },
        curve=Curve(
            losses=tuple(loss for loss, _ in known),
            costs=tuple(seconds for _, seconds in known),
            failed=state == "failed",
        ),
    )
