"""The sweeps that run in the lab, and what they leave: books in the storage, notes of every epoch at the observer's."""

import dataclasses
import json
import re
import shlex
import sys
import time
from types import SimpleNamespace

from results.storage import Storage
from tests.cluster.lab import ROOT, WATCHED
from tests.search import faults

SLOTS = {"w1": 2, "w2": 2}
"""How many trainings each machine of the cluster does at a time."""
TEXT = """
[sweep]
name = "{name}"
task = "tests.cluster.lab_task:LabTask"
objectives = ["loss min"]
trials = {trials}
epochs = {epochs}
seed = 11
storage = "{storage}"
concurrency = {concurrency}
[task]
epoch_s = {epoch_s}
log = "{watched}/{name}"
[searcher]
kind = "{searcher}"
startup_trials = 5
[scheduler]
kind = "{scheduler}"
[checkpoints]
every = "1 s"
[final]
models = {models}
seeds = 1
"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is to do."""

    trials: int = 12
    epochs: int = 24
    epoch_s: float = 0.4
    concurrency: int = sum(SLOTS.values())
    searcher: str = "random"
    scheduler: str = "none"
    models: int = 2

    @property
    def all_epochs(self):
        """Of all trials and of the final trainings."""
        return (self.trials + self.models) * self.epochs


PLANS = {
    "undisturbed": Plan(),
    "power": Plan(),
    "cable": Plan(),
    "added": Plan(epochs=50, models=0),
    "driver": Plan(),
    "head": Plan(),
    "storage": Plan(),
    "clock": Plan(),
    "final": Plan(),
    "chorales": Plan(trials=2),
}
CHORALES = {
    r"^trials = .*": "trials = 2",
    r"^wall_time = .*": 'storage = "{storage}"\nname = "chorales"\nconcurrency = 2',
    r"^limit = .*": "limit = 6",
}
"""What is different from `sweeps/smoke.toml`."""


def sweep_files(lab):
    """The texts of their files, by name."""
    texts = {
        name: TEXT.format(name=name, storage=lab.storage, watched=WATCHED, **dataclasses.asdict(plan))
        for name, plan in PLANS.items()
    }
    text = (ROOT / "sweeps" / "smoke.toml").read_text()
    for pattern, line in CHORALES.items():
        text, count = re.subn(pattern, line.format(storage=lab.storage), text, flags=re.MULTILINE)
        assert count == 1, pattern
    return texts | {"chorales": text}


@dataclasses.dataclass(frozen=True)
class Note:
    """An epoch that was trained: of which trial (by its seed), where, and when (ns of the machine below).

    Trials and final trainings have a seed each; `worker` is the machine and the number of the process there.
    """

    seed: str
    epoch: int
    worker: tuple[str, int]
    when: int

    @property
    def node(self):
        return self.worker[0]


class LabSweep:
    """One of them, sent from the laptop to the head."""

    def __init__(self, cluster, name):
        self.cluster, self.lab, self.name, self.plan = cluster, cluster.lab, name, PLANS[name]
        self.watched = self.lab.watched / name
        self.uri = Storage(self.lab.storage).child(name).uri
        self._notes = {}

    def start(self, *words):
        """Sends it, or with `resume` and so on, what is to go on with it; the terminal is tmux on the head."""
        words = words or ("run", f"sweeps/lab/{self.name}.toml")
        log, mark = f"~/{self.name}.log", f"~/{self.name}.exit"
        command = f"cd chorale-search && search {shlex.join(words)} --address auto >> {log} 2>&1; echo $? > {mark}"
        (self.cluster.head.home / f"{self.name}.exit").unlink(missing_ok=True)
        self.cluster.in_tree(f"ray exec --tmux lab.yaml {shlex.quote(command)}")

    def resume(self):
        """Goes on with it."""
        self.start("resume", self.uri)

    @property
    def said(self):
        """What its drivers printed."""
        path = self.cluster.head.home / f"{self.name}.log"
        return path.read_text() if path.exists() else ""

    @property
    def status(self):
        """The exit status of the driver that was started last; None while it runs."""
        path = self.cluster.head.home / f"{self.name}.exit"
        text = path.read_text().strip() if path.exists() else ""
        return int(text) if text else None

    def wait(self, timeout=240):
        """Waits for the driver's end; returns its exit status."""
        until = time.monotonic() + timeout
        while self.status is None:
            if time.monotonic() > until:
                raise TimeoutError(f"{self.name}: no end after {timeout} s\n{self.said[-3000:]}")
            time.sleep(0.1)
        return self.status

    def wait_for(self, condition, timeout=240):
        """Waits until a condition of its notes holds; returns them."""
        until = time.monotonic() + timeout
        while True:
            is_over = self.status is not None or time.monotonic() > until  # of this moment, so that no note comes later
            if condition(notes := self.notes()):
                return notes
            if is_over:
                raise TimeoutError(f"{self.name}: never came so far; it said\n{self.said[-1500:]}")
            time.sleep(0.05)

    def notes(self):
        """The epochs that were trained, in order."""
        if self.watched.exists():
            for path in self.watched.iterdir():
                if path.name not in self._notes:
                    seed, epoch, pid, when = path.name.split("-")
                    self._notes[path.name] = Note(seed, int(epoch), (path.read_text(), int(pid)), int(when))
        return sorted(self._notes.values(), key=lambda note: note.when)

    def under_way(self, notes, node):
        """The last notes of the trainings that a machine is at and has begun to tell of."""
        last = {note.seed: note for note in notes}
        return [note for note in last.values() if note.node == node and note.epoch < self.plan.epochs]

    def in_the_middle(self, notes, node):
        """How many trainings a machine is in the middle of, so that a fault surely meets them there.

        Returns:
            0 if one of them is near its beginning or its end.
        """
        epochs = [note.epoch for note in self.under_way(notes, node)]
        return len(epochs) if all(3 <= epoch <= self.plan.epochs - 8 for epoch in epochs) else 0

    def kill_driver(self):
        """Ends its driver with SIGKILL."""
        self.cluster.head.run(f"pkill -KILL -f '[b]in/search .*{self.name}'")

    def books(self):
        """What its books hold, see `tests.cluster.books`."""
        text = self.cluster.laptop.here(
            sys.executable, "-m", "tests.cluster.books", self.uri, str(self.plan.trials), timeout=120
        )
        return json.loads(text)

    def trained_again(self):
        """Epochs trained in all, those trained again, and the most that one attempt did again."""
        return faults.trained_again(SimpleNamespace(epochs_log=self.watched))

    def recovery(self, fault, node):
        """What became of the trials that ran on a machine when it was lost.

        Args:
            fault: when, in ns.
            node: the machine.

        Returns:
            For each training that it was doing, of a trial or a final one: seconds until its next epoch in another
            process, anywhere; the one that it was in may go on without a network for a moment.
        """
        notes = self.notes()
        hit = {note.seed: note for note in self.under_way([note for note in notes if note.when <= fault], node)}
        again = {}
        for note in notes:
            if note.seed in hit and note.when > fault and note.worker != hit[note.seed].worker:
                again.setdefault(note.seed, (note.when - fault) / 1e9)
        assert hit, f"{node} was at nothing"
        assert set(again) == set(hit), f"not taken up again: {set(hit) - set(again)}"
        return again
