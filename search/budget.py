"""What a sweep may use up, and how much of it is used: over all its sessions, without the time between them."""

from collections.abc import Callable

from search.attempts import Attempt
from search.shares import priced
from search.spec import SweepSpec
from search.state import SweepState


class Budget:
    """A sweep's budgets.

    It is asked with each result, so what it takes to answer does not grow with the number of workers.

    Attributes:
        since: since when workers hold the attempts that they have begun (UTC seconds), by trial. One that waits for
            room holds nothing.
    """

    def __init__(self, spec: SweepSpec, state: SweepState, clock: Callable[[], float]):
        """Takes what it is reckoned from.

        Args:
            spec: has the limits.
            state: has what ended attempts used.
            clock: UTC seconds.
        """
        self._spec, self._state, self._clock = spec, state, clock
        self._earlier_s, self._opened = 0.0, clock()
        self.since: dict[int, float] = {}
        self._gpus, self._priced = _Held(), _Held()

    def begin(self) -> None:
        """Begins to count this session's time; the state has all events of those before it."""
        self._earlier_s = sum(last - first for first, last in self._state.spans.values())
        self._opened = self._clock()

    def take(self, attempt: Attempt, since: float) -> None:
        """Takes in that a worker holds an attempt since then (UTC seconds)."""
        self.since[attempt.trial] = since
        self._gpus.add(attempt.gpus, since - self._opened)
        self._priced.add(priced(attempt), since - self._opened)

    def give_back(self, attempt: Attempt) -> float:
        """Takes in that a worker has let go of an attempt; returns since when it held it (UTC seconds)."""
        since = self.since.pop(attempt.trial)
        self._gpus.add(-attempt.gpus, since - self._opened)
        self._priced.add(-priced(attempt), since - self._opened)
        return since

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
        return self._earlier_s + self._clock() - self._opened

    def gpu_hours(self) -> float:
        """Returns how many hours of GPUs its trials have held."""
        return (self._state.gpu_s + self._gpus.used(self._clock() - self._opened)) / 3600

    def money(self) -> float:
        """Returns what its trials have cost: hours of what is priced, times the price."""
        return (
            (self._state.priced_s + self._priced.used(self._clock() - self._opened))
            / 3600
            * (self._spec.price_per_hour or 0.0)
        )


class _Held:
    """Shares that are held from different times on, summed up."""

    def __init__(self):
        self._share = self._share_times_since = 0.0

    def add(self, share: float, since: float) -> None:
        self._share += share
        self._share_times_since += share * since

    def used(self, now: float) -> float:
        """Returns the sum of each share times the time for which it has been held."""
        return max(0.0, self._share * now - self._share_times_since)
