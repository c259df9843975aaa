"""Sweeps that are broken: disks that fill up or go away, deaths at any moment, tasks with every fault."""

import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from results.ledger import Ledger
from results.places import Folder
from results.schema import TABLES
from search import checkpoints, conductor, folders, preparation, sweep
from search.spec import CheckpointSettings, SchedulerSettings, SearcherSettings
from search.state import ENDED
from tests.search import faults, rig

SCHEDULERS = ("asha", "asha_promotion", "hyperband", "median", "none")
SEARCHERS = ("random", "tpe", "qmc", "cmaes", "nsga2")


CUT = ("sessions", "proposals", "attempts", "attempt_ends", "epochs", "decisions", "trials")


def check_books(place, trials):
    assert faults.accounted_for(place, trials) == trials
    assert faults.duplicate_keys(place) == 0
    assert faults.problems(place) == []


# --- without Ray ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_deaths_at_any_moment_leave_books_that_hold(tmp_path, scheduler):
    for number, searcher in enumerate(SEARCHERS):
        given, last, _ = faults.dying(tmp_path / searcher, scheduler, searcher, seed=number % 2)
        place = folders.folder_of(given)
        check_books(place, given.trials)
        live = (last._searcher.state(), last._scheduler.state())
        assert json.loads(json.dumps(faults.rebuilt(given, Ledger(place).events()))) == json.loads(json.dumps(live))


def test_an_epoch_that_is_trained_again_is_not_judged_again(tmp_path):
    # Without checkpoints, trials start over; those that had passed a rung must not be stopped below their last epoch.
    given = rig.spec(
        tmp_path,
        trials=10,
        epochs=6,
        scheduler=SchedulerSettings(kind="asha", reduction=2, audit_share=0.0),
        checkpoints=CheckpointSettings(every_s=1000.0),
    )
    for steps in (5, 6, 7, 8):
        rig.run(given, steps=steps, flush_every=1, workers=3, order=steps)
    rig.run(given, workers=3)
    check_books(folders.folder_of(given), given.trials)


def test_a_trial_whose_proposal_was_not_written_down_goes_on_from_what_it_had_saved(tmp_path):
    # The driver dies before its first flush. With TPE and results in another order, trials would be proposed otherwise.
    given = rig.spec(
        tmp_path,
        trials=8,
        searcher=SearcherSettings(kind="tpe", startup_trials=1),
        scheduler=SchedulerSettings(kind="none"),
    )
    rig.run(given, steps=6, flush_every=10**6, workers=6, order=1)
    place = folders.folder_of(given)
    assert not faults.state_of(place).trials
    saved = {}
    for trial in range(8):
        for name in checkpoints.Checkpoints(place, trial, "").names():
            saved[trial] = int(name[1:6])
    assert len(saved) > 2
    state = rig.run(given, workers=2, order=2).state
    begun = {row["trial"]: row["from_epoch"] for row in reversed(Ledger(place).table("attempt_ends").to_pylist())}
    assert {trial: begun[trial] for trial in saved} == saved
    assert {trial.state for trial in state.trials.values()} == {"completed"}
    check_books(place, 8)


class Disk:
    """A disk that is full after so many bytes: the real errors of the system, from where files are written."""

    def __init__(self, monkeypatch):
        self.room, self.refused = 0, 0
        fill = Folder.fill

        def limited(folder, files):
            def counted(write):
                def writing(to):
                    write(to)
                    self.room -= to.tell()
                    if self.room < 0:
                        self.refused += 1
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                return writing

            fill(folder, {path: counted(write) for path, write in files.items()})

        monkeypatch.setattr(Folder, "fill", limited)


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    disk.room = 50_000
    given = rig.spec(tmp_path, trials=8)
    told, made = itertools.count(), preparation.make_conductor

    def making(*args, **options):
        it = made(*args, **options)
        it.listeners.append(lambda table, row: setattr(disk, "room", 10**9) if next(told) == 60 else None)
        return it

    monkeypatch.setattr(sweep, "make_conductor", making)
    state = rig.run(given).state
    assert disk.refused > 3
    check_books(folders.folder_of(given), 8)
    assert {trial.state for trial in state.trials.values()} == {"completed", "stopped"}
    assert {trial.attempt for trial in state.trials.values()} == {1}


def test_a_disk_that_stays_full_ends_the_sweep_in_words_and_it_goes_on_later(tmp_path, monkeypatch):
    from search.errors import SweepAborted

    disk = Disk(monkeypatch)
    disk.room = 60_000
    monkeypatch.setattr(conductor, "PATIENCE_S", 0.0)
    given = rig.spec(tmp_path, trials=8)
    with pytest.raises(SweepAborted, match=r"the disk is full.*search resume .*rig"):
        rig.run(given)
    disk.room = 10**9
    rig.run(given)
    check_books(folders.folder_of(given), 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "table", ["sessions", "proposals", "attempts", "attempt_ends", "epochs", "decisions", "trials"]
)
def test_a_part_that_was_cut_short_is_made_up_for(tmp_path, table):
    given = rig.spec(tmp_path, trials=8)
    rig.run(given, steps=12, flush_every=2)
    place = folders.folder_of(given)
    draw = random.Random(table)
    parts = sorted((Path(place.uri) / "ledger" / table).glob("*.parquet"))
    part = draw.choice(parts)
    newest = max(path.name for path in (Path(place.uri) / "ledger").glob("*/s*.parquet"))
    part.write_bytes(part.read_bytes()[: draw.randrange(part.stat().st_size)])
    state = rig.run(given).state
    assert {trial.state for trial in state.trials.values()} <= ENDED
    assert sorted(state.trials) == list(range(8))
    assert faults.duplicate_keys(place) == 0
    if part.name == newest:  # a flush that never was whole is as if it had never been
        assert faults.problems(place) == []


def test_every_table_that_trials_write_was_cut_short():
    assert {*CUT, "finals", "samples", "openings", "piece_scores", "choices"} >= set(TABLES)


def test_what_attempts_do_again_in_succession_is_not_added_up():
    first = [(when, when, 100) for when in range(1, 9)]  # epochs 1 to 8, saved after 4
    second = [(when, when - 6, 200) for when in range(11, 14)]  # from there 5 to 7, nothing saved
    third = [(when, when - 16, 300) for when in range(21, 27)]  # 5 to 8 again, then on
    assert faults._again(first + second) == (3, 3)
    assert faults._again(first + second + third) == (7, 4)
    late = [(12, 9, 100), (12, 10, 100)]  # the first is lost, but lives a little longer
    assert faults._again(sorted(first + second + late)) == (3, 3)


# --- on Ray, from outside ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    with faults.Cluster(gpus=2) as it:
        yield it


@pytest.mark.slow
def test_drivers_and_workers_may_be_killed_at_any_moment(cluster, tmp_path):
    subject = faults.Subject(cluster, tmp_path, trials=24, epoch_s=0.15, every_s=0.6, probe=True)
    probes = []
    killed = faults.breaking(
        subject, drivers=2, workers=2, seed=5, within_s=0.8, on_kill=lambda: probes.append(faults.probe_holds(subject))
    )
    assert min(killed) >= 1
    assert subject.finish() == 0
    check_books(subject.place, 24)
    assert False not in probes
    _, _, most = faults.trained_again(subject)
    assert most <= 5  # 4 epochs from one checkpoint to the next, and one that was not told yet
    assert "Traceback" not in subject.said


@pytest.mark.slow
def test_a_sweep_can_be_stopped_in_three_ways_and_goes_on_without_loss(cluster, tmp_path):
    subject = faults.Subject(cluster, tmp_path, trials=16, epochs=60, epoch_s=0.3, every_s=600, scheduler="none")
    first = subject.start()
    assert subject.wait_for_processes(2, driver=first), subject.said
    second = subject.start("run", str(subject.file))
    third = subject.start("resume", subject.place.uri)
    assert (second.wait(120), third.wait(120)) == (2, 2)
    assert f"runs already at {subject.place.uri}: process {first.pid} on" in subject.said
    assert f"runs already: process {first.pid} on" in subject.said

    first.send_signal(signal.SIGINT)
    assert first.wait(120) == 130, subject.said
    assert "go on: search resume" in subject.said
    assert {row["outcome"] for row in Ledger(subject.place).table("attempt_ends").to_pylist()} <= {
        "paused",
        "completed",
    }

    since = time.monotonic_ns()
    again = subject.start()
    assert subject.wait_for_processes(2, driver=again, since=since), subject.said
    assert subject.start("stop", subject.place.uri).wait(120) == 0
    assert again.wait(120) == 130, subject.said
    total, trained_again, _ = faults.trained_again(subject)
    assert trained_again == 0, total

    last = subject.start()
    assert subject.wait_for_epochs(subject.trained + 2, driver=last), subject.said
    last.send_signal(signal.SIGINT)
    time.sleep(0.1)
    last.send_signal(signal.SIGINT)
    assert last.wait(60) == 130, subject.said
    subject.brake.unlink()
    assert subject.finish() == 0
    check_books(subject.place, 16)
    assert "Traceback" not in subject.said


EXPECTED = {
    "hang": ("failed", "time_limit"),  # first, as it takes longest
    "none": ("completed", ""),
    "epoch": ("failed", "error"),
    "no_metric": ("failed", "no_metric"),
    "nan": ("failed", "non_finite"),
    "exit": ("failed", "exit"),
    "kill": ("failed", "worker_died"),
    "print": ("completed", ""),
    "grow": ("completed", ""),
    "oom": ("failed", "out_of_memory"),
}


@pytest.mark.slow
def test_a_task_with_every_fault_loses_its_trials_and_no_others(cluster, tmp_path):
    ways = [*EXPECTED, "grow", "none"]
    points = "".join(f'[[points]]\nhow = "{how}"\n' for how in ways)
    text = faults.sweep_file(
        storage=tmp_path / "runs",
        task="EveryFault",
        trials=len(ways),
        epochs=3,
        scheduler="none",
        retries=1,
        trial_time="15 s",  # a machine that stands still for a while must not take the others beyond it
    ).replace("retries = 1", 'retries = 1\nmemory_limit = "500 MB"')
    subject = faults.Subject(cluster, tmp_path, text=text + points)
    assert subject.finish() == 0
    check_books(subject.place, len(ways))
    state = faults.state_of(subject.place)
    found = {ways[number]: (trial.state, trial.reason_kind) for number, trial in state.trials.items()}
    assert found == EXPECTED
    assert {t.attempt for n, t in state.trials.items() if ways[n] in ("hang", "nan", "no_metric")} == {1}
    assert {t.attempt for n, t in state.trials.items() if ways[n] in ("kill", "epoch", "exit")} == {2}
    ends = Ledger(subject.place).table("attempt_ends").to_pylist()
    grown = {row["pid"]: row["seq"] for row in ends if row["peak_memory_mb"] and row["peak_memory_mb"] > 500}
    assert grown
    assert not [row for row in ends if row["outcome"] == "completed" and row["seq"] > grown.get(row["pid"], 10**9)]
    assert "Traceback" not in subject.said
    assert len(subject.said) < 100_000


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_is_tried_again_with_a_larger_share_of_gpus(cluster, tmp_path):
    text = faults.sweep_file(storage=tmp_path / "runs", task="EveryFault", trials=1, epochs=3, retries=2)
    text = text.replace("retries = 2", "retries = 2\ngpus = 0.25") + '[[points]]\nhow = "oom"\n'
    subject = faults.Subject(cluster, tmp_path, text=text)
    assert subject.finish() == 0
    attempts = Ledger(subject.place).table("attempts").to_pylist()
    assert [row["gpus"] for row in attempts] == [0.25, 0.5, 1.0]
    assert [row["cause"] for row in attempts] == ["first", "out_of_memory", "out_of_memory"]
    (trial,) = faults.state_of(subject.place).trials.values()
    assert (trial.state, trial.reason_kind) == ("failed", "out_of_memory")
    assert faults.problems(subject.place) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "ran_s", "kind"),
    [
        ("The actor died because its node has died. Node Id: 3f", 1.0, "node_lost"),
        ("\tthe actor's node was preempted: spot", 1.0, "node_lost"),
        (
            "Worker exit detail: (1) the process was killed by the OOM killer due to high memory usage",
            1.0,
            "worker_died",
        ),
        (
            "Memory on the node was 9.5GB; set the environment variable `RAY_memory_usage_threshold`",
            1.0,
            "host_memory",
        ),
        ("The actor is dead because its worker process has died", 8.1, "time_limit"),
        ("The actor is dead because its worker process has died", 5.0, "worker_died"),
        ("", 1.0, "worker_died"),
    ],
)
def test_the_cause_of_an_end_is_read_from_what_ray_says(text, ran_s, kind):
    from search.tune import _cause
    from tests.search.test_trial import attempt

    assert _cause(text, attempt(time_limit_s=8.0), ran_s=ran_s)[0] == kind


@pytest.mark.slow
def test_a_storage_that_vanishes_ends_the_sweep_in_words_and_it_goes_on_when_it_is_back(cluster, tmp_path):
    subject = faults.Subject(cluster, tmp_path, trials=8, epochs=60, epoch_s=0.3, patience_s=1.5)
    driver = subject.start()
    assert subject.wait_for_epochs(6, driver=driver), subject.said
    place = Path(subject.place.uri)
    place.rename(tmp_path / "elsewhere")
    assert driver.wait(120) == 1, subject.said
    assert re.search(r"the ledger in .* is gone .*bring it back", subject.said)
    assert re.search(r"search resume \S*broken", subject.said)
    assert "Traceback" not in subject.said
    if place.exists():  # Tune's own folder
        assert not [path for path in place.rglob("*") if path.is_file() and ".tune" not in path.parts]
        shutil.rmtree(place)
    (tmp_path / "elsewhere").rename(place)
    subject.brake.unlink()
    assert subject.finish() == 0
    check_books(subject.place, 8)
