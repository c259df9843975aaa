"""A cluster that is not there: many workers as events in a queue, in virtual time, around the real driver.

Searcher, scheduler, state, ledger, retention and screen are those of a sweep that runs; only the workers and Ray Tune
between them and the driver are left out. The driver's clock is that of the queue, and the CPU time that the driver
uses passes on it: a driver that is busy for longer than the workers train lets them wait, as a real one would.
"""

import contextlib
import dataclasses
import heapq
import io
import math
import random
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from results.ledger import Ledger, Writer
from search import folders, preparation, sweep
from search.attempts import Attempt, Progress
from search.conductor import Conductor
from search.retention import Retention
from search.snapshot import Limits, take
from search.spec import CheckpointSettings, FinalSettings, Objective, SchedulerSettings, SearcherSettings, SweepSpec
from search.view import LiveView

START = 1_800_000_000.0
"""Virtual time begins here, in seconds since 1970."""
IDLE_S = 0.1
"""Ray Tune's loop comes round so often when no worker has anything to tell."""
METRICS_S = 5.0
WIDTH, HEIGHT = 120, 40


METRICS = {
    "val_nll": ("nats/note", "what is minimised", "min"),
    "val_accuracy": ("share", "of no meaning", "max"),
    "train_loss": ("nats/note", "of no meaning"),
    "learning_rate": ("", "of no meaning"),
    "train_notes_per_s": ("notes/s", "of no meaning"),
    "num_parameters": ("", "of no meaning"),
}


class Nothing:
    """A task with as many parameters and metrics as that of the chorales, whose epochs are only reckoned."""

    metrics = METRICS

    def space(self, hp: Any) -> None:
        """Declares 18 parameters, 12 of which each configuration has."""
        hp.Float("train.learning_rate", 1e-4, 1e-1, sampling="log")
        hp.Float("train.dropout", 0.0, 0.5)
        hp.Float("train.ema", 0.9, 0.999)
        hp.Int("train.batch", 8, 128, step=8)
        hp.Choice("train.optimizer", ["adam", "adamw", "sgd"])
        family = hp.Choice("model.family", ["one", "two", "three"])
        for name in ("one", "two", "three"):
            with hp.conditional_scope("model.family", [name]):
                if family == name:
                    hp.Int(f"{name}.width", 16, 512, step=16)
                    hp.Int(f"{name}.layers", 1, 8)
                    hp.Float(f"{name}.dropout", 0.0, 0.5)
                    hp.Choice(f"{name}.norm", ["none", "layer", "batch"])

    def start(self, values: Mapping[str, Any], *, epochs: int, seed: int) -> Any:
        """Starts nothing: the workers are not real."""
        raise NotImplementedError


def spec(folder: str, *, trials: int, epochs: int, searcher: Any, scheduler: Any) -> SweepSpec:
    """Returns the sweep that the cluster runs."""
    return SweepSpec(
        name="crowd",
        task=f"{__file__}:Nothing",
        objectives=(Objective(metric="val_nll", goal="min"),),
        trials=trials,
        epochs=epochs,
        seed=4,
        storage=folder,
        searcher=SearcherSettings(kind=searcher),
        scheduler=SchedulerSettings(kind=scheduler, first_rung=1, audit_share=0.05),
        checkpoints=CheckpointSettings(),
        final=FinalSettings(models=0),
    )


class Clock:
    """Virtual time: that of the events, and the CPU time of the driver on top while it works.

    Attributes:
        at: seconds since 1970.
        busy_s: CPU seconds of the driver so far.
        calls: what each kind of call took, in order.
    """

    def __init__(self) -> None:
        """Begins at `START`."""
        self.at, self.busy_s = START, 0.0
        self.calls: dict[str, array[float]] = {}
        self._since: float | None = None

    def __call__(self) -> float:
        """Returns the time now."""
        return self.at if self._since is None else self.at + time.process_time() - self._since

    @contextlib.contextmanager
    def working(self, kind: str) -> Iterator[None]:
        """Counts what happens inside as the driver's work."""
        self._since = began = time.process_time()
        try:
            yield
        finally:
            took = time.process_time() - began
            self._since = None
            self.at += took
            self.busy_s += took
            self.calls.setdefault(kind, array("d")).append(took)


class Terminal(io.StringIO):
    """A terminal that nobody looks at."""

    def isatty(self) -> bool:
        """Says that it is one."""
        return True

    def write(self, text: str) -> int:
        """Takes a text and forgets it."""
        return len(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reached:
    """What had come about when so many trials had left their workers, and what it took since half as many had.

    Attributes:
        trials: that had ended or were paused.
        workers: at a time.
        results: epochs told since.
        calls: CPU seconds of each call since, by kind.
        busy: share of the time since in which the driver worked.
        idle: share of the workers' time since in which they waited for the driver.
        ledger_mb: size of the ledger.
        files: of the ledger.
        snapshot_s: CPU seconds of a snapshot.
        drawing_s: CPU seconds of drawing it.
    """

    trials: int
    workers: int
    results: int
    calls: Mapping[str, np.ndarray]
    busy: float
    idle: float
    ledger_mb: float
    files: int
    snapshot_s: float
    drawing_s: float


class Crowd:
    """Workers that train nothing, and the driver that they keep busy."""

    def __init__(self, given: SweepSpec, *, workers: int, epoch_s: float, copies: str = ""):
        """Begins the sweep.

        Args:
            given: what runs.
            workers: at a time.
            epoch_s: mean length of an epoch; of one trial they are all alike, from half of it to half as much again.
            copies: a folder in which a copy of the sweep is left each time that something is reached; "" for none.
        """
        self.clock, self._workers, self._epoch_s, self._copies = Clock(), workers, epoch_s, copies
        self.storage = folders.folder_of(given)
        prepared = preparation.prepare(given)
        self.conductor: Conductor = preparation.make_conductor(
            prepared,
            Writer(self.storage, prepared.schema, session=1, next_seq=0),
            session=1,
            concurrency=workers,
            clock=self.clock,
        )
        self.conductor.replay(())
        self.conductor.note("sessions", {"session": 1, "command": "a benchmark"})
        self._limits = Limits.of(given)
        self._view = LiveView(self.snapshot, stream=Terminal(), clock=self.clock)
        self._view._console.size = (WIDTH, HEIGHT)
        self._retention = Retention(self.storage, given.checkpoints, clock=self.clock)
        self._retained = self._measured = self.clock()
        self._queue: list[tuple[float, int, Attempt, int]] = []
        self._ended = self._results = self._num = 0
        self._waited_s = 0.0

    def snapshot(self) -> Any:
        """Takes a snapshot of the sweep."""
        return take(self.conductor.state, self._limits, now=self.clock(), condition="running")

    def run(self, marks: list[int]) -> Iterator[Reached]:
        """Runs the sweep; yields what was reached whenever one of `marks` many trials have left their workers."""
        try:
            for mark in marks:
                self._until(mark // 2)
                calls = {kind: len(took) for kind, took in self.clock.calls.items()}
                before = self.clock(), self.clock.busy_s, self._results, self._waited_s
                self._until(mark)
                yield self._reached(mark, calls, *before)
        finally:
            self._view.close()

    def _until(self, left: int) -> None:
        """Lets things happen until so many trials have ended or are paused, or there is nothing more to do."""
        state = self.conductor.state
        while len(state.trials) - len(self.conductor.running) < left:
            self._fill()
            if not self._queue:
                with self.clock.working("next_attempt"):
                    if self.conductor.is_finished():
                        return
                continue
            moment = self._queue[0][0]
            while (now := self.clock()) < moment:
                self.clock.at = min(moment, now + IDLE_S)
                self._beat()
            self._waited_s += now - moment
            self._tell(*heapq.heappop(self._queue)[2:])
            self._beat()

    def _fill(self) -> None:
        while True:
            with self.clock.working("next_attempt"):
                attempt = self.conductor.next_attempt()
            if attempt is None:
                return
            self._train(attempt, attempt.known_epoch + 1)

    def _train(self, attempt: Attempt, epoch: int) -> None:
        self._num += 1
        heapq.heappush(self._queue, (self.clock() + self._took(attempt), self._num, attempt, epoch))

    def _took(self, attempt: Attempt) -> float:
        return self._epoch_s * (0.5 + attempt.seed % 1009 / 1008)

    def _tell(self, attempt: Attempt, epoch: int) -> None:
        """Tells what an epoch gave, as a document, as it comes out of Ray."""
        last = epoch >= attempt.epochs
        took = self._took(attempt)
        loss = _loss(attempt, epoch)
        metrics = {
            "val_nll": loss,
            "val_accuracy": 1 / (1 + loss),
            "train_loss": 0.9 * loss,
            "learning_rate": attempt.values["train.learning_rate"] / epoch,
            "train_notes_per_s": 41_234.5,
            "num_parameters": 396_810.0,
        }
        row = {"epoch": epoch, "duration_s": took, "ended": self.clock(), "metrics": metrics}
        facts = {
            "node": f"10.0.{attempt.trial % self._workers // 250}.{attempt.trial % 250}",
            "pid": 1000 + attempt.trial % self._workers,
            "from_epoch": attempt.known_epoch,
            "start_s": 1.5,
            "train_s": took * (epoch - attempt.known_epoch),
            "wall_s": 1.5 + took * (epoch - attempt.known_epoch),
            "peak_memory_mb": 812.5,
        }
        told = Progress(epochs=(row,), outcome="completed" if last else None, facts=facts).document()
        self._results += 1
        with self.clock.working("report"):
            goes_on = self.conductor.report(attempt.trial, attempt.attempt, Progress.of(told))
        if goes_on:
            self._train(attempt, epoch + 1)

    def _beat(self) -> None:
        """Does what is due now and then, as `search.tune`, `search.sweep` and `search.cli` do."""
        now = self.clock()
        with self.clock.working("flush"):
            self.conductor.tick()
        if now - self._retained >= sweep.RETENTION_S:
            self._retained = now
            with self.clock.working("flush"):
                self.conductor.flush()
            with self.clock.working("retention"):
                self._retention.apply(self.conductor.state)
        with self.clock.working("view"):
            self._view.tick()
        if now - self._measured >= METRICS_S:
            self._measured = now
            with self.clock.working("metrics"):
                self.snapshot()

    def _reached(
        self, trials: int, calls: Mapping[str, int], began: float, busy_s: float, results: int, waited_s: float
    ) -> Reached:
        seconds = self.clock() - began
        since = {kind: np.array(took[calls.get(kind, 0) :]) for kind, took in self.clock.calls.items()}
        self.conductor.flush()
        if self._copies:
            shutil.copytree(self.storage.uri, f"{self._copies}/{trials}/crowd")
        listing = Ledger(self.storage).parts.listing()
        return Reached(
            trials=trials,
            workers=self._workers,
            results=self._results - results,
            calls=since,
            busy=(self.clock.busy_s - busy_s) / seconds if seconds else math.nan,
            idle=(self._waited_s - waited_s) / (seconds * self._workers) if seconds else math.nan,
            ledger_mb=self.storage.size("ledger") / 1e6,
            files=sum(map(len, listing.values())),
            snapshot_s=_cpu_s(self.snapshot),
            drawing_s=_cpu_s(lambda: self._view.tick(now=True)),
        )


def _loss(attempt: Attempt, epoch: int) -> float:
    """Falls to a floor that depends on the configuration; the noise is a function of seed and epoch."""
    values = attempt.values
    floor = 0.3 + 0.05 * math.log10(values["train.learning_rate"] / 1e-3) ** 2 + 0.2 * values["train.dropout"]
    return floor + math.exp(-0.3 * epoch) + random.Random(attempt.seed + epoch).gauss(0, 0.01)


def _cpu_s(function: Callable[[], Any], times: int = 3) -> float:
    """Returns the CPU seconds of a call, the least of a few."""
    took = []
    for _ in range(times):
        began = time.process_time()
        function()
        took.append(time.process_time() - began)
    return min(took)
