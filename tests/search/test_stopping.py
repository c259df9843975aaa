"""A stop of a sweep, or a lost storage, at an awkward moment: what is saved, what is said, what comes next."""

import json
import signal

import pytest

from results.errors import StorageError
from results.storage import Storage
from search import preparation, stopping, sweep
from search.attempts import Progress
from search.errors import SweepAborted
from search.lock import Lock
from search.retention import Retention
from search.spec import ResourceSettings, SchedulerSettings
from tests.search import faults, rig
from tests.search.stage import Stage


@pytest.fixture
def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


@pytest.mark.parametrize("moment", ["connected", "worker_0", "worker_4", "loop_over"])
def test_whenever_a_sweep_is_asked_to_stop_it_says_so_and_goes_on_later(stage, moment):
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


def test_an_extension_that_is_stopped_is_not_over(stage):
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


def away(monkeypatch, owner, method, *, when=lambda *_: True):
    """Lets a method fail once it is told to, and then once; returns what tells it."""
    real, left = getattr(owner, method), []

    def failing(self, *args):
        if left and when(*args):
            left.pop()
            raise StorageError("the storage is away")
        return real(self, *args)

    monkeypatch.setattr(owner, method, failing)
    return lambda: left.append(1)


def is_the_request(path, *_):
    return path == stopping.FILE


def test_a_ctrl_c_that_meets_a_storage_that_is_away_stops_all_the_same(stage, monkeypatch):
    monkeypatch.setattr("search.sweep.POLL_S", 0.0)
    away(monkeypatch, Storage, "write", when=is_the_request)()
    stage.moments["worker_1"] = lambda: signal.raise_signal(signal.SIGINT)
    assert stage.run().exit_code == 130
    assert {row["state"] for row in stage.table("trials")} == {"unfinished"}


@pytest.mark.parametrize(("owner", "method", "when"), [
    (Storage, "read", is_the_request),
    (Retention, "apply", lambda *_: True),
])  # fmt: skip
def test_a_storage_that_is_away_when_the_trials_are_over_keeps_no_final_job_off(
    stage, monkeypatch, owner, method, when
):
    monkeypatch.setattr("search.sweep.POLL_S", 0.0)
    stage.moments["loop_over"] = away(monkeypatch, owner, method, when=when)
    assert stage.run().exit_code == 0
    assert len(stage.table("finals")) == 2


def test_a_stop_that_comes_just_after_the_lock_was_taken_is_heeded_and_one_from_before_is_not(stage, monkeypatch):
    real = Lock.acquire

    def acquire(lock):
        real(lock)
        stage.stop()

    monkeypatch.setattr(Lock, "acquire", acquire)
    assert stage.run().exit_code == 130
    monkeypatch.setattr(Lock, "acquire", real)
    assert stage.place.exists(stopping.FILE)
    assert stage.search("resume", stage.place.uri).exit_code == 0


def test_a_sweep_that_ends_by_its_budget_after_it_was_stopped_is_finished(stage):
    stage.moments["worker_2"] = stage.stop
    assert stage.run().exit_code == 130
    stage.moments.clear()
    ended = stage.search("extend", stage.place.uri, "--wall-time", "0.01 s", "--no-final")
    assert ended.exit_code == 0
    assert "budget is used up" in ended.output
    assert stage.status["condition"] == "finished"


def test_a_request_for_a_budget_stops_no_final_job(stage):
    stage.moments["loop_over"] = lambda: stopping.request_for_budget(stage.place, "the time is over")
    assert stage.run().exit_code == 0
    assert len(stage.table("finals")) == 2


def test_a_request_for_a_budget_takes_no_users_place(tmp_path):
    place = Storage(tmp_path)
    stopping.request(place)
    assert stopping.request_for_budget(place, "the time is over")
    assert stopping.is_requested(place, "user")


def test_the_final_job_of_a_run_that_has_lost_its_sweep_to_another_driver_writes_nothing_more(stage, monkeypatch):
    stage.lose_the_lock("training_0", monkeypatch)
    assert stage.run().exit_code == 1
    assert stage.table("openings") == []


def test_a_run_that_is_stopped_in_its_final_job_tells_programs_so_too(stage):
    stage.moments["training_0"] = stage.stop
    done = stage.search("run", stage.folder / "sweep.toml", "--json")
    assert done.exit_code == 130
    assert json.loads(done.stdout)["finished"] is False


def test_a_worker_that_dies_after_a_stop_was_asked_for_fails_no_trial(tmp_path):
    given = rig.spec(tmp_path, scheduler=SchedulerSettings(kind="none"), resources=ResourceSettings(retries=0))
    with sweep.session(preparation.prepare(given), command="a test") as taken:
        conductor = taken.conductor
        attempt = conductor.next_attempt()
        assert attempt is not None
        conductor.began(attempt.trial, attempt.attempt)
        conductor.stopping = True
        died = Progress(outcome="lost", reason_kind="worker_died", reason="its process ended")
        conductor.failed(attempt.trial, attempt.attempt, died)
        conductor.close()
    trial = conductor.state.trials[0]
    assert trial.state == "unfinished"
    assert not trial.attempts[1].own_fault


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
    with sweep.session(preparation.prepare(given), command="a test") as taken:
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
