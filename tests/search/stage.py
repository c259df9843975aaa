"""A sweep with its final job, run by the command line without Ray; a test does what it likes at named moments."""

import contextlib
import itertools
import json

from click.testing import CliRunner

from results.ledger import Ledger
from results.storage import Storage
from search import stopping
from search.cli import main
from search.crews import Here
from search.errors import SweepAborted
from search.final_trainings import FinalTrainingDone
from search.trial import Worker
from tests.search.final_sweep import TASKS


class Stage:
    """A sweep with a final job, run by the command line; in place of Ray there is this process.

    Attributes:
        moments: what is done at which moment, by its name: `connected`, `worker 3` (before the worker's third step),
            `loop over`, `training 0` (when a final training has a row).
    """

    def __init__(self, folder, monkeypatch, **moments):
        self.folder, self.moments = folder, moments
        (folder / "log").mkdir()
        self.place = Storage(folder / "runs" / "toy")
        monkeypatch.setattr("search.trial.STEP_S", 0.0)
        monkeypatch.setattr("search.trial.ASK_S", 0.0)
        monkeypatch.setattr("search.tune.run", self._tune)
        monkeypatch.setattr("search.sweep.room", lambda share: 2)
        for module in ("sweep", "final"):
            monkeypatch.setattr(f"search.{module}.Connecting", self._connecting)
        monkeypatch.setattr("search.final_trainings.FinalTrainingDone", self._done)
        (folder / "sweep.toml").write_text(
            f"""
[sweep]
name = "toy"
task = "{TASKS}:Numbers"
objectives = ["loss min"]
trials = 4
epochs = 3
storage = "{folder / "runs"}"
[task]
log = "{folder / "log"}"
[searcher]
kind = "random"
[scheduler]
kind = "none"
[final]
models = 1
seeds = 2
[notify]
command = ["sh", "-c", "cat >> told.txt; echo >> told.txt"]
"""
        )

    def at(self, moment):
        self.moments.get(moment.replace(" ", "_"), lambda: None)()

    def lose_the_lock(self, moment, monkeypatch):
        """From this moment on, another driver has the sweep."""
        taken = []

        def check(lock):
            if taken:
                raise SweepAborted("another driver has taken this sweep over")

        monkeypatch.setattr("search.lock.Lock.check", check)
        self.moments[moment] = lambda: taken.append("by another")

    def stop(self):
        stopping.request(self.place)

    @contextlib.contextmanager
    def _connecting(self, spec, **options):
        yield Connected(self)

    def _done(self, **facts):
        self.at(f"training {facts['row']['final']}")
        return FinalTrainingDone(**facts)

    def _tune(self, conductor, *, storage, worker, on_beat):
        steps = itertools.count()
        crew = {}
        while not (conductor.is_finished() and not crew):
            while (attempt := conductor.next_attempt()) is not None:
                crew[attempt.trial] = attempt, Worker(**worker)
                crew[attempt.trial][1].begin(attempt)
            for trial, (attempt, each) in list(crew.items()):
                self.at(f"worker {next(steps)}")
                if not conductor.report(trial, attempt.attempt, each.step()):
                    each.close()
                    del crew[trial]
            conductor.tick()
            on_beat()
        self.at("loop over")

    def search(self, *words):
        return CliRunner().invoke(main, [*map(str, words)])

    def run(self):
        return self.search("run", self.folder / "sweep.toml")

    @property
    def told(self):
        return [json.loads(line)["event"] for line in (self.folder / "told.txt").read_text().splitlines() if line]

    def table(self, name):
        return Ledger(self.place).table(name).to_pylist()

    @property
    def status(self):
        return json.loads(self.search("status", self.place.uri, "--json").stdout)


class Connected(Here):
    """A crew of this process that has a moment of its connection."""

    def __init__(self, stage):
        self.stage = stage

    def connect(self):
        self.stage.at("connected")
        return ""
