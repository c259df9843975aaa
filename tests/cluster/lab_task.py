"""The fake task as the lab runs it: each epoch takes a moment and leaves a note of where and when it was trained.

Notes go into a folder that all machines of the lab have, past their network: it is the observer's, not the sweep's.
"""

import os
import platform
import time
from pathlib import Path

from tests.search.fake_task import Curve, FakeTask


class LabTask(FakeTask):
    """Trains nothing, slowly."""

    def start(self, values, *, epochs, seed):
        return _Noted(Curve(values, epochs=epochs, seed=seed, epoch_s=self.epoch_s), Path(self.log), seed)


class _Noted:
    def __init__(self, run, folder, seed):
        self.run, self.folder, self.seed = run, folder, seed
        self.save, self.restore = run.save, run.restore

    def epoch(self):
        metrics = self.run.epoch()
        self.folder.mkdir(exist_ok=True)
        name = f"{self.seed}-{self.run.done}-{os.getpid()}-{time.monotonic_ns()}"
        new = self.folder.with_name(f".{self.folder.name}-{name}")  # whoever is killed here leaves no half note there
        new.write_text(platform.node())
        new.rename(self.folder / name)
        return metrics
