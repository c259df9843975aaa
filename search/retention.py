"""Which checkpoints stay: the last ones of what may go on, and the best of the sweep's best trials, as the disk allows.

Workers see to their own trial while it runs. Here the driver sees to trials that have ended, and to the sweep's budget.
"""

import logging
import math
import time
from collections.abc import Callable, Set

from results.storage import Storage
from search.checkpoints import FOLDER, Checkpoints, folder_of
from search.spec import CheckpointSettings
from search.state import ENDED, SweepState, TrialState

_log = logging.getLogger(__name__)

MEASURING_SHARE = 0.05
"""Adding up all checkpoints takes at most this share of the driver's time: among many, or far away, it is done less
often."""

MANY = 100
"""Of more trials than these it is found out first which have checkpoints at all: at the end of a long session, or at
the beginning of the next, most have none."""


class Retention:
    """Removes checkpoints that are no longer wanted."""

    def __init__(self, storage: Storage, settings: CheckpointSettings, *, clock: Callable[[], float] = time.monotonic):
        """Takes the sweep's storage, what it may keep there, and what tells seconds."""
        self._storage, self._settings, self._clock = storage, settings, clock
        self._seen: dict[int, int] = {}
        self._kept: set[int] = set()
        self._measure_at = -math.inf

    def apply(self, state: SweepState) -> None:
        """Looks at the trials that have ended since the last time, then at the disk; call it after a flush.

        A completed trial keeps its last checkpoint, from which `search extend` goes on. A stopped or failed one keeps
        only its best, and only while it is among the best of the sweep.
        """
        lately = (state.trials[number] for number in set(state.recently_ended))
        again = {trial.trial for trial in lately if trial.is_ended and self._seen.get(trial.trial) != trial.attempt}
        ended = (state.numbers(*ENDED) - self._seen.keys()) | again
        if not ended:
            return
        best = {trial.trial for trial in state.ranked(self._settings.keep_best)}
        self._seen |= {number: state.trials[number].attempt for number in ended}
        looked_at = self._with_folder(ended | (self._kept - best))
        self._storage.each(lambda number: self._prune(state.trials[number], number in best), looked_at)
        self._kept = (self._kept & best) | (best & self._seen.keys())
        began = self._clock()
        if began >= self._measure_at:
            self._fit_the_disk(state)
            self._measure_at = began + (self._clock() - began) / MEASURING_SHARE

    def _with_folder(self, numbers: Set[int]) -> Set[int]:
        """Returns those of the trials that have checkpoints; few are all taken to have some."""
        if len(numbers) <= MANY:
            return numbers
        there = set(self._storage.names(FOLDER))
        return {number for number in numbers if folder_of(number).rpartition("/")[2] in there}

    def _prune(self, trial: TrialState, is_best: bool) -> None:
        place = Checkpoints(self._storage, trial.trial, "")
        best_epoch = trial.best_epoch if is_best else None
        newest = 1 if trial.state == "completed" else 0
        if best_epoch is not None or newest:
            place.prune(best_epoch=best_epoch, newest=newest)
            if place.names():
                return
        place.clear()

    def _fit_the_disk(self, state: SweepState) -> None:
        """Removes the checkpoints of ended trials, the worst first, until all of them fit; the sweep's best stays."""
        total = self._storage.size(FOLDER)
        if total <= self._settings.disk_bytes:
            return
        ended = [trial.trial for trial in state.ranked() if trial.is_ended]
        for number in reversed(ended[1:]):
            if total <= self._settings.disk_bytes:
                return
            size = self._storage.size(folder_of(number))
            if size:
                _log.info("checkpoints of trial %d are removed: the disk budget is used up", number)
                self._storage.remove(folder_of(number))
                total -= size
        if total > self._settings.disk_bytes:
            _log.warning(
                "checkpoints take %.3g GB, above the budget of %.3g GB: those of trials that run are needed",
                total / 1e9,
                self._settings.disk_bytes / 1e9,
            )
