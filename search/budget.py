"""What a sweep may use up, and how much of it is used: over all its sessions, without the time between them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from search.attempts import Attempt
from search.spec import SweepSpec
from search.state import SweepState


class Budget:
    """A sweep's budgets."""

    def __init__(
        self,
        spec: SweepSpec,
        state: SweepState,
        running: Mapping[int, Attempt],
        clock: Callable[[], float],
    ):
        """Takes what it is reckoned from.

        Args:
            spec: has the limits.
            state: has what ended attempts used.
            running: the attempts that are out, as they are at any time.
            clock: UTC seconds.
        """
        self._spec, self._state, self._running, self._clock = spec, state, running, clock
        self._spans: dict[int, tuple[float, float]] = {}
        self._began = clock()

    def begin(self) -> None:
        """Begins to count this session's time; those before it have been told to `count`."""
        self._began = self._clock()

    def count(self, row: Mapping[str, Any]) -> None:
        """Takes in when an event of a former session happened."""
        at = row.get("time")
        if at is None:
            return
        seconds = at.timestamp() if hasattr(at, "timestamp") else float(at)
        first, last = self._spans.get(row["session"], (seconds, seconds))
        self._spans[row["session"]] = (min(first, seconds), max(last, seconds))

    def spent(self) -> str | None:
        """Returns which budget is used up, in words, or None. The number of trials is not looked at."""
        for name, limit, used in (
            ("wall time (s)", self._spec.wall_time_s, self.wall_time_s),
            ("GPU hours", self._spec.gpu_hours, self.gpu_hours),
            ("money", self._spec.money, self.money),
        ):
            if limit is not None and (so_far := used()) >= limit:
                return f"the budget is used up: {name} {so_far:.4g} of {limit:.4g}"
        return None

    def wall_time_s(self) -> float:
        """Returns how long the sweep has run."""
        return sum(last - first for first, last in self._spans.values()) + self._clock() - self._began

    def gpu_hours(self) -> float:
        """Returns how many hours of GPUs its trials have held."""
        now = self._clock()
        return (self._state.gpu_s + sum(a.gpus * max(0.0, now - a.handed_out) for a in self._running.values())) / 3600

    def money(self) -> float:
        """Returns what its trials have cost: GPU hours times the price, or core hours where they use no GPU."""
        hours = self.gpu_hours() if self._spec.resources.gpus else self._core_hours()
        return hours * (self._spec.price_per_hour or 0.0)

    def _core_hours(self) -> float:
        now = self._clock()
        ended = sum(
            attempt.cpus * attempt.wall_s
            for trial in self._state.trials.values()
            for attempt in trial.attempts.values()
            if math.isfinite(attempt.wall_s)
        )
        return (ended + sum(a.cpus * max(0.0, now - a.handed_out) for a in self._running.values())) / 3600
