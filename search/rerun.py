"""A trial again, from its row alone: configuration, seed, length and data; and how far the two trainings agree.

Nothing of the sweep is changed: the rerun has a folder of its own for the time that it takes.
"""

import contextlib
import dataclasses
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.ledger import Ledger
from results.storage import Storage
from search import environment, folders
from search.attempts import Attempt
from search.connection import worker_environment
from search.errors import SearchError, SweepError, TaskError, TrialFailed
from search.final_work import FinalWorker, scratch
from search.origins import Data, sessions_of
from search.spec import SweepSpec
from search.state import SweepState
from search.task import load_task
from search.trial_state import TrialState

TOLERANCE = 1e-6
"""Trainings agree if no metric differs by more than this share of it (of 1 for smaller ones)."""

OWN_FAILURES = ("error", "non_finite", "no_metric", "build", "exit")
"""Kinds of failure that a rerun is expected to have, too; the others are the machine's."""

OnEpoch = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch: its number, the metrics."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
    """A trial as the ledger has it.

    Attributes:
        storage: of the sweep.
        spec: of the sweep.
        state: of the sweep.
        sessions: rows of those that trained it, the one that scored its best epoch first; see `origins.sessions_of`.
    """

    storage: Storage
    spec: SweepSpec
    state: SweepState
    trial: TrialState
    sessions: Sequence[Mapping[str, Any]]

    @property
    def place(self) -> str:
        """What a user types for this trial."""
        return f"{self.spec.name}/{self.trial.trial}"

    @property
    def session(self) -> Mapping[str, Any]:
        """What it was scored with at its best epoch; empty if no row says so."""
        return self.sessions[0] if self.sessions else {}

    @property
    def data(self) -> Data:
        """What it was scored on at its best epoch."""
        return Data.of(self.session)


def find(where: str) -> Recorded:
    """Returns the trial that a user means by `SWEEP/TRIAL`, such as `laptop/17` or `runs/laptop/17`.

    Raises:
        SweepError: there is no such sweep or trial.
    """
    name, _, number = where.rstrip("/").rpartition("/")
    if not name or not number.isdecimal():
        raise SweepError(
            f"got {where!r}, expected a sweep and the number of a trial of it, such as laptop/17 or runs/laptop/17; "
            "`results top SWEEP` lists trials"
        )
    storage = folders.find(name)
    spec, ledger = folders.read_spec(storage), Ledger(storage)
    if not ledger.exists:
        raise SweepError(f"the sweep at {storage.uri} has no ledger yet, so it has no trials")
    state = SweepState(ledger.schema).replay(ledger.events())
    trial = state.trials.get(int(number))
    if trial is None:
        there = f"its trials are 0 to {max(state.trials)}" if state.trials else "it has none"
        raise SweepError(f"sweep {spec.name!r} has no trial {int(number)}; {there}")
    return Recorded(storage=storage, spec=spec, state=state, trial=trial, sessions=sessions_of(ledger, state, trial))


def prepare(trial: Recorded) -> Any:
    """Returns the task, in the environment that a worker would have, once it is certain to have the same data.

    Raises:
        TaskError: the task cannot be had.
        SweepError: it has other data than the trial had.
    """
    given = worker_environment(trial.spec)
    given.pop("PYTHONPATH")
    if "keras" not in sys.modules:  # later it would be too late
        os.environ.update(given)
    with told_apart():
        task = load_task(trial.spec.task, trial.spec.options, folder=_folder(trial.spec))
        with blaming(f"the data of task {trial.spec.task!r}"):
            data = Data.of_task(task)
    if trial.data.fingerprint != data.fingerprint:
        raise SweepError(
            f"trial {trial.place} was trained on {trial.data}, but the task now has {data}; bring back the data it "
            "had, a training on others is another one"
        )
    return task


def _folder(spec: SweepSpec) -> str:
    return str(Path(spec.folder).absolute())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Again:
    """A trial that was trained again.

    Attributes:
        history: the metrics of each epoch from 1 on.
        failure: why it could not go on; None if it could.
        worker: holds the run, until it is closed.
    """

    history: Mapping[int, Mapping[str, float]]
    failure: TrialFailed | None
    worker: FinalWorker


@contextlib.contextmanager
def training(trial: Recorded, *, until: int, epochs: int, on_epoch: OnEpoch | None = None) -> Iterator[Again]:
    """Trains a trial again, from its first epoch, in this process; the run lives as long as the `with`.

    Args:
        trial: which.
        until: the last epoch.
        epochs: what the schedule spans.
        on_epoch: see `OnEpoch`.
    """
    with scratch() as folder:
        worker = FinalWorker(
            Storage(folder),
            task=trial.spec.task,
            options=dict(trial.spec.options),
            folder=_folder(trial.spec),
            memory_limit_mb=None,
        )
        try:
            with told_apart():
                worker.begin(_attempt(trial, until=until, epochs=epochs))
                history: dict[int, Mapping[str, float]] = {}
                failure = None
                while len(history) < until and failure is None:
                    progress = worker.step()
                    for row in progress.epochs:
                        history[row["epoch"]] = row["metrics"]
                        if on_epoch is not None:
                            on_epoch(row["epoch"], row["metrics"])
                    if progress.outcome == "failed":
                        failure = TrialFailed(progress.reason, reason_kind=progress.reason_kind, detail=progress.detail)
                yield Again(history=history, failure=failure, worker=worker)
        finally:
            worker.close()


def _attempt(trial: Recorded, *, until: int, epochs: int) -> Attempt:
    return Attempt(
        trial=trial.trial.trial,
        attempt=1,
        cause="first",
        values=trial.trial.values,
        seed=trial.trial.seed,
        epochs=epochs,
        milestones=(until,),
        known_epoch=0,
        objective=trial.state.objective,
        minimize=trial.state.goal == "min",
        time_limit_s=None,
        checkpoint_s=math.inf,
        cpus=trial.spec.resources.cpus,
        gpus=trial.spec.resources.gpus,
        handed_out=time.time(),
    )


@contextlib.contextmanager
def blaming(what: str) -> Iterator[None]:
    """For the length of a `with`, whatever the task raises is the task's mistake, in a sentence."""
    try:
        yield
    except (SearchError, MemoryError):
        raise
    except Exception as error:
        words = str(error) or type(error).__name__
        raise TaskError(f"{what}: {words.splitlines()[0][:500]}") from error


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """For the length of a `with`, what the task prints goes to stderr: stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochPair:
    """An epoch of both trainings.

    Attributes:
        ledger: its metrics as the ledger has them.
        again: as they are now; None if the rerun did not come so far.
        difference: the largest relative difference of a metric; infinite if only one of the two has a number.
        metric: whose difference that is; "" if all are equal.
    """

    epoch: int
    ledger: Mapping[str, float]
    again: Mapping[str, float] | None
    difference: float
    metric: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far a rerun agrees with the trial.

    Attributes:
        trial: as a user types it.
        objective: the metric that trials are ranked by.
        tolerance: the largest difference that counts as agreement.
        left_out: metrics that are times or speeds, which no two runs share.
        failure: why the rerun could not go on; "" if it could.
        expected_failure: why the trial could not; "" if it could.
        changed: what was otherwise in a session that trained it: name -> (then, now).
    """

    trial: str
    objective: str
    tolerance: float
    pairs: Sequence[EpochPair]
    left_out: Sequence[str]
    failure: str
    expected_failure: str
    changed: Mapping[str, tuple[str, str]]

    @property
    def difference(self) -> float:
        """The largest of all epochs."""
        return max((pair.difference for pair in self.pairs), default=0.0)

    @property
    def agrees(self) -> bool:
        """Whether both trainings gave the same, within the tolerance."""
        return self.difference <= self.tolerance and bool(self.failure) == bool(self.expected_failure)

    def document(self) -> dict[str, Any]:
        """Returns this for JSON."""
        document = dataclasses.asdict(self)
        document["pairs"] = [
            {**pair, "difference": pair["difference"] if math.isfinite(pair["difference"]) else None}
            for pair in document["pairs"]
        ]
        return document | {"agrees": self.agrees}

    def text(self) -> str:
        """Returns this for a person."""
        lines = [f"{'epoch':>5}  {'ledger':>12}  {'again':>12}  largest difference   ({self.objective})"]
        for pair in self.pairs:
            again = pair.again.get(self.objective) if pair.again is not None else None
            told = "none" if not pair.difference else f"{pair.difference:.1e} of {pair.metric}"
            lines.append(
                f"{pair.epoch:>5}  {_number(pair.ledger.get(self.objective)):>12}  {_number(again):>12}  "
                f"{told if pair.again is not None else 'did not come so far'}"
            )
        if self.failure or self.expected_failure:
            lines.append(f"it failed then:  {self.expected_failure or 'no'}")
            lines.append(f"it failed again: {self.failure or 'no'}")
        if self.left_out:
            lines.append(f"not compared, because they are times or speeds: {', '.join(self.left_out)}")
        lines.append("")
        if self.agrees and not self.difference:
            lines.append(f"Trial {self.trial} gave the same again, to the last bit.")
        elif self.agrees:
            lines.append(f"Trial {self.trial} gave the same again, but for {self.difference:.1e} of a metric.")
        else:
            lines.append(f"Trial {self.trial} did NOT give the same again.")
            first = next((pair.epoch for pair in self.pairs if pair.difference > self.tolerance), None)
            if first is not None:
                lines.append(f"It differs from epoch {first} on by more than {self.tolerance:.1e}.")
            lines += [f"{name} was {then or 'unknown'}, is now {now}" for name, (then, now) in self.changed.items()]
            lines.append(
                "Where machine, packages and code are the same, a schedule of another length is the usual reason: "
                "a sweep that was extended by epochs; --epochs gives the former number."
            )
        return "\n".join(lines)


def compare(trial: Recorded, again: Again, *, until: int, tolerance: float = TOLERANCE) -> Comparison:
    """Compares a rerun with what the ledger has, epoch by epoch."""
    measures = trial.state.schema.metrics
    left_out = [name for name, measure in measures.items() if measure.unit == "s" or measure.unit.endswith("/s")]
    compared = [name for name in measures if name not in left_out]
    pairs = []
    for epoch in range(1, until + 1):
        row = trial.trial.epochs.get(epoch)
        if row is None:
            continue
        now = again.history.get(epoch)
        apart = {name: _apart(row.metrics.get(name), (now or {}).get(name)) for name in compared}
        worst = max(apart, key=lambda name: apart[name], default="")
        difference = apart.get(worst, 0.0)
        pairs.append(
            EpochPair(
                epoch=epoch,
                ledger=dict(row.metrics),
                again=None if now is None else dict(now),
                difference=difference if now is not None else math.inf,
                metric=worst if difference else "",
            )
        )
    return Comparison(
        trial=trial.place,
        objective=trial.state.objective,
        tolerance=tolerance,
        pairs=pairs,
        left_out=[name for name in left_out if any(name in pair.ledger for pair in pairs)],
        failure=str(again.failure or ""),
        expected_failure=_own_failure(trial),
        changed=_changed(trial),
    )


def rerun(
    trial: Recorded, *, epochs: int | None = None, tolerance: float = TOLERANCE, on_epoch: OnEpoch | None = None
) -> Comparison:
    """Trains a trial again, as far as it came, and compares it with its rows.

    Args:
        trial: from `find`.
        epochs: what its schedule spans; None for what the sweep's trials have.
        tolerance: see `TOLERANCE`.
        on_epoch: see `OnEpoch`.

    Raises:
        CallerError: the trial has not begun, or task or data cannot be had as they were.
    """
    schedule = epochs or trial.spec.epochs
    last = trial.trial.epoch
    if last > schedule:
        raise SweepError(f"trial {trial.place} has {last} epochs, more than a schedule of {schedule}")
    until = min(last + _fails_after(trial), schedule)
    if not until:
        raise SweepError(f"trial {trial.place} has no epoch yet, so there is nothing to compare with")
    prepare(trial)
    with training(trial, until=until, epochs=schedule, on_epoch=on_epoch) as again:
        return compare(trial, again, until=until, tolerance=tolerance)


def _fails_after(trial: Recorded) -> int:
    """1 if the trial failed, by its own fault, in an epoch that has no row; else 0."""
    if not _own_failure(trial):
        return 0
    row = trial.trial.epochs.get(trial.trial.epoch)
    return int(row is None or math.isfinite(row.metrics.get(trial.state.objective, math.nan)))


def _own_failure(trial: Recorded) -> str:
    """Why the trial failed, if that lies in itself and not in the machine; "" otherwise."""
    found = trial.trial
    return found.reason if found.state == "failed" and found.reason_kind in OWN_FAILURES else ""


def _apart(then: float | None, now: float | None) -> float:
    if then is None or now is None:
        return 0.0 if then is now else math.inf
    if then == now or (math.isnan(then) and math.isnan(now)):
        return 0.0
    difference = abs(then - now) / max(1.0, abs(then))
    return difference if math.isfinite(difference) else math.inf


def _changed(trial: Recorded) -> dict[str, tuple[str, str]]:
    # Whoever reruns a trial has the data that its best epoch was scored on.
    now = {"data": str(trial.data), "host": platform.node(), **environment.here(trial.spec)}
    then = {
        name: ", then ".join(
            dict.fromkeys(
                str(Data.of(session)) if name == "data" else str(session.get(name) or "")
                for session in sorted(trial.sessions, key=lambda session: session["session"])
            )
        )
        for name in now
    }
    return {name: (then[name], now[name]) for name in now if then[name] != now[name]}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.8f}"
