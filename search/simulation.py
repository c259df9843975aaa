"""A sweep in virtual time: any scheduler and any proposals over known learning curves, without training.

Workers, epochs and costs behave as in a real sweep with trials that take as long as their curves say; nothing is
random, so the same input gives the same outcome.
"""

import bisect
import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from search.scheduler import Decision, Scheduler

State = Literal["completed", "stopped", "failed", "censored", "unfinished"]
"""Censored: the scheduler wanted to see more of a curve than is known. Unfinished: cut off by the budget."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What a trial would do if it were run.

    Attributes:
        losses: after epoch 1, 2, …; lower is better.
        costs: of each of these epochs, in seconds or any other unit; a single number is the same for all.
        failed: whether the trial fails after the last of them. Otherwise what comes after it is unknown.
    """

    losses: tuple[float, ...]
    costs: tuple[float, ...] | float = 1.0
    failed: bool = False

    def __post_init__(self) -> None:
        """Refuses costs that are not one an epoch, or not from 0.

        Raises:
            ValueError: they are not.
        """
        if isinstance(self.costs, tuple) and len(self.costs) < len(self.losses):
            raise ValueError(f"costs: got {len(self.costs)}, expected one for each of {len(self.losses)} epochs")
        if any(not 0 <= self.cost(epoch) < math.inf for epoch in range(1, len(self.losses) + 1)):
            raise ValueError("costs: expected finite numbers from 0")

    def cost(self, epoch: int) -> float:
        """Returns the cost of an epoch, from 1."""
        return self.costs[epoch - 1] if isinstance(self.costs, tuple) else self.costs


@dataclass(kw_only=True)
class Run:
    """What became of one trial.

    Attributes:
        trial: its number, from 0 in the order of proposal.
        curve: what it would do.
        state: how it ended.
        epochs: so many were run.
        started: virtual time, in the unit of the costs.
        ended: virtual time.
        decisions: what the scheduler said, in order.
    """

    trial: int
    curve: Curve
    state: State = "unfinished"
    epochs: int = 0
    started: float
    ended: float = math.nan
    decisions: list[Decision] = field(default_factory=list)

    @property
    def seen(self) -> dict[int, float]:
        """The losses that were reported, by epoch."""
        return dict(enumerate(self.curve.losses[: self.epochs], start=1))

    @property
    def audited(self) -> bool:
        """Whether it went on only for the audit."""
        return any(decision.audited for decision in self.decisions)


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """A new best loss, and how much had been spent on it by all workers.

    Attributes:
        time: virtual time.
        cost: of all epochs that had ended.
        epochs: that had ended.
        trial: whose loss it is.
        epoch: after which epoch of the trial.
        loss: the new best.
    """

    time: float
    cost: float
    epochs: int
    trial: int
    epoch: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What happened.

    Attributes:
        runs: by trial.
        improvements: in order of time; their losses fall.
        time: when the last epoch ended.
        cost: of all epochs.
        epochs: of all trials.
    """

    runs: Mapping[int, Run]
    improvements: tuple[Improvement, ...]
    time: float
    cost: float
    epochs: int

    def best_at(self, cost: float) -> float:
        """Returns the best loss that was known when `cost` had been spent; infinite before the first."""
        known = bisect.bisect_right([step.cost for step in self.improvements], cost)
        return self.improvements[known - 1].loss if known else math.inf

    @property
    def best(self) -> float:
        """The best loss of all; infinite if there is none."""
        return self.improvements[-1].loss if self.improvements else math.inf


Propose = Callable[[int], Curve | None]
"""Gives the curve of the trial with this number; None: there is nothing more to try."""
Tell = Callable[[int, State, Mapping[int, float]], None]
"""Learns how a trial ended, and its losses by epoch as far as they were seen."""


def simulate(
    scheduler: Scheduler,
    propose: Propose,
    *,
    workers: int = 1,
    num_trials: int | None = None,
    max_cost: float = math.inf,
    tell: Tell | None = None,
) -> Simulation:
    """Runs a sweep in virtual time.

    A worker that is free takes a promoted trial if one waits, else a new one. What happens at the same moment happens
    in the order in which it was begun.

    Args:
        scheduler: a fresh one; its settings say how many epochs a trial has.
        propose: asked for trial 0, 1, 2, … whenever a worker is free for a new one.
        workers: trials at a time, from 1.
        num_trials: no more are proposed; None: as many as `propose` gives.
        max_cost: once so much is spent, no epoch begins.
        tell: called when a trial has ended for good.

    Raises:
        ValueError: `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers: got {workers}, expected a number from 1")
    return _Simulator(scheduler, propose, workers, num_trials, max_cost, tell).run()


class _Simulator:
    """One simulation while it runs."""

    def __init__(
        self,
        scheduler: Scheduler,
        propose: Propose,
        workers: int,
        num_trials: int | None,
        max_cost: float,
        tell: Tell | None,
    ):
        self._scheduler, self._propose, self._tell = scheduler, propose, tell
        self._workers, self._max_cost = workers, max_cost
        self._left = math.inf if num_trials is None else num_trials
        self._now, self._cost, self._epochs = 0.0, 0.0, 0
        self._runs: dict[int, Run] = {}
        self._steps: list[Improvement] = []
        self._busy: list[tuple[float, int, int]] = []  # when an epoch ends, which was begun first, trial
        self._begun = 0
        self._promoted: deque[int] = deque()

    def run(self) -> Simulation:
        """Goes on until nothing is left to do."""
        while self._fill():
            self._now, _, trial = heapq.heappop(self._busy)
            self._epoch_ends(self._runs[trial])
        for run in self._runs.values():
            if run.state == "unfinished" and math.isnan(run.ended):
                run.ended = self._now
        return Simulation(
            runs=self._runs,
            improvements=tuple(self._steps),
            time=self._now,
            cost=self._cost,
            epochs=self._epochs,
        )

    def _fill(self) -> bool:
        """Gives free workers something to do; returns whether anybody works."""
        while len(self._busy) < self._workers:
            if self._promoted:
                self._begin_epoch(self._runs[self._promoted.popleft()])
            elif self._left > 0 and self._cost < self._max_cost:
                self._start()
            elif self._busy or self._cost >= self._max_cost:
                break
            else:
                self._take(self._scheduler.close())
                if not self._promoted:
                    break
        return bool(self._busy)

    def _start(self) -> None:
        trial = len(self._runs)
        curve = self._propose(trial)
        if curve is None:
            self._left = 0
            return
        self._left -= 1
        self._runs[trial] = Run(trial=trial, curve=curve, started=self._now)
        self._scheduler.start(trial)
        self._begin_epoch(self._runs[trial])

    def _begin_epoch(self, run: Run) -> None:
        """Lets a trial run its next epoch, or ends it where there is none."""
        if self._cost >= self._max_cost:
            return
        if run.epochs >= self._scheduler.settings.max_epochs:
            self._end(run, "completed")
        elif run.epochs >= len(run.curve.losses):
            self._end(run, "failed" if run.curve.failed else "censored")
        else:
            self._begun += 1
            heapq.heappush(self._busy, (self._now + run.curve.cost(run.epochs + 1), self._begun, run.trial))

    def _epoch_ends(self, run: Run) -> None:
        run.epochs += 1
        loss = run.curve.losses[run.epochs - 1]
        self._epochs += 1
        self._cost += run.curve.cost(run.epochs)
        if loss < (self._steps[-1].loss if self._steps else math.inf):
            self._steps.append(
                Improvement(
                    time=self._now,
                    cost=self._cost,
                    epochs=self._epochs,
                    trial=run.trial,
                    epoch=run.epochs,
                    loss=loss,
                )
            )
        decision = self._scheduler.report(run.trial, run.epochs, loss)
        if decision is not None:
            run.decisions.append(decision)
        if decision is None or decision.verdict in ("continue", "promote"):
            self._begin_epoch(run)
        elif decision.verdict == "stop":
            self._end(run, "stopped" if math.isfinite(loss) else "failed")
        self._take(self._scheduler.released())

    def _take(self, decisions: list[Decision]) -> None:
        """Carries out verdicts on trials that were paused."""
        for decision in decisions:
            run = self._runs[decision.trial]
            run.decisions.append(decision)
            if decision.verdict == "promote":
                self._promoted.append(run.trial)
            else:
                self._end(run, "stopped")

    def _end(self, run: Run, state: State) -> None:
        run.state, run.ended = state, self._now
        if state != "stopped":
            self._scheduler.end(run.trial)
        if self._tell is not None:
            self._tell(run.trial, state, run.seen)
        self._take(self._scheduler.released())
