"""Which checkpoints stay: the last ones of what may go on, and the best of the sweep's best trials, as the disk allows.

Workers see to their own trial while it runs. Here the driver sees to trials that have ended, and to the sweep's budget.
"""

import logging

from results.storage import Storage
from search.checkpoints import FOLDER, Checkpoints, folder_of
from search.spec import CheckpointSettings
from search.state import SweepState

_log = logging.getLogger(__name__)


class Retention:
    """Removes checkpoints that are no longer wanted."""

    def __init__(self, storage: Storage, settings: CheckpointSettings):
        """Takes the sweep's storage and what it may keep there."""
        self._storage, self._settings = storage, settings
        self._seen: set[int] = set()
        self._kept: set[int] = set()

    def apply(self, state: SweepState) -> None:
        """Looks at the trials that have ended since the last time, then at the disk; call it after a flush.

        A completed trial keeps its last checkpoint, from which `search extend` goes on. A stopped or failed one keeps
        only its best, and only while it is among the best of the sweep.
        """
        ended = [trial for trial in state.ended if trial.trial not in self._seen]
        if not ended:
            return
        best = {trial.trial for trial in state.ranked()[: self._settings.keep_best]}
        self._seen |= {trial.trial for trial in ended}
        for number in {trial.trial for trial in ended} | (self._kept - best):
            trial = state.trials[number]
            place = Checkpoints(self._storage, number, "")
            place.prune(
                best_epoch=trial.best_epoch if number in best else None,
                newest=1 if trial.state == "completed" else 0,
            )
            if not place.names():
                place.clear()
        self._kept = (self._kept & best) | (best & self._seen)
        self._fit_the_disk(state)

    def _fit_the_disk(self, state: SweepState) -> None:
        """Removes the checkpoints of ended trials, the worst first, until all of them fit; the sweep's best stays."""
        total = self._storage.size(FOLDER)
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
