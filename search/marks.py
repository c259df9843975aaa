"""What makes an attempt findable in Ray's dashboard: its name in the log, as title of its process, and in the metrics.

A worker runs many attempts one after another, so Ray's own names say which process, but not which trial.
"""

import contextlib
import math
import sys
from typing import Any

from search.attempts import Attempt, Progress

GAUGES = {
    "search_worker_trial": "The trial that a worker runs; -1 between two.",
    "search_worker_value": "The first objective at the last epoch of the trial that a worker runs; NaN without.",
}
"""Gauges of each worker process; as many as there are workers, whatever the number of trials."""


def label(trial: int, attempt: int) -> str:
    """Returns the name of an attempt, as logs, process titles and Tune have it."""
    return f"trial-{trial:05d}-{attempt}"


class Marks:
    """Marks what a worker process is doing, for those who look at it from outside."""

    def __init__(self, storage: str):
        """Takes the URI of the sweep's folder, which has the sweep's name."""
        self._sweep = storage.partition("?")[0].rstrip("/").rpartition("/")[2]
        self._now: Attempt | None = None
        self._epoch = 0
        self._made: dict[str, Any] = {}

    def begin(self, attempt: Attempt) -> None:
        """An attempt begins; if another has not ended, the sweep has stopped it."""
        self.end()
        self._now, self._epoch = attempt, 0
        self._write("begins")
        self._set("search_worker_trial", attempt.trial)

    def step(self) -> None:
        """Gives the process its title; Ray takes it away after each of the actor's tasks."""
        with contextlib.suppress(ImportError, AttributeError):
            from ray._raylet import setproctitle  # pyright: ignore[reportAttributeAccessIssue]

            setproctitle(f"ray::{self._name}")

    def told(self, progress: Progress) -> None:
        """Takes in what the attempt has come to."""
        if self._now is not None and progress.epochs:
            last = progress.epochs[-1]
            self._epoch = last["epoch"]
            self._set("search_worker_value", last["metrics"][self._now.objective])
        if progress.outcome is not None:
            self.end(progress.outcome)

    def end(self, outcome: str = "stopped") -> None:
        """The attempt is over; nothing happens if there is none."""
        if self._now is None:
            return
        self._write(f"ends: {outcome} after epoch {self._epoch}")
        self._set("search_worker_trial", -1)
        self._set("search_worker_value", math.nan)
        self._now = None

    @property
    def _name(self) -> str:
        return f"{label(self._now.trial, self._now.attempt)} of {self._sweep}" if self._now else "no trial"

    def _write(self, what: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a log that is gone is no trial's fault
            sys.stdout.write(f"{self._name} {what}\n")
            sys.stdout.flush()

    def _set(self, name: str, value: float) -> None:
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        if name not in self._made:
            from ray.util.metrics import Gauge

            self._made[name] = Gauge(name, description=GAUGES[name], tag_keys=("sweep",))
        self._made[name].set(float(value), tags={"sweep": self._sweep})
