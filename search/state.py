"""What a sweep has come to: the sum of its events.

The driver applies each event as it writes it down; `search resume` and `search status` apply the same rows as the
ledger gives them back. There is no other way for anything to enter the state, so both come to the same.
"""

import dataclasses
import heapq
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from results.course import on_course
from search.shares import priced
from search.trial_state import ENDED, STATES, AttemptState, DecisionRow, EpochRow, State, TrialState

if TYPE_CHECKING:
    from results.schema import SweepSchema

__all__ = ["ENDED", "STATES", "AttemptState", "DecisionRow", "EpochRow", "State", "SweepState", "TrialState"]

CONFIG = "config."
"""What the names of the columns that hold a configuration begin with."""

OF_TRIALS = frozenset({"proposals", "attempts", "attempt_ends", "epochs", "decisions", "trials"})
"""Tables with events of trials; those of the final job are not among them, whose time has its own limit."""

_RECENT = 4096
_KEYS = {
    "sessions": ("session",),
    "finals": ("final",),
    "samples": ("sample",),
    "openings": ("opening",),
    "choices": ("choice", "rank"),
}


class SweepState:
    """What a sweep has come to.

    Attributes:
        schema: what the sweep varies and measures.
        objective: the first objective's metric, the one that trials are ranked by.
        goal: "min" or "max".
        trials: by number, in the order of their proposals.
        seq: the greatest sequence number seen; -1 before the first row.
        session: the number of the last session; 0 before the first.
        started: when the first row was written, in seconds since 1970; None before it.
        time: when the last row was written.
        num_results: epochs written down, those that were trained again counted again.
        gpu_s: seconds times GPUs that ended attempts held.
        priced_s: seconds times what has a price of what ended attempts held; see `search.shares`.
        spans: session -> when its first row was written, and the last that tells of a trial.
        recent_results: when the last few thousand epochs were written down, oldest first.
        recent_ends: when the last few thousand trials ended, oldest first.
        recently_ended: which they were, in the same order.
        troubled: numbers of the trials of which an attempt failed or was lost, or that failed themselves.
    """

    def __init__(self, schema: "SweepSchema"):
        """Takes the sweep's schema; its first objective names one of its metrics."""
        self.schema = schema
        self.objective, self.goal = schema.objectives[0]
        self.trials: dict[int, TrialState] = {}
        self.seq, self.session = -1, 0
        self.started: float | None = None
        self.time: float | None = None
        self.num_results = 0
        self.gpu_s = self.priced_s = 0.0
        self.spans: dict[int, tuple[float, float]] = {}
        self.recent_results: deque[float] = deque(maxlen=_RECENT)
        self.recent_ends: deque[float] = deque(maxlen=_RECENT)
        self.recently_ended: deque[int] = deque(maxlen=_RECENT)
        self.troubled: set[int] = set()
        self._sign = -1.0 if self.goal == "max" else 1.0
        self._metrics = tuple(schema.metrics)
        self._parameters = tuple((f"{CONFIG}{name}", name) for name in schema.parameters)
        self._in: dict[str, set[int]] = {state: set() for state in STATES}
        self._best_losses: dict[int, float] = {}
        self._rows: dict[str, dict[tuple[int, ...], dict[str, Any]]] = {table: {} for table in _KEYS}
        self._pieces: dict[tuple[int, str], dict[str, tuple[float, float]]] = {}
        self._handlers = {
            "proposals": self._proposal,
            "attempts": self._attempt,
            "attempt_ends": self._attempt_end,
            "epochs": self._epoch,
            "decisions": self._decision,
            "trials": self._trial_end,
            "piece_scores": self._piece_score,
        }

    def apply(self, table: str, row: Mapping[str, Any]) -> None:
        """Adds one event.

        Args:
            table: of the ledger.
            row: as it stands in the ledger, or as it was given to it; rows come in the order of `seq`. Columns that
                are missing are null. Times are `datetime`s or seconds since 1970.

        Raises:
            ValueError: there is no such table.
        """
        time = _seconds(row.get("time"))
        seq = row.get("seq")
        if seq is not None and seq > self.seq:
            self.seq = seq
        if time is not None:
            self.time = time
            if self.started is None:
                self.started = time
            session = row.get("session") or self.session
            first, last = self.spans.get(session, (time, time))
            self.spans[session] = (first, time if table in OF_TRIALS else last)
        handler = self._handlers.get(table)
        if handler is not None:
            handler(row, time)
        elif table in _KEYS:
            self._rows[table][tuple(row[name] for name in _KEYS[table])] = dict(row)
            if table == "sessions":
                self.session = max(self.session, row["session"])
        else:
            raise ValueError(f"no table {table!r} in a ledger; known: {', '.join([*self._handlers, *_KEYS])}")

    def replay(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> "SweepState":
        """Applies all events, such as those of `Ledger.events`, and returns the state itself."""
        for table, row in events:
            self.apply(table, row)
        return self

    # What can be asked.

    def counts(self) -> dict[State, int]:
        """Returns how many trials are in each state, in the order of `STATES`."""
        return {state: len(self._in[state]) for state in STATES}

    def in_states(self, *states: str) -> list[TrialState]:
        """Returns the trials that are in one of these states, by number."""
        return [self.trials[number] for number in sorted(self.numbers(*states))]

    def to_extend(self, epochs: int) -> list[TrialState]:
        """Returns the trials that completed when the sweep had fewer epochs than these, by number."""
        return [trial for trial in self.in_states("completed") if trial.epoch < epochs]

    @property
    def ended(self) -> list[TrialState]:
        """Trials that completed, were stopped or failed, by number."""
        return self.in_states(*ENDED)

    def numbers(self, *states: str) -> set[int]:
        """Returns the numbers of the trials that are in one of these states."""
        return set().union(*(self._in[state] for state in states))

    @property
    def num_ended(self) -> int:
        """How many trials have ended."""
        return sum(len(self._in[state]) for state in ENDED)

    @property
    def unfinished(self) -> list[TrialState]:
        """Trials that want another attempt, by number: proposed, paused, running, or left over when the sweep ended."""
        return self.in_states(*(state for state in STATES if state not in ENDED))

    @property
    def running(self) -> list[TrialState]:
        """Trials with an attempt that has not ended, by number; in a dead sweep, those it died with."""
        return self.in_states("running")

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Rows of the table of this name, in the order of their numbers."""
        return self._list("sessions")

    @property
    def finals(self) -> list[dict[str, Any]]:
        """Rows of the table of this name."""
        return self._list("finals")

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Rows of the table of this name."""
        return self._list("samples")

    @property
    def openings(self) -> list[dict[str, Any]]:
        """Rows of the table of this name."""
        return self._list("openings")

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Rows of the table of this name."""
        return self._list("choices")

    def piece_scores(self, final: int, split: str) -> dict[str, tuple[float, float]]:
        """Returns what a final model scored on each piece of a split, as (value, weight); empty if nobody wrote it."""
        return dict(self._pieces.get((final, split), {}))

    def loss(self, trial: int, epoch: int) -> float | None:
        """Returns the first objective at an epoch with its sign turned so that lower is better.

        None if the trial has no result there; NaN and infinities are given as they are.
        """
        row = self.trials[trial].epochs.get(epoch)
        return None if row is None else self._loss(row)

    def losses(self, trial: int) -> dict[int, float]:
        """Returns the trial's learning curve: `loss` by epoch, in the order of epochs."""
        return {epoch: self._loss(row) for epoch, row in sorted(self.trials[trial].epochs.items())}

    def results(self, trial: int, epoch: int) -> tuple[float, ...]:
        """Returns all objectives at an epoch, as measured, in the order of the sweep's objectives.

        Raises:
            KeyError: the trial has no result there.
        """
        metrics = self.trials[trial].epochs[epoch].metrics
        return tuple(metrics.get(name, math.nan) for name, _ in self.schema.objectives)

    def best(self, trial: int) -> EpochRow | None:
        """Returns the trial's best epoch by the first objective; None while it has no finite value."""
        found = self.trials[trial]
        return None if found.best_epoch is None else found.epochs[found.best_epoch]

    def best_value(self, trial: int) -> float | None:
        """Returns the first objective at the trial's best epoch, as measured; None while it has no finite value."""
        best = self.best(trial)
        return None if best is None else best.metrics[self.objective]

    def ranked(self, limit: int | None = None) -> list[TrialState]:
        """Returns the trials with a finite value that have not failed, the best first, the older first of equals.

        Args:
            limit: not more than so many; None is all.
        """
        failed = self._in["failed"]
        losses = [(loss, n) for n, loss in self._best_losses.items() if n not in failed]
        best = sorted(losses) if limit is None else heapq.nsmallest(limit, losses)
        return [self.trials[number] for _, number in best]

    def best_trial(self) -> TrialState | None:
        """Returns the first of `ranked`; None if there is none."""
        return next(iter(self.ranked(1)), None)

    def elapsed_s(self, now: float | None = None) -> float:
        """Returns how long the sweep's trials have run, in seconds, without the time between sessions.

        Args:
            now: the time of a sweep that runs; None for one that does not, which ran until its last row of a trial.
        """
        total = sum(last - first for first, last in self.spans.values())
        if now is not None and self.spans:
            total += max(0.0, now - self.spans[max(self.spans)][1])
        return total

    def document(self) -> dict[str, Any]:
        """Returns all of it as plain values for JSON, to compare one state with another.

        NaN and infinities are their names, so that equal states are equal documents.
        """
        return {
            "seq": self.seq,
            "session": self.session,
            "started": _plain(self.started),
            "time": _plain(self.time),
            "num_results": self.num_results,
            "gpu_s": _plain(self.gpu_s),
            "priced_s": _plain(self.priced_s),
            "counts": self.counts(),
            "trials": {str(number): self._trial_document(trial) for number, trial in sorted(self.trials.items())},
            **{table: [_plain(_without_nulls(row)) for row in self._list(table)] for table in _KEYS},
        }

    # One method a table.

    def _proposal(self, row: Mapping[str, Any], time: float | None) -> None:
        trial = self._trial(row["trial"])
        self._identify(trial, row)
        if trial.proposed is None:
            trial.proposed = time

    def _attempt(self, row: Mapping[str, Any], time: float | None) -> None:
        trial = self._trial(row["trial"])
        number = row["attempt"]
        trial.attempts[number] = AttemptState(
            attempt=number,
            cause=row.get("cause") or "",
            cpus=_number(row.get("cpus"), 0.0),
            gpus=_number(row.get("gpus"), 0.0),
            started=time,
        )
        if number < trial.attempt:
            return
        trial.attempt = number
        if trial.started is None:
            trial.started = time
        trial.ended, trial.reason_kind, trial.reason, trial.detail = None, "", "", ""
        self._move(trial, "running")

    def _attempt_end(self, row: Mapping[str, Any], time: float | None) -> None:
        trial = self._trial(row["trial"])
        number = row["attempt"]
        attempt = trial.attempts.setdefault(number, AttemptState(attempt=number))
        attempt.ended = time
        attempt.outcome = row.get("outcome") or ""
        attempt.reason_kind, attempt.reason = row.get("reason_kind") or "", row.get("reason") or ""
        if attempt.outcome in ("failed", "lost"):
            self.troubled.add(trial.trial)
        attempt.own_fault = bool(row.get("own_fault"))
        attempt.node, attempt.pid = row.get("node") or "", row.get("pid")
        attempt.from_epoch, attempt.to_epoch = row.get("from_epoch"), row.get("to_epoch")
        attempt.wall_s = _number(row.get("wall_s"))
        attempt.peak_memory_mb = _number(row.get("peak_memory_mb"))
        held_s = held(trial, attempt)
        trial.gpu_s += attempt.gpus * held_s
        self.gpu_s += attempt.gpus * held_s
        self.priced_s += priced(attempt) * held_s
        if number >= trial.attempt and trial.state not in ENDED:
            trial.attempt = number
            # Completed, stopped and failed end the trial only with its row in `trials`; till then it may be tried on.
            self._move(trial, "paused" if attempt.outcome == "paused" else "proposed")

    def _epoch(self, row: Mapping[str, Any], time: float | None) -> None:
        trial = self._trial(row["trial"])
        number, attempt = row["epoch"], row["attempt"]
        last = next(reversed(trial.epochs), 0)
        metrics = {name: _number(row.get(name)) for name in self._metrics}
        result = EpochRow(number, attempt, metrics, _number(row.get("duration_s")), _seconds(row.get("ended")), time)
        if number > last and (not last or attempt >= trial.epochs[last].attempt):
            trial.epochs[number] = result
            self._compare(trial, number, self._loss(result))
        else:
            rows = [*trial.epochs.values(), result]
            counts = _on_course(rows)
            if not counts[-1]:
                return  # a latecomer of an attempt that was given up
            kept = [row for row, on in zip(rows, counts, strict=True) if on]
            trial.epochs = {row.epoch: row for row in sorted(kept, key=lambda row: row.epoch)}
            self._find_best(trial)
        self.num_results += 1
        if time is not None:
            trial.last_result = time
            self.recent_results.append(time)

    def _decision(self, row: Mapping[str, Any], time: float | None) -> None:
        trial = self._trial(row["trial"])
        cutoff = row.get("cutoff")
        trial.decisions[row["epoch"]] = DecisionRow(
            row["epoch"],
            row.get("attempt") or trial.attempt,
            row.get("bracket") or 0,
            row.get("rung") or 0,
            _number(row.get("value")),
            None if cutoff is None else float(cutoff),
            row.get("num_values") or 0,
            row["verdict"],
            bool(row.get("audited")),
        )

    def _piece_score(self, row: Mapping[str, Any], time: float | None) -> None:
        pieces = self._pieces.setdefault((row["final"], row["split"]), {})
        pieces[row["piece"]] = _number(row.get("value")), _number(row.get("weight"))

    def _trial_end(self, row: Mapping[str, Any], time: float | None) -> None:
        trial = self._trial(row["trial"])
        if not trial.values:
            self._identify(trial, row)
        trial.reason_kind, trial.reason = row.get("reason_kind") or "", row.get("reason") or ""
        trial.detail, trial.checkpoint = row.get("detail") or "", row.get("checkpoint") or ""
        state: State = row["state"]
        self._move(trial, state)
        if state not in ENDED:
            return
        ended = _seconds(row.get("ended"))
        trial.ended = time if ended is None else ended
        if state == "failed":
            self.troubled.add(trial.trial)
        self.recently_ended.append(trial.trial)
        if time is not None:
            self.recent_ends.append(time)

    # What they share.

    def _trial(self, number: int) -> TrialState:
        trial = self.trials.get(number)
        if trial is None:
            trial = self.trials[number] = TrialState(trial=number)
            self._in[trial.state].add(number)
        return trial

    def _identify(self, trial: TrialState, row: Mapping[str, Any]) -> None:
        trial.values = {name: row[column] for column, name in self._parameters if row.get(column) is not None}
        trial.origin, trial.seed, trial.bracket = row.get("origin") or "", row.get("seed") or 0, row.get("bracket") or 0

    def _move(self, trial: TrialState, state: State) -> None:
        self._in[trial.state].discard(trial.trial)
        self._in[state].add(trial.trial)
        trial.state = state

    def _loss(self, row: EpochRow) -> float:
        return self._sign * row.metrics.get(self.objective, math.nan)

    def _compare(self, trial: TrialState, epoch: int, loss: float) -> None:
        if math.isfinite(loss) and (trial.best_epoch is None or loss < self._best_losses[trial.trial]):
            trial.best_epoch = epoch
            self._best_losses[trial.trial] = loss

    def _find_best(self, trial: TrialState) -> None:
        trial.best_epoch = None
        self._best_losses.pop(trial.trial, None)
        for epoch, row in trial.epochs.items():
            self._compare(trial, epoch, self._loss(row))

    def _list(self, table: str) -> list[dict[str, Any]]:
        return [row for _, row in sorted(self._rows[table].items())]

    def _trial_document(self, trial: TrialState) -> dict[str, Any]:
        fields = {field.name: getattr(trial, field.name) for field in dataclasses.fields(trial)}
        fields["attempts"] = {str(n): dataclasses.asdict(attempt) for n, attempt in sorted(trial.attempts.items())}
        fields["epochs"] = {str(n): row._asdict() for n, row in sorted(trial.epochs.items())}
        fields["decisions"] = {str(n): row._asdict() for n, row in sorted(trial.decisions.items())}
        return _plain(fields)


def _on_course(rows: Sequence[EpochRow]) -> list[bool]:
    """Returns which of a trial's epochs count."""
    attempt, epoch = (np.array([getattr(row, name) for row in rows]) for name in ("attempt", "epoch"))
    return on_course(np.zeros(len(rows)), attempt, epoch).tolist()


def held(trial: TrialState, attempt: AttemptState) -> float:
    """Returns for how many seconds an attempt held its share; if its driver died, until its last sign of life."""
    if math.isfinite(attempt.wall_s):
        return attempt.wall_s
    last = max((row.time or 0.0 for row in trial.epochs.values() if row.attempt == attempt.attempt), default=0.0)
    return max(0.0, last - attempt.started) if attempt.started is not None else 0.0


def _seconds(value: Any) -> float | None:
    """Returns a time as seconds since 1970."""
    if value is None or isinstance(value, float):
        return value
    return value.timestamp() if hasattr(value, "timestamp") else float(value)


def _number(value: Any, missing: float = math.nan) -> float:
    return missing if value is None else float(value)


def _without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return _plain(value.timestamp()) if hasattr(value, "timestamp") else value
