"""What passes between the sweep and a worker: one attempt at a trial there, what became of its epochs back.

Both are plain documents (numbers, strings, lists, dictionaries), for they travel through Ray Tune.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Outcome = Literal["completed", "stopped", "paused", "failed", "lost"]
"""How an attempt ends: `stopped` by the scheduler or a budget, `paused` to go on later, `lost` with its worker."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a trial: all that a worker needs to know.

    Attributes:
        trial: its number.
        attempt: counts from 1.
        cause: why there is this attempt: `first`, `resumed`, `lost`, `out_of_memory`, `promoted`, `extended`, `failed`.
        values: the configuration.
        seed: of everything that the trial draws.
        epochs: how far the trial goes at most.
        milestones: epochs after which the worker asks before it goes on.
        known_epoch: the last epoch that the ledger has of this trial, 0 for none.
        objective: the metric that decides, and must be finite.
        minimize: whether less of it is better.
        time_limit_s: of the attempt; None for none.
        checkpoint_s: an epoch's state is written if this much time has passed since the last was.
        cpus: cores.
        gpus: GPUs, fractions too.
        handed_out: UTC seconds, by the driver's clock.
        keeps_milestones: whether the state after a milestone is written: the trial may wait there and go on elsewhere.
    """

    trial: int
    attempt: int
    cause: str
    values: Mapping[str, Any]
    seed: int
    epochs: int
    milestones: tuple[int, ...]
    known_epoch: int
    objective: str
    minimize: bool
    time_limit_s: float | None
    checkpoint_s: float
    cpus: float
    gpus: float
    handed_out: float
    keeps_milestones: bool = False

    def document(self) -> dict[str, Any]:
        """Returns the attempt as a plain document."""
        return dataclasses.asdict(self) | {"values": dict(self.values), "milestones": list(self.milestones)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Attempt":
        """Returns the attempt that a document stands for."""
        return cls(**{**document, "milestones": tuple(document["milestones"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """What a worker has to tell.

    Attributes:
        epochs: one mapping an epoch: `epoch`, `duration_s`, `ended` (UTC seconds by the worker's clock), `metrics`.
        outcome: None if the worker would go on.
        reason_kind: see `results.schema`; "" without a reason.
        reason: a sentence.
        detail: a traceback, or "".
        facts: of the attempt so far: `node`, `pid`, `from_epoch`, `start_s`, `train_s`, `wall_s`, `peak_memory_mb`.
        recycle: the process has grown beyond its limit and is not to be used again.
    """

    epochs: tuple[Mapping[str, Any], ...] = ()
    outcome: Outcome | None = None
    reason_kind: str = ""
    reason: str = ""
    detail: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recycle: bool = False

    def document(self) -> dict[str, Any]:
        """Returns this as a plain document."""
        return dataclasses.asdict(self) | {"epochs": [dict(epoch) for epoch in self.epochs]}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Progress":
        """Returns what a document stands for."""
        return cls(**{**document, "epochs": tuple(document["epochs"])})
