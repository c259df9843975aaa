"""The one place where the events of a sweep are made.

The conductor asks the searcher for configurations and the scheduler for verdicts, hands out attempts, takes in what the
workers tell, and writes each event down before it acts on it. It knows neither Ray nor processes: `search.tune` carries
messages between it and the workers, and a test or a simulation may do the same.

Searcher and scheduler learn of an event in one method, `_learn`, whether it has just been made or comes from the ledger
of a sweep that died. So a resumed sweep is where it was, and no state but the ledger need be kept.
"""

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import numpy as np

from results.errors import StorageError
from results.opening import typed
from results.schema import SweepSchema
from results.storage import Storage
from search import event_rows
from search.attempts import Attempt, Progress
from search.budget import Budget
from search.errors import SweepAborted
from search.scheduler import Decision, Scheduler
from search.spec import SweepSpec
from search.state import ENDED, SweepState, TrialState

_log = logging.getLogger(__name__)

FLUSH_S = 1.0
"""Events are written down together, after this many seconds at the latest; a SIGKILL loses no more than that."""
LOOK_S = 1.0
"""So often the budget is looked at while no worker tells anything."""
PATIENCE_S = 60.0
"""How long the storage may be away before the sweep is given up."""
LOST_LIMIT = 100
"""A trial that lost its machine so often is given up, though it never was its fault."""

FOR_GOOD = frozenset({"build", "no_metric", "non_finite", "time_limit"})
"""Failures that would only happen again."""
NOT_ITS_FAULT = frozenset({"node_lost", "driver_lost", "user", "budget"})


class Proposer(Protocol):
    """What the conductor needs of `search.searcher.Searcher`."""

    def ask(self, trial: int) -> dict[str, Any]:
        """Returns a new configuration, which the searcher remembers as running."""
        ...

    def add(self, trial: int, values: Mapping[str, Any]) -> None:
        """Makes a configuration known that others have chosen."""
        ...

    def tell(
        self,
        trial: int,
        state: Literal["completed", "stopped", "failed"],
        values: Sequence[float] | None,
        curve: Mapping[int, float],
    ) -> None:
        """Makes known what became of it; again, if it was extended since."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that its next proposals follow from, to compare."""
        ...


class Ledgerlike(Protocol):
    """What the conductor needs of `results.ledger.Writer`."""

    def append(self, table: str, row: Mapping[str, Any]) -> int:
        """Takes a row and returns its sequence number."""
        ...

    def flush(self) -> None:
        """Writes the rows taken since the last time, all or none."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstPoint:
    """A configuration that is tried before the searcher is asked.

    Attributes:
        values: complete.
        origin: `point`, or `point:` and its name.
    """

    values: Mapping[str, Any]
    origin: str


class Conductor:
    """The sweep's course, from one event to the next.

    Attributes:
        state: what the sweep has come to.
        stopping: nothing more is handed out, and what runs is asked to save and return.
        budget: what may be used, and what is.
        saved: configurations of trials that the ledger does not know, but that have saved a state, by number: a driver
            has died before it could write them down. They are proposed again.
        call_back: called with the reason once a budget is used up: asks workers to save and return, and returns whether
            it could. If not, it is called again.
        listeners: called with the table and the row of each new event, once the state has it.
    """

    def __init__(
        self,
        *,
        spec: SweepSpec,
        schema: SweepSchema,
        writer: Ledgerlike,
        session: int,
        searcher: Proposer,
        scheduler: Scheduler,
        first_rung: Callable[[Mapping[str, Any]], int] = lambda values: 1,
        points: Sequence[FirstPoint] = (),
        concurrency: int = 1,
        clock: Callable[[], float] = time.time,
    ):
        """Takes all that it works with; `replay` comes before anything else.

        Args:
            spec: what the sweep is asked to do.
            schema: of its ledger.
            writer: a `results.ledger.Writer`, or what takes rows as it does.
            session: the writer's.
            searcher: proposes.
            scheduler: stops.
            first_rung: the epoch before which a configuration is not judged.
            points: tried first.
            concurrency: attempts at a time.
            clock: UTC seconds.
        """
        self.spec, self.schema, self.state = spec, schema, SweepState(schema)
        self.stopping = False
        self.saved: dict[int, Mapping[str, Any]] = {}
        self.call_back: Callable[[str], bool] = lambda reason: True
        self.listeners: list[Callable[[str, Mapping[str, Any]], None]] = []
        self.concurrency = concurrency
        self._writer, self._session = writer, session
        self._searcher, self._scheduler = searcher, scheduler
        self._first_rung, self._points, self._clock = first_rung, list(points), clock
        self._sign = -1.0 if schema.objectives[0][1] == "max" else 1.0
        self._waiting: deque[tuple[int, str]] = deque()
        self._running: dict[int, Attempt] = {}
        self._proposed: set[int] = set()
        self.budget = Budget(spec, self.state, clock)
        self._flushed = self._looked = clock()
        self._has_called_back = False
        self._storage_failed_at: float | None = None
        self._num_buffered = 0
        self._free = 0

    # --- coming to where the sweep was --------------------------------------------------------------------------------

    def replay(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Takes in the events of former sessions, and makes up for what their end cut off.

        Args:
            events: of the ledger, in order.
        """
        due: dict[tuple[int, int], Decision] = {}
        for table, row in events:
            if table == "decisions":
                due.pop((row["trial"], row["epoch"]), None)
                self._scheduler.recorded(event_rows.decision_of(row))
            if table == "trials" and row["state"] in ENDED:
                for key in [key for key in due if key[0] == row["trial"]]:
                    del due[key]
            self.state.apply(table, row)
            for decision in self._learn(table, row, replayed=True):
                due[decision.trial, decision.epoch] = decision
        self.budget.begin()
        self._flushed = self._clock()
        for trial in self.state.running:
            self._end_attempt(
                trial.trial, Progress(outcome="lost", reason_kind="driver_lost", reason="the driver ended"), fault=False
            )
        for decision in due.values():
            self._record(decision)
        for number in [trial.trial for trial in self.state.unfinished if trial.trial not in self._proposed]:
            # Its proposal was lost with a damaged file. Checkpoints of another configuration are not taken up.
            self._propose(number)
        for trial in self.state.unfinished:
            if not self._waits_for_others(trial):
                self._resume(trial)
        for trial in self.state.to_extend(self.spec.epochs):
            self._wait(trial.trial, "extended")  # the sweep has been given more epochs, now or before it died

    def _resume(self, trial: TrialState) -> None:
        """Queues an unfinished trial again, or ends it if its last verdict or epoch says that it had ended."""
        last = trial.decisions.get(trial.epoch)
        if last is not None and last.verdict == "stop" and not last.audited:
            self._end_trial(trial.trial, "stopped", "scheduler", event_rows.why_stopped(last))
        elif trial.epoch >= self.spec.epochs:
            self._end_trial(trial.trial, "completed")
        else:
            self._wait(trial.trial, "resumed" if trial.attempt else "first")

    def _waits_for_others(self, trial: TrialState) -> bool:
        last = trial.decisions.get(trial.epoch)
        return last is not None and last.verdict == "pause"

    # --- what workers are given ---------------------------------------------------------------------------------------

    def next_attempt(self) -> Attempt | None:
        """Returns the next attempt to run, or None: not now, or not any more (see `is_finished`)."""
        if self.is_ending or len(self._running) >= self.concurrency:
            return None
        if not self._waiting and not self._may_propose():
            return None
        if not self._waiting:
            self._propose(self._free_number())
        trial, cause = self._waiting.popleft()
        return self._hand_out(trial, cause)

    def is_finished(self) -> bool:
        """Returns whether nothing runs and nothing more will; what waits for a rung to fill is settled."""
        if self._running:
            return False
        if self.is_ending:
            return True
        if self._waiting or self._may_propose():
            return False
        self._close_scheduler()
        return not self._waiting

    @property
    def is_ending(self) -> bool:
        """Whether nothing more is handed out: the sweep was asked to stop, or a budget is used up."""
        return self.stopping or self.budget.spent() is not None

    @property
    def running(self) -> Mapping[int, Attempt]:
        """The attempts that are out, by trial."""
        return self._running

    def _may_propose(self) -> bool:
        return self.spec.trials is None or len(self.state.trials) < self.spec.trials

    def _propose(self, trial: int) -> None:
        if trial < len(self._points):
            point = self._points[trial]
            values, origin = dict(point.values), point.origin
            self._searcher.add(trial, values)
        elif trial in self.saved:
            values, origin = dict(self.saved.pop(trial)), "searcher"
            self._searcher.add(trial, values)
        else:
            values, origin = self._searcher.ask(trial), "searcher"
        self._proposed.add(trial)
        seed = trial_seed(self.spec.seed, trial)
        bracket = self._start(trial, values)
        self._emit("proposals", event_rows.of_proposal(trial, values, origin=origin, seed=seed, bracket=bracket))
        self._wait(trial, "first")

    def _start(self, trial: int, values: Mapping[str, Any]) -> int:
        return self._scheduler.start(trial, first_rung=self._first_rung(values))

    def _free_number(self) -> int:
        """The smallest number without a trial; one whose proposal was lost with a damaged file is given again."""
        while self._free in self.state.trials:
            self._free += 1
        return self._free

    def _wait(self, trial: int, cause: str, *, first: bool = False) -> None:
        if any(waiting == trial for waiting, _ in self._waiting) or trial in self._running:
            return
        if first:
            self._waiting.appendleft((trial, cause))
        else:
            self._waiting.append((trial, cause))

    def _hand_out(self, number: int, cause: str) -> Attempt:
        trial, spec = self.state.trials[number], self.spec
        now = self._clock()
        cpus, gpus = spec.resources.cpus, self._gpus(trial)
        attempt = Attempt(
            trial=number,
            attempt=trial.attempt + 1,
            cause=cause,
            values=dict(trial.values),
            seed=trial.seed,
            epochs=spec.epochs,
            milestones=tuple(e for e in self._scheduler.milestones(number) if trial.epoch < e < spec.epochs),
            known_epoch=trial.epoch,
            objective=self.state.objective,
            minimize=self.state.goal == "min",
            time_limit_s=spec.trial_time_s,
            checkpoint_s=spec.checkpoints.every_s,
            cpus=cpus,
            gpus=gpus,
            handed_out=now,
            keeps_milestones=self._scheduler.pauses,
        )
        self._running[number] = attempt
        return attempt

    def _gpus(self, trial: TrialState) -> float:
        """Returns the trial's share of GPUs: more than the sweep's, up to a whole one, if it ran out of its memory."""
        tight = [a.gpus for a in trial.attempts.values() if a.reason_kind == "out_of_memory" and a.gpus]
        return max([self.spec.resources.gpus, *map(_larger, tight)])

    # --- what workers tell --------------------------------------------------------------------------------------------

    def began(self, trial: int, attempt: int, *, ago_s: float = 0.0) -> None:
        """Takes in that a worker has begun an attempt: before that it waits, and holds nothing.

        Args:
            trial: its number.
            attempt: which one.
            ago_s: so long ago.
        """
        current = self._running.get(trial)
        if current is not None and current.attempt == attempt and trial not in self.budget.since:
            self.budget.take(current, max(current.handed_out, self._clock() - ago_s))
            self._emit("attempts", event_rows.of_attempt(current))

    def report(self, trial: int, attempt: int, progress: Progress) -> bool:
        """Takes in what a worker tells.

        Returns:
            Whether the worker is to go on; otherwise it lets go of the trial.
        """
        current = self._running.get(trial)
        if current is None or current.attempt != attempt:
            return False  # a latecomer: another attempt has taken over
        self.began(trial, attempt, ago_s=progress.facts.get("wall_s", 0.0))
        if progress.outcome == "paused" and progress.reason_kind == "user":
            self.stopping = True  # the worker has seen the request before the driver did
        stopped: Decision | None = None
        for row in progress.epochs:
            stopped = self._take_in(current, row) or stopped
            if stopped is not None:
                break
        if stopped is not None and progress.outcome != "failed":
            if stopped.verdict == "stop":
                self._end_attempt(trial, dataclasses.replace(progress, outcome="stopped", reason_kind="scheduler"))
                self._end_trial(trial, "stopped", "scheduler", event_rows.why_stopped(stopped))
            else:
                self._end_attempt(trial, dataclasses.replace(progress, outcome="paused", reason_kind="scheduler"))
                self._settle()
            return False
        if progress.outcome is None:
            self._see_to_budget()
            return True
        if progress.outcome == "failed":
            self.failed(trial, attempt, progress)
        else:
            self._end_attempt(trial, progress)
            if progress.outcome == "completed":
                self._end_trial(trial, "completed")
        return False

    def failed(self, trial: int, attempt: int, progress: Progress) -> None:
        """Takes in that an attempt has failed or was lost, and decides whether the trial gets another.

        Args:
            trial: its number.
            attempt: which one.
            progress: the reason; `outcome` is `failed` or `lost`.
        """
        current = self._running.get(trial)
        if current is None or current.attempt != attempt:
            return
        kind = progress.reason_kind
        # What asks the driver to end may end its workers too.
        fault = kind not in NOT_ITS_FAULT and not (kind == "worker_died" and self.stopping)
        self._end_attempt(trial, progress, fault=fault)
        attempts = self.state.trials[trial].attempts.values()
        failures = sum(a.own_fault for a in attempts)
        if kind in FOR_GOOD or failures > self.spec.resources.retries or len(attempts) >= LOST_LIMIT:
            self._end_trial(trial, "failed", kind, progress.reason, progress.detail)
            return
        cause = "out_of_memory" if kind == "out_of_memory" else ("lost" if progress.outcome == "lost" else "failed")
        self._wait(trial, cause, first=True)

    def returned(self, trial: int, attempt: int, kind: str, reason: str) -> None:
        """Takes back an attempt that no worker has begun; it is handed out again as another.

        Args:
            trial: its number.
            attempt: which one.
            kind: why, in the ledger's word.
            reason: why, in a sentence.
        """
        current = self._running.get(trial)
        if current is not None and current.attempt == attempt:
            self._end_attempt(trial, Progress(outcome="lost", reason_kind=kind, reason=reason), fault=False)
            self._wait(trial, current.cause, first=True)

    def _see_to_budget(self) -> None:
        """Has the workers asked to save and return once a budget is used up."""
        if self._running and not self._has_called_back and (reason := self.budget.spent()):
            self._has_called_back = self.call_back(reason)

    def _take_in(self, current: Attempt, row: Mapping[str, Any]) -> Decision | None:
        """Writes an epoch down; returns the scheduler's verdict if the trial is not to go on for now."""
        decisions = self._emit("epochs", event_rows.of_epoch(current, row))
        halting = None
        for decision in decisions:
            self._record(decision)
            if decision.trial == current.trial and decision.verdict in ("stop", "pause") and not decision.audited:
                halting = decision
            elif decision.trial != current.trial:
                self._act_on(decision)
        return halting

    def _record(self, decision: Decision) -> None:
        attempt = self.state.trials[decision.trial].attempt
        self._emit("decisions", event_rows.of_decision(decision, attempt))

    def _act_on(self, decision: Decision) -> None:
        """Carries out a verdict on a trial that was paused."""
        if decision.verdict == "promote":
            self._wait(decision.trial, "promoted")
        elif decision.verdict == "stop":
            self._end_trial(decision.trial, "stopped", "scheduler", event_rows.why_stopped(decision))

    def _settle(self) -> None:
        for decision in self._scheduler.released():
            self._record(decision)
            self._act_on(decision)

    def _close_scheduler(self) -> None:
        """Nothing more will be proposed: those who wait for rungs to fill need wait no longer."""
        for decision in self._scheduler.close():
            self._record(decision)
            self._act_on(decision)

    def _end_attempt(self, trial: int, progress: Progress, *, fault: bool = False) -> None:
        current, held_s, wait_s = self._running.get(trial), None, None
        if current is not None:
            now = self._clock()
            self.began(trial, current.attempt)  # its row, if no worker ever did
            since = min(now, self.budget.give_back(current))
            held_s, wait_s = now - since, max(0.0, since - current.handed_out)
            del self._running[trial]
        found = self.state.trials[trial]
        row = event_rows.of_attempt_end(found, progress, fault=fault, held_s=held_s, wait_s=wait_s)
        self._emit("attempt_ends", row)

    def _end_trial(self, trial: int, state: str, kind: str = "", reason: str = "", detail: str = "") -> None:
        found = self.state.trials[trial]
        row = event_rows.of_trial(self.state, found, state, kind, reason, detail, now=self._clock())
        self._emit("trials", row)
        self._settle()

    # --- events -------------------------------------------------------------------------------------------------------

    def _emit(self, table: str, row: dict[str, Any]) -> list[Decision]:
        """Writes an event down, applies it, and lets searcher and scheduler learn of it."""
        now = self._clock()
        row = {**row, "time": datetime.fromtimestamp(now, UTC)}
        seq = self._writer.append(table, row)
        row = {**row, "seq": seq, "session": self._session}
        self._num_buffered += 1
        self.state.apply(table, row)
        for listener in self.listeners:
            listener(table, row)
        return self._learn(table, row, replayed=False)

    def _learn(self, table: str, row: Mapping[str, Any], *, replayed: bool) -> list[Decision]:
        """Lets searcher and scheduler learn of an event; returns the scheduler's decisions that follow from it."""
        if table == "epochs":
            number, epoch = row["trial"], row["epoch"]
            loss = None if self._is_judged(number, epoch, row["attempt"]) else self.state.loss(number, epoch)
            decision = None if loss is None else self._scheduler.report(number, epoch, loss)
            return ([] if decision is None else [decision]) + list(self._scheduler.released())
        if table == "proposals" and replayed:
            trial = self.state.trials[row["trial"]]
            if trial.trial not in self._proposed:
                self._proposed.add(trial.trial)
                self._searcher.add(trial.trial, trial.values)
            self._start(trial.trial, trial.values)
        elif table == "trials" and row["state"] in ENDED:
            return self._learn_end(row["trial"], row["state"])
        return []

    def _is_judged(self, number: int, epoch: int, attempt: int) -> bool:
        """Returns whether an earlier attempt was told to go on here: one that trains it again is not judged again.

        Otherwise the trial could end before epochs that it has already passed.
        """
        verdict = self.state.trials[number].decisions.get(epoch)
        return verdict is not None and verdict.attempt < attempt and verdict.verdict in ("continue", "promote")

    def _learn_end(self, number: int, state: Any) -> list[Decision]:
        trial = self.state.trials[number]
        if number not in self._proposed:  # the proposal was lost with a damaged file
            self._proposed.add(number)
            self._searcher.add(number, trial.values)
        values = None if trial.best_epoch is None else self.state.results(number, trial.best_epoch)
        curve = {epoch: self._sign * loss for epoch, loss in self.state.losses(number).items()}
        self._searcher.tell(number, state, values, curve)
        if state != "stopped":
            self._scheduler.end(number)
        return []

    def note(self, table: str, row: Mapping[str, Any]) -> None:
        """Writes down an event that others have made: a session, a final, a sample, an opening of the test split."""
        self._emit(table, dict(row))

    @property
    def is_written(self) -> bool:
        """Whether the ledger has all events so far."""
        return not self._num_buffered

    def tick(self) -> None:
        """Writes events to the storage, and looks at the budget, if it is time to; to be called often.

        Raises:
            SweepAborted: the storage has been away for too long.
        """
        if self._num_buffered and self._clock() - self._flushed >= FLUSH_S:
            self.flush()
        if self._clock() - self._looked >= LOOK_S:
            self._looked = self._clock()
            self._see_to_budget()

    def flush(self, *, patiently: bool = True) -> None:
        """Writes events to the storage now.

        Args:
            patiently: a storage that fails is given time; otherwise it ends the sweep at once.

        Raises:
            SweepAborted: it cannot be written.
        """
        now = self._clock()
        self._flushed = now
        try:
            self._writer.flush()
        except StorageError as error:
            if self._storage_failed_at is None:
                self._storage_failed_at = now
                _log.warning("the ledger cannot be written, trying again for %.0f s: %s", PATIENCE_S, error)
            if patiently and now - self._storage_failed_at < PATIENCE_S:
                return
            place = typed(Storage(self.spec.storage).child(self.spec.name))
            raise SweepAborted(
                f"the ledger cannot be written: {error}. What has happened in the last moments is done again by "
                f"`search resume {place}`, once the storage is back"
            ) from error
        if self._storage_failed_at is not None:
            _log.warning("the storage is back after %.0f s; nothing was lost", now - self._storage_failed_at)
        self._storage_failed_at, self._num_buffered = None, 0

    def close(self) -> None:
        """Writes down the end of this session: what runs has been lost, what waits is unfinished.

        Raises:
            SweepAborted: the ledger cannot be written.
        """
        for trial in list(self._running):
            self._end_attempt(
                trial, Progress(outcome="lost", reason_kind="user", reason="the sweep was stopped at once"), fault=False
            )
        kind, reason = ("user", "the sweep was stopped") if self.stopping else ("budget", self.budget.spent() or "")
        for trial in self.state.unfinished:
            if (trial.state, trial.reason_kind) != ("unfinished", kind):
                self._end_trial(trial.trial, "unfinished", kind, reason)
        self.flush(patiently=False)


def trial_seed(seed: int, trial: int) -> int:
    """Returns the seed of a sweep's trial."""
    return int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])


def _larger(gpus: float) -> float:
    """Returns the next share of GPUs after one that was too small: a trial that has whole ones gets no more of them."""
    return min(1.0, 2 * gpus) if gpus < 1 else gpus
