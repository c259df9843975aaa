"""A stop, a lost storage or a lost lock at an awkward moment: what is saved, what is said, what comes next."""

import contextlib
import itertools
import json
import signal
import sys
import types
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from results.errors import StorageError
from results.ledger import Ledger
from results.storage import Storage
from search import sweep
from search.cli import main
from search.crews import BEGUN, Here, OnRay
from search.errors import SweepAborted, SweepStopped, TrialFailed
from search.final_models import scores_of
from search.final_trainings import FinalTrainingDone
from search.final_work import Place, Training, train
from search.trial import STOP_FILE, Worker
from tests.search import faults, rig
from tests.search.final_sweep import TASKS, Sweep

TWO = [(0.1, "completed", 0.5), (0.2, "completed", 0.6)]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A finished sweep; workers tell each epoch by itself and look for a stop after each."""
    monkeypatch.setattr("search.trial.STEP_S", 0.0)
    monkeypatch.setattr("search.trial.ASK_S", 0.0)
    return Sweep(tmp_path, TWO)


def training_of(toy, *, checkpoint_s=1000.0):
    place = Place(storage=toy.storage.uri, task=toy.task, options=toy.options, folder="", checkpoint_s=checkpoint_s)
    given = Training(final=0, values={"rate": 0.1}, seed=3, epochs=9, objective="loss", minimize=True)
    toy.storage.write("finals/sweep.json", b"{}")
    return train(place, given)


# --- the final job ----------------------------------------------------------------------------------------------------


def test_a_final_training_that_is_asked_to_stop_saves_first(toy):
    told = []

    def stopped_after_4():
        for message in training_of(toy):
            told.append(message["epoch"])
            if message["epoch"] == 4:
                sweep.request_stop(toy.storage)

    with pytest.raises(TrialFailed) as failure:
        stopped_after_4()
    assert failure.value.reason_kind == "user"
    assert told[-1] < 9
    toy.storage.remove(STOP_FILE)
    trained = len(toy.marks("epoch"))
    *_, last = training_of(toy)
    assert len(last["result"]["history"]) == 9
    assert len(toy.marks("epoch")) - trained == 9 - told[-1], "no epoch is trained again"


def test_a_storage_that_does_not_answer_for_a_moment_fails_no_final_training(toy, monkeypatch):
    exists, read = Storage.exists, Storage.read

    def away(path):
        if path == STOP_FILE:
            raise StorageError("the storage is away")

    monkeypatch.setattr(Storage, "exists", lambda self, path="": (away(path), exists(self, path))[1])
    monkeypatch.setattr(Storage, "read", lambda self, path: (away(path), read(self, path))[1])
    *_, last = training_of(toy)
    assert len(last["result"]["history"]) == 9


class SideBySide(Here):
    """All pieces at a time, a message of each in turn."""

    def run(self, work, arguments):
        pieces = [(number, super(SideBySide, self).run(work, [each])) for number, each in enumerate(arguments)]
        while pieces:
            for piece in list(pieces):
                number, messages = piece
                try:
                    yield number, next(messages)[1]
                except StopIteration:
                    pieces.remove(piece)

    def width(self):
        return 9


def test_a_final_job_that_is_asked_to_stop_lets_all_its_trainings_save_and_says_that_it_was_stopped(toy):
    began = itertools.count()

    def on_epoch(number, epoch, metrics):
        if next(began) == 5:
            sweep.request_stop(toy.storage)

    job = toy.job(crew=SideBySide())
    job._trainings._on_epoch = on_epoch
    with pytest.raises(SweepStopped, match=r"search final .*toy"):
        job.run()
    assert toy.table("finals") == []
    trained = len(toy.marks("epoch"))
    assert trained < 4 * 3
    toy.storage.remove(STOP_FILE)
    toy.job(crew=SideBySide()).run()
    assert len(toy.marks("epoch")) == 4 * 3, "no epoch is trained again"


# --- the whole session ------------------------------------------------------------------------------------------------


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

    def stop(self):
        sweep.request_stop(self.place)

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


@pytest.mark.parametrize("moment", ["connected", "worker_0", "worker_4", "loop_over"])
def test_whenever_a_sweep_is_asked_to_stop_it_says_so_and_goes_on_later(tmp_path, monkeypatch, moment):
    stage = Stage(tmp_path, monkeypatch)
    stage.moments[moment] = stage.stop
    first = stage.run()
    assert first.exit_code == 130
    assert f"go on: search resume {stage.place.uri}" in first.output
    assert stage.told == ["stopped"]
    assert stage.table("finals") == []
    stage.moments.clear()
    second = stage.search("resume", stage.place.uri)
    assert second.exit_code == 0, second.output
    assert stage.told == ["stopped", "finished"]
    assert len(stage.table("finals")) == 2
    assert {row["state"] for row in stage.table("trials")} == {"completed"}


def test_a_final_job_that_is_asked_to_stop_ends_as_a_sweep_does_and_goes_on_later(tmp_path, monkeypatch):
    stage = Stage(tmp_path, monkeypatch)
    stage.moments["training_0"] = stage.stop
    first = stage.run()
    assert first.exit_code == 130
    assert f"Stopped: the final job was stopped; `search final {stage.place.uri}` goes on with it" in first.output
    assert "Error" not in first.output
    assert stage.told == ["stopped"]
    assert len(stage.table("finals")) == 1
    assert stage.table("openings") == []
    stage.moments.clear()
    assert stage.search("final", stage.place.uri).exit_code == 0
    assert len(stage.table("finals")) == 2
    assert len(stage.table("openings")) == 1


@pytest.mark.parametrize("command", ["run", "final"])
def test_a_stop_after_the_last_final_training_leaves_the_test_split_closed(tmp_path, monkeypatch, command):
    stage = Stage(tmp_path, monkeypatch)
    stage.moments["training_1"] = stage.stop
    if command == "final":
        assert stage.search("run", stage.folder / "sweep.toml", "--no-final").exit_code == 0
        ended = stage.search("final", stage.place.uri)
    else:
        ended = stage.run()
    assert ended.exit_code == 130
    assert len(stage.table("finals")) == 2
    assert stage.table("openings") == []
    assert not stage.place.exists("bundle")
    assert stage.search("final", stage.place.uri).exit_code == 0
    assert len(stage.table("openings")) == 1
    assert len(stage.table("finals")) == 2


def test_a_stop_during_the_rehearsal_leaves_the_test_split_closed(toy, monkeypatch):
    def score(task, folder, split, real=scores_of):
        sweep.request_stop(toy.storage)
        return real(task, folder, split)

    monkeypatch.setattr("search.final_models.scores_of", score)
    with pytest.raises(SweepStopped):
        toy.job().run()
    assert toy.marks("score") == ["score valid"]
    assert toy.table("openings") == []


def test_an_extension_that_is_stopped_is_not_over(tmp_path, monkeypatch):
    stage = Stage(tmp_path, monkeypatch)
    assert stage.search("run", stage.folder / "sweep.toml", "--no-final").exit_code == 0
    assert stage.status["condition"] == "finished"
    stage.moments["worker_0"] = stage.stop
    stopped = stage.search("extend", stage.place.uri, "--epochs", "6", "--no-final")
    assert stopped.exit_code == 130
    assert stage.status["condition"] == "stopped"
    assert "4 trials left unfinished. `search resume" in stage.status["advice"]
    stage.moments["worker_0"] = stage.moments["connected"] = stage.stop  # none of them is handed out
    assert stage.search("resume", stage.place.uri, "--no-final").exit_code == 130
    assert stage.status["condition"] == "stopped"
    stage.moments.clear()
    assert stage.search("resume", stage.place.uri, "--no-final").exit_code == 0
    assert stage.status["condition"] == "finished"
    assert {row["epochs"] for row in stage.table("trials")} == {6}


@pytest.mark.parametrize("moment", ["training_0", "training_1"])
def test_status_says_how_a_final_job_goes_on_that_was_stopped(tmp_path, monkeypatch, moment):
    stage = Stage(tmp_path, monkeypatch)
    stage.moments[moment] = stage.stop
    assert stage.run().exit_code == 130
    assert stage.status["condition"] == "finished"
    assert f"`search final {stage.place.uri}` goes on with its final job" in stage.status["advice"]
    assert stage.search("final", stage.place.uri).exit_code == 0
    assert "final job" not in stage.status["advice"]


# --- machines that go away during the final job -----------------------------------------------------------------------


class Died(Exception):
    """Stands for an error of Ray's."""


class FakeRay(types.ModuleType):
    """As much of Ray as a crew asks for: each of its actors dies of what it is told, as long as there is something."""

    def __init__(self, deaths):
        super().__init__("ray")
        self.deaths = list(deaths)

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: self._actor(kind())))

    def _actor(self, member):
        def do(*call):
            for message in member.do(*call):
                yield message
                if message != BEGUN and self.deaths:
                    yield Died(self.deaths.pop(0))

        return SimpleNamespace(do=SimpleNamespace(options=lambda **_: SimpleNamespace(remote=do)))

    def wait(self, streams, **_):
        return streams[:1], []

    def get(self, message):
        if isinstance(message, Died):
            raise message
        return message

    def kill(self, member):
        pass


@pytest.mark.parametrize(
    ("death", "state"),
    [
        ("The actor died because its node has died. Node Id: ab12", "completed"),
        ("The actor is dead because its worker process has died.", "failed"),
    ],
)
def test_a_final_training_is_given_up_for_its_own_deaths_and_not_for_those_of_machines(monkeypatch, death, state):
    monkeypatch.setitem(sys.modules, "ray", FakeRay([death] * 5))
    monkeypatch.setitem(sys.modules, "ray.exceptions", SimpleNamespace(RayError=Died))
    crew = OnRay(cpus=1, gpus=0, retries=2)

    def work():
        yield {"epoch": 1}
        yield {"result": {}}

    *_, (_, last) = crew.run(work, [((), {})])
    assert ("completed" if "result" in last else "failed") == state


# --- Ray Tune's loop --------------------------------------------------------------------------------------------------


def test_a_loop_of_tunes_that_ends_by_itself_is_not_the_end_of_the_sweep(tmp_path, monkeypatch):
    from search import tune

    class Over:
        def __init__(self, *_, **options):
            pass

        def fit(self):
            pass

    monkeypatch.setattr(tune.tune, "Tuner", Over)
    given = rig.spec(tmp_path)
    with sweep.session(sweep.prepare(given), command="a test") as taken:
        place = taken.storage
        with pytest.raises(SweepAborted, match="search resume"):
            tune.run(taken.conductor, storage=place, worker=sweep.worker_options(given, place), on_beat=lambda: None)


@pytest.mark.slow
def test_sigusr1_which_tune_would_take_for_itself_ends_a_sweep_in_order(tmp_path):
    with faults.Cluster() as cluster:
        subject = faults.Subject(cluster, tmp_path, trials=10, epochs=60, epoch_s=0.3, every_s=600, scheduler="none")
        driver = subject.start()
        assert subject.wait_for_processes(2, driver=driver), subject.said
        driver.send_signal(signal.SIGUSR1)
        assert driver.wait(120) == 130, subject.said
        left = [trial for trial in faults.state_of(subject.place).trials.values() if trial.state != "completed"]
        assert {(trial.state, trial.reason_kind) for trial in left} == {("unfinished", "user")}
        trained = subject.trained
        assert sum(trial.epoch for trial in left) == trained, "what ran was saved"
        assert "go on: search resume" in subject.said


# --- a storage that is away, a lock that is lost ----------------------------------------------------------------------


def briefly_away(monkeypatch, method, *, when, times=2):
    """Lets a method of `Storage` fail some times where its first argument is such a path."""
    real, left = getattr(Storage, method), [times]

    def failing(self, path="", *args):
        if left[0] and when(self, path):
            left[0] -= 1
            raise StorageError(f"cannot {method} {path}: the storage is away")
        return real(self, path, *args)

    monkeypatch.setattr(Storage, method, failing)
    monkeypatch.setattr("search.crews.AGAIN_S", 0.01)
    monkeypatch.setattr("search.final_book.AGAIN_S", 0.01)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("write", "finals/models/00001.json"),  # a training's model, at its end
        ("read", "finals/models/00000.json"),  # to score the pieces, by which models are compared
        ("write_all", "finals/"),  # the ledger's rows
        ("write_all", "openings/"),
    ],
)
def test_a_storage_that_is_away_for_a_moment_changes_nothing_of_a_final_job(tmp_path, monkeypatch, method, path):
    toy = Sweep(tmp_path, TWO, task="Pieces")

    def when(storage, given):
        if method == "write_all":
            return storage.uri.endswith("/ledger") and any(each.startswith(path) for each in given)
        return given == path

    said = []
    briefly_away(monkeypatch, method, when=when)
    toy.job(say=said.append).run()
    assert [row["state"] for row in toy.table("finals")] == ["completed"] * 4
    assert len(toy.marks("pieces valid")) >= 4
    assert not [text for text in said if "could not" in text]
    assert len(toy.table("openings")) == 1


def test_a_final_job_whose_storage_stays_away_says_how_it_goes_on(toy, monkeypatch):
    monkeypatch.setattr("search.final_book.PATIENCE_S", 0.05)
    job = toy.job()
    briefly_away(monkeypatch, "write_all", when=lambda storage, _: storage.uri.endswith("/ledger"), times=99)
    with pytest.raises(SweepAborted, match=r"same command .* once the storage is back"):
        job.run()


def test_a_final_job_that_has_lost_its_sweep_to_another_driver_writes_nothing_more(tmp_path, monkeypatch):
    stage = Stage(tmp_path, monkeypatch)
    assert stage.search("run", stage.folder / "sweep.toml", "--no-final").exit_code == 0

    taken = []

    def check(lock):
        if taken:
            raise SweepAborted("another driver has taken this sweep over")

    monkeypatch.setattr("search.lock.Lock.check", check)
    stage.moments["training_0"] = lambda: taken.append("by another")
    ended = stage.search("final", stage.place.uri)
    assert ended.exit_code == 1
    assert "another driver has taken this sweep over" in ended.output
    assert len(stage.table("finals")) == 1
    assert stage.table("openings") == []
    assert not stage.place.exists("bundle")
