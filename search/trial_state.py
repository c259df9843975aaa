"""What is known of one trial: its attempts, its epochs, what the scheduler said of it, and how it ended."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

State = Literal["proposed", "running", "paused", "completed", "stopped", "failed", "unfinished"]

STATES: tuple[State, ...] = ("proposed", "running", "paused", "completed", "stopped", "failed", "unfinished")
"""All states of a trial. Proposed: waits for its first attempt, or for another after one that was lost or failed."""
ENDED: frozenset[str] = frozenset({"completed", "stopped", "failed"})
"""States after which a trial gets no further attempt, unless the sweep is extended."""


class EpochRow(NamedTuple):
    """One epoch's results.

    Attributes:
        epoch: from 1.
        attempt: the attempt that trained it.
        metrics: by plain name; may be NaN or infinite.
        duration_s: how long it took; NaN if unknown.
        ended: when, by the worker's clock, in seconds since 1970; None if unknown.
        time: when the driver wrote it down, in seconds since 1970; None if unknown.
    """

    epoch: int
    attempt: int
    metrics: Mapping[str, float]
    duration_s: float
    ended: float | None
    time: float | None


class DecisionRow(NamedTuple):
    """What the scheduler said at one epoch of a trial.

    Attributes:
        attempt: the attempt that had reported.
        value: what was compared, lower is better.
        cutoff: what it was compared with; None if there was nothing yet.
        num_values: how many values the cutoff was made of.
        verdict: continue, stop, pause or promote.
        audited: the trial would have been stopped and runs on to see whether that had been right.
    """

    epoch: int
    attempt: int
    bracket: int
    rung: int
    value: float
    cutoff: float | None
    num_values: int
    verdict: str
    audited: bool


@dataclasses.dataclass(kw_only=True, slots=True)
class AttemptState:
    """One attempt of a trial.

    Attributes:
        cause: first, resumed, lost, out_of_memory, promoted, extended or failed.
        started: seconds since 1970; None if unknown.
        outcome: completed, stopped, paused, failed or lost; "" while it runs.
        own_fault: whether a failure counts against the trial's retries.
        node: where it ran; "" until it ended.
        from_epoch: the epoch of the checkpoint it began with; 0 is the start; None until it ended.
        wall_s: how long it held its resources; NaN until it ended, and if it was lost with its driver.
    """

    attempt: int
    cause: str = ""
    cpus: float = 0.0
    gpus: float = 0.0
    started: float | None = None
    ended: float | None = None
    outcome: str = ""
    reason_kind: str = ""
    reason: str = ""
    own_fault: bool = False
    node: str = ""
    pid: int | None = None
    from_epoch: int | None = None
    to_epoch: int | None = None
    wall_s: float = math.nan
    peak_memory_mb: float = math.nan


@dataclasses.dataclass(kw_only=True, slots=True)
class TrialState:
    """One trial.

    Attributes:
        values: its configuration, without parameters that are not active.
        origin: searcher, point or point:<name>.
        state: one of `STATES`.
        attempt: the number of the last attempt; 0 before the first.
        attempts: all of them by number, in order.
        epochs: by number, in order; what the last attempt has trained and what of the earlier ones it went on from.
        best_epoch: the epoch of the best finite value of the first objective, the first of equals; None without one.
        reason_kind: why it was stopped or failed; "" otherwise.
        detail: a failure's traceback.
        checkpoint: where the best epoch's is; "" without.
        started: when its first attempt started, in seconds since 1970; None before that.
        ended: when it ended; None while it has not.
        decisions: by epoch; the last one taken there.
        last_result: when its last epoch was written down; None before the first.
        gpu_s: seconds times GPUs that its ended attempts held.
    """

    trial: int
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: str = ""
    seed: int = 0
    bracket: int = 0
    state: State = "proposed"
    attempt: int = 0
    attempts: dict[int, AttemptState] = dataclasses.field(default_factory=dict)
    epochs: dict[int, EpochRow] = dataclasses.field(default_factory=dict)
    best_epoch: int | None = None
    reason_kind: str = ""
    reason: str = ""
    detail: str = ""
    checkpoint: str = ""
    proposed: float | None = None
    started: float | None = None
    ended: float | None = None
    decisions: dict[int, DecisionRow] = dataclasses.field(default_factory=dict)
    last_result: float | None = None
    gpu_s: float = 0.0

    @property
    def epoch(self) -> int:
        """The last epoch it has results of; 0 before the first."""
        return next(reversed(self.epochs), 0)

    @property
    def is_ended(self) -> bool:
        """Whether it gets no further attempt."""
        return self.state in ENDED

    @property
    def last_attempt(self) -> AttemptState | None:
        """The last attempt, running or ended; None before the first."""
        return self.attempts.get(self.attempt)

    @property
    def audited(self) -> bool:
        """Whether it runs on, or ran on, although the scheduler would have stopped it."""
        return any(decision.audited for decision in self.decisions.values())
