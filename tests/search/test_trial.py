"""A worker runs the epochs of an attempt, whatever the task does, and is ready for the next one."""

import errno
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results.storage import Storage
from search import stopping
from search.attempts import Attempt, Progress
from search.checkpoints import SPEC_FILE
from search.trial import Worker, _classified

FAKES = Path(__file__).parent / "fake_task.py"


def attempt(**changes):
    given = {
        "trial": 3,
        "attempt": 1,
        "cause": "first",
        "values": {"rate": 1e-2, "kind": "plain"},
        "seed": 5,
        "epochs": 6,
        "milestones": (2,),
        "known_epoch": 0,
        "objective": "loss",
        "minimize": True,
        "time_limit_s": None,
        "checkpoint_s": 0.0,
        "cpus": 1.0,
        "gpus": 0.0,
        "handed_out": time.time(),
    }
    return Attempt(**given | changes)


@pytest.fixture
def worker(tmp_path):
    made = []
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / SPEC_FILE).touch()

    def make(task="FakeTask", *, memory_limit_mb=None, **options):
        made.append(
            Worker(
                storage=str(tmp_path / "sweep"),
                task=f"{FAKES}:{task}",
                options=options,
                memory_limit_mb=memory_limit_mb,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a slow disk an epoch with its checkpoint may take longer than epochs are told together for."""
    monkeypatch.setattr("search.trial.STEP_S", 60.0)


def run(worker, **changes):
    worker.begin(attempt(**changes))
    told = [worker.step()]
    while told[-1].outcome is None:
        told.append(worker.step())
    return told


def test_short_epochs_are_told_together_but_never_across_a_milestone(worker):
    first, rest = run(worker())
    assert [row["epoch"] for row in first.epochs] == [1, 2]
    assert [row["epoch"] for row in rest.epochs] == [3, 4, 5, 6]
    assert rest.outcome == "completed"


def test_what_is_told_survives_the_way_through_ray(worker):
    (*_, last) = run(worker())
    assert Progress.of(last.document()) == last
    one = attempt()
    assert Attempt.of(one.document()) == one


def test_a_lost_attempt_goes_on_from_its_checkpoint_and_tells_what_the_driver_does_not_know(worker):
    one = worker()
    one.begin(attempt())
    first = one.step()
    one.end()
    second = run(worker(), attempt=2, cause="lost", known_epoch=1)
    told = [row["epoch"] for progress in second for row in progress.epochs]
    assert told == [2, 3, 4, 5, 6]  # epoch 2 is told again, not trained again
    assert second[0].facts["from_epoch"] == 2
    assert second[0].epochs[0]["ended"] == first.epochs[1]["ended"]


def test_an_attempt_that_is_restored_at_a_milestone_asks_before_it_goes_on(worker):
    one = worker()
    one.begin(attempt())
    one.step()
    one.begin(attempt(attempt=2, cause="resumed"))
    restored = one.step()
    assert [row["epoch"] for row in restored.epochs] == [1, 2]
    assert restored.outcome is None


def test_a_task_that_cannot_save_starts_over(worker):
    one = worker("ThreeLines")
    run(one)
    again = run(one, attempt=2, cause="lost", known_epoch=4)
    assert [row["epoch"] for progress in again for row in progress.epochs] == [1, 2, 3, 4, 5, 6]


def test_a_first_attempt_goes_on_where_a_session_died_that_could_not_write_down_that_it_had_begun(worker):
    one = worker()
    one.begin(attempt())
    one.step()
    told = run(one)
    assert told[0].facts["from_epoch"] == 2
    assert [row["epoch"] for progress in told for row in progress.epochs] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_another_configuration_is_left_alone(worker):
    one = worker()
    run(one)
    first, *_ = run(one, values={"rate": 1e-3, "kind": "plain"})
    assert first.facts["from_epoch"] == 0


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        ("start", "build", "ValueError: cannot start"),
        ("epoch", "error", "ValueError: cannot train"),
        ("no_metric", "no_metric", "epoch 2: the task returned 'speed', expected the objective 'loss' among it"),
        ("no_mapping", "no_metric", "epoch 2: the task returned NoneType, expected a mapping"),
        ("text", "no_metric", "epoch 2: loss is 'low', expected a number"),
        ("nan", "non_finite", "epoch 2: loss is nan, no finite number"),
        ("inf", "non_finite", "epoch 2: loss is inf, no finite number"),
        ("exit", "exit", "the task called for the end of the process"),
        ("memory", "host_memory", "MemoryError"),
        ("oom", "out_of_memory", "RESOURCE_EXHAUSTED"),
    ],
)
def test_every_fault_of_a_task_ends_the_attempt_with_its_reason_and_leaves_the_worker(worker, how, kind, reason):
    one = worker("Broken", how=how, after=1, kind="plain")
    told = run(one)
    assert told[-1].outcome == "failed"
    assert told[-1].reason_kind == kind
    assert reason in told[-1].reason
    rows = [row for progress in told for row in progress.epochs]
    assert [row["epoch"] for row in rows][:1] == ([] if how == "start" else [1])
    if how in ("nan", "inf"):
        assert not math.isfinite(rows[-1]["metrics"]["loss"])
    assert run(one, trial=4, values={"rate": 1e-2, "kind": "wide", "width": 8})[-1].outcome == "completed"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("OOM when allocating tensor with shape[8, 8]"), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (type("OutOfMemoryError", (Exception,), {})("on the device"), "out_of_memory"),
        (type("ResourceExhaustedError", (Exception,), {})(), "out_of_memory"),
        (MemoryError("out of memory"), "host_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "host_memory"),
        (FileNotFoundError(2, "No such file", "data/classroom.csv"), "error"),
        (ValueError("the sequence leaves no room for a target"), "error"),
    ],
)
def test_a_failure_is_for_memory_only_if_its_words_say_so(error, kind):
    assert _classified(error, False)[0] == kind


def test_a_failure_carries_its_traceback(worker):
    assert "cannot train" in run(worker("Broken", how="epoch"))[-1].detail


def test_a_metric_that_was_not_declared_is_refused_by_name(worker, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "class Own:\n"
        "    metrics = {'loss': 'nats'}\n"
        "    def space(self, hp): hp.Float('x', 0, 1)\n"
        "    def start(self, values, *, epochs, seed): return self\n"
        "    def epoch(self): return {'loss': 1.0, 'lost': 2.0}\n"
    )
    one = Worker(storage=str(tmp_path / "s"), task=f"{path}:Own", options={}, memory_limit_mb=None)
    told = run(one)
    one.close()
    assert "'lost', which its `metrics` does not declare" in told[-1].reason


def test_a_stopped_sweep_is_saved_after_the_epoch_that_runs(worker, monkeypatch, tmp_path):
    monkeypatch.setattr("search.trial.ASK_S", 0.0)
    one, sweep = worker(), Storage(tmp_path / "sweep")
    one.begin(attempt(milestones=(1,), checkpoint_s=1e9))
    assert one.step().outcome is None
    sweep.write(stopping.FILE, b"{}")
    told = one.step()
    assert (told.outcome, told.reason_kind) == ("paused", "user")
    assert [row["epoch"] for row in told.epochs] == [2]
    sweep.remove(stopping.FILE)
    assert run(one, attempt=2, cause="resumed", known_epoch=2)[0].facts["from_epoch"] == 2


def test_before_a_long_epoch_a_worker_asks_whether_it_is_to_return_and_then_saves(worker, monkeypatch, tmp_path):
    monkeypatch.setattr("search.trial.STEP_S", 0.0)
    one, sweep = worker(), Storage(tmp_path / "sweep")
    one.begin(attempt(milestones=(), checkpoint_s=1e9))
    assert [row["epoch"] for row in one.step().epochs] == [1]
    stopping.request(sweep, "budget", "the money is gone")
    told = one.step()
    assert (told.epochs, told.outcome, told.reason_kind, told.reason) == ((), "paused", "budget", "the money is gone")
    sweep.remove(stopping.FILE)
    assert run(one, attempt=2, cause="resumed", known_epoch=1)[0].facts["from_epoch"] == 1


def test_a_worker_begins_nothing_once_the_sweep_is_to_end(worker, tmp_path):
    stopping.request(Storage(tmp_path / "sweep"), "budget", "the time is over")
    one = worker("Broken", how="start")  # which it would tell of
    assert [(told.outcome, told.reason_kind) for told in run(one)] == [("paused", "budget")]


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_whatever_the_file_holds_that_asks_for_an_end_it_is_the_users(tmp_path, text):
    Storage(tmp_path).write(stopping.FILE, text)
    assert stopping.requested(Storage(tmp_path)) == ("user", "the sweep was stopped")


def test_a_worker_that_has_grown_too_large_is_not_used_again(worker):
    one = worker(memory_limit_mb=1.0)
    assert one.begin(attempt()) is False


def test_a_trial_does_not_depend_on_the_trials_before_it(worker):
    fresh, used = worker(), worker()
    run(used, trial=1, seed=77)
    alike = [run(one, trial=number)[-1].epochs[-1]["metrics"] for number, one in ((2, fresh), (3, used))]
    assert alike[0] == alike[1]


def test_a_task_may_print_but_not_fill_the_disk(worker, capfd):
    told = run(worker("Broken", how="print", after=4), epochs=5)
    assert told[-1].outcome == "completed"
    assert len(capfd.readouterr().out) < 3_000_000


def test_a_task_that_hangs_is_ended_from_outside_python(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(FAKES.parent.parent.parent)!r})
import time
from tests.search.test_trial import attempt
from search.trial import Worker
worker = Worker(storage={str(tmp_path)!r}, task="{FAKES}:Broken", options={{"how": "hang"}}, memory_limit_mb=None)
worker.begin(attempt(time_limit_s=0.3))
worker.step()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 1  # it would hang for an hour


def test_what_killed_workers_left_is_removed(worker):
    import subprocess
    import tempfile

    gone = subprocess.Popen(["true"])
    gone.wait()
    left = Path(tempfile.mkdtemp(prefix=f"search-worker-{gone.pid}-"))
    (left / "weights").touch()
    worker()
    assert not left.exists()
