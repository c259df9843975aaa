"""A stop, a lost storage, machine or lock during the final job: what is saved, and that the test split stays closed."""

import itertools
import sys
import types
from types import SimpleNamespace

import pytest

from results.errors import StorageError
from results.storage import Storage
from search import stopping
from search.crews import BEGUN, Here, OnRay
from search.errors import SweepAborted, SweepStopped, TrialFailed
from search.final_models import scores_of
from search.final_work import Place, Training, train
from tests.search.final_sweep import Sweep
from tests.search.stage import Stage

TWO = [(0.1, "completed", 0.5), (0.2, "completed", 0.6)]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


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


def test_a_final_training_that_is_asked_to_stop_saves_first(toy):
    told = []

    def stopped_after_4():
        for message in training_of(toy):
            told.append(message["epoch"])
            if message["epoch"] == 4:
                stopping.request(toy.storage)

    with pytest.raises(TrialFailed) as failure:
        stopped_after_4()
    assert failure.value.reason_kind == "user"
    assert told[-1] < 9
    toy.storage.remove(stopping.FILE)
    trained = len(toy.marks("epoch"))
    *_, last = training_of(toy)
    assert len(last["result"]["history"]) == 9
    assert len(toy.marks("epoch")) - trained == 9 - told[-1], "no epoch is trained again"


def test_a_storage_that_does_not_answer_for_a_moment_fails_no_final_training(toy, monkeypatch):
    exists, read = Storage.exists, Storage.read

    def away(path):
        if path == stopping.FILE:
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
            stopping.request(toy.storage)

    job = toy.job(crew=SideBySide())
    job._trainings._on_epoch = on_epoch
    with pytest.raises(SweepStopped, match=r"search final .*toy"):
        job.run()
    assert toy.table("finals") == []
    trained = len(toy.marks("epoch"))
    assert trained < 4 * 3
    toy.storage.remove(stopping.FILE)
    toy.job(crew=SideBySide()).run()
    assert len(toy.marks("epoch")) == 4 * 3, "no epoch is trained again"


def test_a_final_job_that_is_asked_to_stop_ends_as_a_sweep_does_and_goes_on_later(stage):
    stage.moments["training_0"] = stage.stop
    first = stage.run()
    assert first.exit_code == 130
    assert "(its final job was stopped)" in first.output
    assert f"go on: search resume {stage.place.uri}" in first.output
    assert "Error" not in first.output
    assert stage.told == ["stopped"]
    assert len(stage.table("finals")) == 1
    assert stage.table("openings") == []
    stage.moments.clear()
    assert stage.search("final", stage.place.uri).exit_code == 0
    assert len(stage.table("finals")) == 2
    assert len(stage.table("openings")) == 1


@pytest.mark.parametrize("command", ["run", "final"])
def test_a_stop_after_the_last_final_training_leaves_the_test_split_closed(stage, command):
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
        stopping.request(toy.storage)
        return real(task, folder, split)

    monkeypatch.setattr("search.final_models.scores_of", score)
    with pytest.raises(SweepStopped):
        toy.job().run()
    assert toy.marks("score") == ["score valid"]
    assert toy.table("openings") == []


@pytest.mark.parametrize("moment", ["training_0", "training_1"])
def test_status_says_how_a_final_job_goes_on_that_was_stopped(stage, moment):
    stage.moments[moment] = stage.stop
    assert stage.run().exit_code == 130
    assert stage.status["condition"] == "finished"
    assert f"`search final {stage.place.uri}` goes on with its final job" in stage.status["advice"]
    assert stage.search("final", stage.place.uri).exit_code == 0
    assert "final job" not in stage.status["advice"]


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


def test_a_final_job_that_has_lost_its_sweep_to_another_driver_writes_nothing_more(stage, monkeypatch):
    assert stage.search("run", stage.folder / "sweep.toml", "--no-final").exit_code == 0
    stage.lose_the_lock("training_0", monkeypatch)
    ended = stage.search("final", stage.place.uri)
    assert ended.exit_code == 1
    assert "another driver has taken this sweep over" in ended.output
    assert len(stage.table("finals")) == 1
    assert stage.table("openings") == []
    assert not stage.place.exists("bundle")
