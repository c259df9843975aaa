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
    epochs: int = 12
    epoch_s: float = 0.4
    concurrency: int = 4
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
    "added": Plan(trials=6, epochs=100, models=0),
    "driver": Plan(),
    "head": Plan(),
    "storage": Plan(epochs=36),
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
    """An epoch that was trained: of which trial (by its seed), where, and when (ns of the machine below)."""

    seed: str
    epoch: int
    node: str
    when: int


class LabSweep:
    """One of them, sent from the laptop to the head."""

    def __init__(self, cluster, name):
        self.cluster, self.lab, self.name, self.plan = cluster, cluster.lab, name, PLANS[name]
        self.watched = self.lab.watched / name
        self.uri = Storage(self.lab.storage).child(name).uri
        self.started = 0

    def start(self, *words):
        """Sends it, or with `resume` and so on, what is to go on with it; the terminal is tmux on the head."""
        words = words or ("run", f"sweeps/lab/{self.name}.toml")
        self.started += 1
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

    def wait_for(self, condition, timeout=120):
        """Waits until a condition of its notes holds; returns them."""
        until = time.monotonic() + timeout
        while not condition(notes := self.notes()):
            if time.monotonic() > until or self.status is not None:
                raise TimeoutError(f"{self.name}: never came so far; it said\n{self.said[-1500:]}")
            time.sleep(0.05)
        return notes

    def notes(self):
        """The epochs that were trained, in order."""
        found = []
        if self.watched.exists():
            for path in self.watched.iterdir():
                if not path.name.startswith("."):
                    seed, epoch, _, when = path.name.split("-")
                    found.append(Note(seed, int(epoch), path.read_text(), int(when)))
        return sorted(found, key=lambda note: note.when)

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
            For each training that it was doing, of a trial or a final one: seconds until its next epoch, anywhere.
        """
        last = {}
        for note in self.notes():
            if note.when <= fault:
                last[note.seed] = note
        hit = {seed for seed, note in last.items() if note.node == node and note.epoch < self.plan.epochs}
        again = {}
        for note in self.notes():
            if note.seed in hit and note.when > fault and note.seed not in again and note.node != node:
                again[note.seed] = (note.when - fault) / 1e9
        assert set(again) == hit, f"not taken up again: {hit - set(again)}"
        return again
