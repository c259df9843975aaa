"""What a sweep may use up, and how much of it is used: over all its sessions, without the time between them."""

from collections.abc import Callable, Mapping

from search.attempts import Attempt
from search.shares import priced
from search.spec import SweepSpec
from search.state import SweepState


class Budget:
    """A sweep's budgets."""

    def __init__(
        self,
        spec: SweepSpec,
        state: SweepState,
        running: Mapping[int, Attempt],
        begun: Mapping[int, float],
        clock: Callable[[], float],
    ):
        """Takes what it is reckoned from.

        Args:
            spec: has the limits.
            state: has what ended attempts used.
            running: the attempts that are out, as they are at any time.
            begun: since when workers have those that they have begun, by trial. One that waits for room holds nothing.
            clock: UTC seconds.
        """
        self._spec, self._state, self._running, self._begun, self._clock = spec, state, running, begun, clock
        self._earlier_s, self._opened = 0.0, clock()

    def begin(self) -> None:
        """Begins to count this session's time; the state has all events of those before it."""
        self._earlier_s = sum(last - first for first, last in self._state.spans.values())
        self._opened = self._clock()

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
        return (self._state.gpu_s + self._held(lambda attempt: attempt.gpus)) / 3600

    def money(self) -> float:
        """Returns what its trials have cost: hours of what is priced, times the price."""
        return (self._state.priced_s + self._held(priced)) / 3600 * (self._spec.price_per_hour or 0.0)

    def _held(self, share: Callable[[Attempt], float]) -> float:
        now = self._clock()
        return sum(share(self._running[trial]) * max(0.0, now - since) for trial, since in self._begun.items())
