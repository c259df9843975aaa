"""The one process boundary: a worker runs the epochs of one attempt after another and says what became of them.

No Ray here: `search.tune` puts a `Worker` into one of Tune's actors. Whatever the task does wrong ends the attempt with
a reason and leaves the process ready for the next; what Python cannot catch (a hang, the end of the process) ends the
process, and the driver sees it go.
"""

import contextlib
import errno
import faulthandler
import logging
import math
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from results.errors import StorageError
from results.storage import Storage
from search import stopping
from search.attempts import Attempt, Outcome, Progress
from search.checkpoints import Checkpoint, Checkpoints, identity
from search.errors import TrialFailed
from search.native_output import Bounded
from search.task import load_task

_log = logging.getLogger(__name__)

STEP_S = 0.5
"""Short epochs are told together, those of about this long; never across a milestone."""
SAVE_SHARE = 0.1
"""An epoch that is the trial's best is saved at once if saving takes no more than this share of an epoch."""
ASK_S = 0.25
"""A worker looks so often whether the sweep is to stop."""
PATIENCE_S = 60.0
"""How long a storage may be away before a trial that cannot read its checkpoint is given up here."""
OUTPUT_LIMIT = 1_000_000
"""Characters that an attempt's task may print; the rest is dropped."""
"""While this lies in the sweep's folder, workers save and return after the epoch that they are at."""

SCRATCH = "search-worker-"
"""What the names of the workers' own folders begin with, before their process's number."""
DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What writing a checkpoint may meet that says nothing of the task."""
_OUT_OF_MEMORY = re.compile(r"resource_?exhausted|out ?of ?memory|\boom\b", re.IGNORECASE)


class Worker:
    """Runs attempts, one after another, in one process."""

    def __init__(
        self, *, storage: str, task: str, options: Mapping[str, Any], memory_limit_mb: float | None, folder: str = ""
    ):
        """Takes what all attempts of a sweep share.

        Args:
            storage: URI of the sweep's folder.
            task: where the task is imported from.
            options: what it is made with.
            folder: what the path of a task's file is relative to.
            memory_limit_mb: a process that is larger after a trial is not used again; None for no limit.
        """
        self._storage, self._task_path, self._options = Storage(storage), task, dict(options)
        self._folder, self._limit_mb = folder, memory_limit_mb
        self._task: Any = None
        self._attempt: Attempt | None = None
        _tidy_up_after_the_dead()
        self._scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-"))
        self._process = psutil.Process()
        self._traces = open(self._scratch / "hang.txt", "w")  # noqa: SIM115 - faulthandler writes into it at any time

    def begin(self, attempt: Attempt) -> bool:
        """Takes up an attempt; returns False if this process has grown too large for another."""
        self.end()
        if self._limit_mb is not None and self._memory_mb() > self._limit_mb:
            return False
        self._attempt = attempt
        self._out, self._err = Bounded(sys.stdout, OUTPUT_LIMIT), Bounded(sys.stderr, OUTPUT_LIMIT)
        self._began = time.monotonic()
        self._run: Any = None
        self._history: list[dict[str, Any]] = []
        self._saved_at, self._save_s, self._unsaved = self._began, 0.0, ""
        self._asked_at = -math.inf
        self._start_s = self._train_s = 0.0
        self._from_epoch = self._saved_epoch = 0
        self._peak_mb = self._memory_mb()
        if attempt.time_limit_s is not None:
            # Its own thread in C: it ends the process even if the task never lets go of the interpreter.
            faulthandler.dump_traceback_later(attempt.time_limit_s, exit=True, file=self._traces)
        return True

    def end(self) -> None:
        """Lets go of the attempt and of all that it held."""
        faulthandler.cancel_dump_traceback_later()
        self._attempt, self._run, self._history = None, None, []

    def close(self) -> None:
        """Removes what the process wrote outside the sweep's folder."""
        self.end()
        self._traces.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def step(self) -> Progress:
        """Runs the next epochs and says what became of them.

        At least one epoch is run, and more if they are short, but none beyond a milestone, and none if the sweep was
        asked to end.
        """
        attempt = self._attempt
        if attempt is None:
            raise RuntimeError("no attempt was begun")
        before = len(self._history)
        told: list[dict[str, Any]] = []
        try:
            with contextlib.redirect_stdout(self._out), contextlib.redirect_stderr(self._err):
                if self._run is None:
                    if (interrupted := self._interruption()) is not None:
                        return self._progress([], "paused", *interrupted)
                    self._start(attempt)
                    told = [row for row in self._history if row["epoch"] > attempt.known_epoch]
                    before = len(self._history)
                outcome, kind, reason = self._advance(attempt, at_once=bool(told))
            return self._progress(told + self._history[before:], outcome, kind, reason)
        except TrialFailed as failure:
            return self._progress(
                told + self._history[before:], "failed", failure.reason_kind, str(failure), failure.detail
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: whatever the task does is its row's affair
            kind, reason = _classified(error, self._run is None)
            detail = "".join(traceback.format_exception(error))[-20_000:]
            self._run = None
            return self._progress(told + self._history[before:], "failed", kind, reason, detail)

    # --- one attempt --------------------------------------------------------------------------------------------------

    def _start(self, attempt: Attempt) -> None:
        started = time.monotonic()
        if self._task is None:
            self._task = load_task(self._task_path, self._options, folder=self._folder)
        else:
            let_go_of_models()
        _seed(attempt.seed)
        run = self._task.start(dict(attempt.values), epochs=attempt.epochs, seed=attempt.seed)
        own = identity(self._task_path, self._options, attempt.values, attempt.seed)
        self._checkpoints = Checkpoints(self._storage, attempt.trial, own, attempt.values)
        if hasattr(run, "restore"):
            # Also a first attempt may find one: of a session that died before it could write down that it had begun.
            found = self._fetched()
            if found is not None:
                run.restore(self._scratch / "restored")
                self._history = [dict(row) for row in found.history]
                self._from_epoch = self._saved_epoch = found.epoch
            shutil.rmtree(self._scratch / "restored", ignore_errors=True)
        self._run = run
        self._start_s = time.monotonic() - started

    def _fetched(self) -> Checkpoint | None:
        """Brings the trial's checkpoint here; a storage that does not answer is given time."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._checkpoints.fetch(self._scratch / "restored")
            except StorageError as error:
                if time.monotonic() >= until:
                    raise TrialFailed(f"its checkpoint cannot be read: {error}", reason_kind="node_lost") from error
                time.sleep(1.0)

    def _advance(self, attempt: Attempt, *, at_once: bool) -> tuple[Outcome | None, str, str]:
        """Runs epochs until there is something to ask or enough to tell.

        Args:
            attempt: the one that runs.
            at_once: return without another epoch if the state just restored already says enough.
        """
        stop_at = time.monotonic() + STEP_S
        epoch = len(self._history)
        if at_once and (epoch in attempt.milestones or epoch >= attempt.epochs):
            return ("completed" if epoch >= attempt.epochs else None), "", ""
        # Between two long epochs the driver may just have asked; short ones are over soon.
        is_long = bool(self._history) and self._history[-1]["duration_s"] >= STEP_S
        if is_long and (interrupted := self._interruption(at_once=True)) is not None:
            self._save_if_due(attempt, epoch, must=True)
            return "paused", *interrupted
        while epoch < attempt.epochs:
            self._run_epoch(attempt, epoch + 1)
            epoch += 1
            last = epoch >= attempt.epochs
            interrupted = None if last else self._interruption()
            waits = attempt.keeps_milestones and epoch in attempt.milestones
            self._save_if_due(attempt, epoch, must=last or waits or interrupted is not None)
            if interrupted is not None:
                return "paused", *interrupted
            if epoch in attempt.milestones or time.monotonic() >= stop_at:
                break
        return ("completed" if epoch >= attempt.epochs else None), "", ""

    def _run_epoch(self, attempt: Attempt, epoch: int) -> None:
        began = time.monotonic()
        metrics = self._run.epoch()
        if not isinstance(metrics, Mapping):
            raise TrialFailed(
                f"epoch {epoch}: the task returned {type(metrics).__name__}, expected a mapping of metrics to numbers",
                reason_kind="no_metric",
            )
        row = {
            "epoch": epoch,
            "duration_s": time.monotonic() - began,
            "ended": time.time(),
            "metrics": _numbers(metrics, attempt.objective, epoch, self._task.metrics),
        }
        self._train_s += row["duration_s"]
        self._peak_mb = max(self._peak_mb, self._memory_mb())
        self._history.append(row)
        value = row["metrics"][attempt.objective]
        if not math.isfinite(value):
            raise TrialFailed(
                f"epoch {epoch}: {attempt.objective} is {value}, no finite number", reason_kind="non_finite"
            )

    def _save_if_due(self, attempt: Attempt, epoch: int, *, must: bool) -> None:
        if not hasattr(self._run, "save") or epoch == self._saved_epoch:
            return
        now = time.monotonic()
        best = self._best_epoch(attempt)
        cheap = self._save_s <= SAVE_SHARE * self._history[-1]["duration_s"]
        if not (must or now - self._saved_at >= attempt.checkpoint_s or (best == epoch and cheap)):
            return
        try:
            self._checkpoints.save(
                self._run.save,
                epoch=epoch,
                attempt=attempt.attempt,
                history=self._history,
                best_epoch=best,
                scratch=self._scratch / "saved",
            )
        except (StorageError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in DISK_TROUBLE:
                raise  # the task's own
            # Not the trial's fault, and its results count without: if it goes on elsewhere, it does more again.
            self._unsaved = f"epoch {epoch} was not saved: {error}"
            _log.warning("trial %d: %s", attempt.trial, self._unsaved)
        else:
            self._unsaved, self._saved_epoch = "", epoch
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - now

    def _best_epoch(self, attempt: Attempt) -> int:
        sign = 1 if attempt.minimize else -1
        return min(self._history, key=lambda row: sign * row["metrics"][attempt.objective])["epoch"]

    def _interruption(self, *, at_once: bool = False) -> tuple[str, str] | None:
        """Returns why the attempt is to end here although it could go on, or None.

        Args:
            at_once: look now, however short ago that was done.
        """
        now = time.monotonic()
        if now - self._asked_at >= ASK_S or at_once:
            self._asked_at = now
            with contextlib.suppress(StorageError):  # the driver sees to a storage that does not answer
                return self._asked_to_stop()
        return None

    def _asked_to_stop(self) -> tuple[str, str] | None:
        return stopping.requested(self._storage)

    def _progress(
        self, rows: list[dict[str, Any]], outcome: Outcome | None, kind: str, reason: str, detail: str = ""
    ) -> Progress:
        if outcome is not None:
            faulthandler.cancel_dump_traceback_later()
        return Progress(
            epochs=tuple(rows),
            outcome=outcome,
            reason_kind=kind,
            reason=reason or (self._unsaved if outcome is not None else ""),
            detail=detail,
            facts={
                "node": platform.node(),
                "pid": os.getpid(),
                "from_epoch": self._from_epoch,
                "start_s": self._start_s,
                "train_s": self._train_s,
                "wall_s": time.monotonic() - self._began,
                "peak_memory_mb": self._peak_mb,
            },
            recycle=outcome is not None and self._limit_mb is not None and self._memory_mb() > self._limit_mb,
        )

    def _memory_mb(self) -> float:
        return self._process.memory_info().rss / 1e6


def _numbers(metrics: Mapping[str, Any], objective: str, epoch: int, declared: Mapping[str, Any]) -> dict[str, float]:
    if objective not in metrics:
        raise TrialFailed(
            f"epoch {epoch}: the task returned {', '.join(map(repr, metrics)) or 'nothing'}, "
            f"expected the objective {objective!r} among it",
            reason_kind="no_metric",
        )
    unknown = [name for name in metrics if name not in declared]
    if unknown:
        raise TrialFailed(
            f"epoch {epoch}: the task returned {', '.join(map(repr, unknown))}, which its `metrics` does not declare; "
            "add it there with its unit and meaning",
            reason_kind="no_metric",
        )
    numbers = {}
    for name, value in metrics.items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise TrialFailed(
                f"epoch {epoch}: {name} is {value!r:.80}, expected a number", reason_kind="no_metric"
            ) from error
    return numbers


def _classified(error: BaseException, starting: bool) -> tuple[str, str]:
    """Returns the kind of a failure, and the failure in a sentence."""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    reason = words.splitlines()[0][:500]
    if isinstance(error, SystemExit):
        return "exit", f"the task called for the end of the process ({reason})"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "host_memory", reason
    if _OUT_OF_MEMORY.search(words[:2000]):
        return "out_of_memory", reason
    own = getattr(error, "reason_kind", None)
    if isinstance(own, str):
        return own, reason
    return ("build" if starting else "error"), reason


def let_go_of_models() -> None:
    """Frees what the trainings before left in the process, as far as Keras can, if it is loaded."""
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.clear_session()  # collects garbage too: models hold their memory in cycles


def _tidy_up_after_the_dead() -> None:
    """Removes the folders of workers that were killed on this machine: they may hold whole checkpoints."""
    for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        pid = path.name.removeprefix(SCRATCH).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _seed(seed: int) -> None:
    """Seeds what is global, so that no trial depends on which trials its process ran before."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the task may use the global state; ours does not
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.set_random_seed(seed % 2**32)
