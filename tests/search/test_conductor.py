"""The course of a sweep: what is handed out, what becomes of it, and that a death in the middle changes none of it."""

import dataclasses
import math
import random
import shutil

import pytest

from results.ledger import Ledger
from search import folders, preparation, sweep
from search.errors import SpecError, SweepError
from search.spec import CheckpointSettings, ResourceSettings, SchedulerSettings, SearcherSettings
from search.state import ENDED
from tests.search import rig


def table(given, name):
    return Ledger(folders.folder_of(given)).table(name).to_pylist()


def outcome(state):
    """What a sweep came to, without times and the accidents of attempts."""
    return {
        number: (trial.state, trial.epoch, trial.best_epoch, trial.values, trial.reason_kind)
        for number, trial in state.trials.items()
    }


def check_books(given, state):
    """Every trial is accounted for, and no key stands twice."""
    assert sorted(state.trials) == list(range(given.trials))
    assert all(trial.state in ENDED for trial in state.trials.values())
    for name, key in (("trials", ["trial"]), ("epochs", ["trial", "epoch"]), ("proposals", ["trial"])):
        rows = [tuple(row[k] for k in key) for row in table(given, name)]
        assert len(rows) == len(set(rows))
        assert {row[0] for row in rows} <= set(state.trials)
    assert {row["trial"] for row in table(given, "trials")} == set(state.trials)
    seqs = [row["seq"] for _, row in Ledger(folders.folder_of(given)).events()]
    assert seqs == list(range(len(seqs)))


def test_a_sweep_runs_to_its_end(tmp_path):
    given = rig.spec(tmp_path)
    state = rig.run(given).state
    check_books(given, state)
    assert {trial.state for trial in state.trials.values()} == {"completed", "stopped"}
    for row in table(given, "trials"):
        epochs = state.trials[row["trial"]].epochs
        assert row["loss"] == min(e.metrics["loss"] for e in epochs.values())
        assert row["epochs"] == max(epochs)
        assert (row["state"] == "completed") == (row["epochs"] == 9)


def test_the_same_seed_gives_the_same_trials_twice(tmp_path):
    for kind in ("random", "tpe"):
        one, other = (
            rig.run(rig.spec(tmp_path / f"{kind}{n}", searcher=SearcherSettings(kind=kind)), workers=1) for n in "ab"
        )
        assert outcome(one.state) == outcome(other.state)
        assert len({str(t.values) for t in one.state.trials.values()}) > 6


@pytest.mark.parametrize(
    "kind",
    [
        "asha",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("asha_promotion", "hyperband", "median", "none")),
    ],
)
def test_a_driver_that_dies_loses_nothing_and_counts_nothing_twice(tmp_path, kind):
    draw = random.Random(kind)
    for place in range(6):
        given = rig.spec(
            tmp_path / str(place),
            scheduler=SchedulerSettings(kind=kind, audit_share=0.2),
            trials=8,
            epochs=5,
            searcher=SearcherSettings(kind="tpe", startup_trials=3),
        )
        for _ in range(2):
            rig.run(given, steps=draw.randrange(1, 15), flush_every=draw.randrange(1, 5), order=place)
        conductor = rig.run(given, order=place)
        check_books(given, conductor.state)


def test_with_one_worker_a_death_changes_nothing_of_what_comes_out(tmp_path):
    searcher = SearcherSettings(kind="tpe", startup_trials=3)
    whole = rig.run(rig.spec(tmp_path / "whole", searcher=searcher), workers=1)
    broken = rig.spec(tmp_path / "broken", searcher=searcher)
    for steps in (3, 7, 11):
        rig.run(broken, workers=1, steps=steps, flush_every=1)
    assert outcome(rig.run(broken, workers=1).state) == outcome(whole.state)


@pytest.mark.slow
def test_replay_comes_to_the_searcher_and_the_scheduler_that_there_were(tmp_path):
    for kind in ("asha", "asha_promotion", "hyperband", "median"):
        for searcher in ("tpe", "random", "cmaes"):
            given = rig.spec(
                tmp_path / f"{kind}{searcher}",
                scheduler=SchedulerSettings(kind=kind),
                searcher=SearcherSettings(kind=searcher, startup_trials=3),
            )
            live = rig.run(given)
            prepared = preparation.prepare(given)
            again = preparation.make_conductor(prepared, None, session=0, concurrency=2)
            again.replay(Ledger(folders.folder_of(given)).events())
            assert again._scheduler.state() == live._scheduler.state()
            assert again._searcher.state() == live._searcher.state()
            assert outcome(again.state) == outcome(live.state)


def test_at_most_the_epochs_since_the_last_checkpoint_are_trained_again(tmp_path):
    log = tmp_path / "epochs trained"
    log.mkdir()
    given = rig.spec(tmp_path / "runs", trials=4, options={"log": str(log)}, scheduler=SchedulerSettings(kind="none"))
    for _ in range(3):
        rig.run(given, steps=2, flush_every=100)
    rig.run(given)
    trained = [tuple(path.name.split("-")[:2]) for path in log.iterdir()]
    # Checkpoints were written every epoch, so only what the two workers had not yet told when the driver died is lost.
    assert len(trained) - len(set(trained)) <= 3 * 2
    check_books(given, rig.run(given).state)


def test_extending_by_trials_and_epochs_goes_on(tmp_path):
    given = rig.spec(tmp_path, trials=6, epochs=4)
    before = rig.run(given).state
    more = dataclasses.replace(given, trials=9, epochs=8)
    after = rig.run(more).state
    check_books(more, after)
    for number, trial in before.trials.items():
        if trial.state == "completed":
            assert after.trials[number].epoch > 4
            assert after.trials[number].attempts[2].from_epoch == 4
    assert any(trial.epoch == 8 for trial in after.trials.values())


@pytest.mark.parametrize("kind", ["tpe", "random", "cmaes"])
def test_the_searcher_knows_extended_trials_by_what_they_came_to(tmp_path, kind):
    given = rig.spec(
        tmp_path,
        trials=6,
        epochs=3,
        searcher=SearcherSettings(kind=kind, startup_trials=3),
        scheduler=SchedulerSettings(kind="none"),
    )
    rig.run(given)
    more = dataclasses.replace(given, trials=8, epochs=6)
    live = rig.run(more)
    told = [row["values"] for row in live._searcher.state()["trials"]]
    assert told == [[live.state.best_value(number)] for number in range(8)]
    again = preparation.make_conductor(preparation.prepare(more), None, session=0, concurrency=2)
    again.replay(Ledger(folders.folder_of(more)).events())
    assert again._searcher.state() == live._searcher.state()


@pytest.mark.slow
@pytest.mark.parametrize("order", [0, 3, 7])
def test_replay_comes_to_the_rungs_of_an_extended_hyperband(tmp_path, order):
    given = rig.spec(
        tmp_path, trials=14, epochs=9, seed=order, scheduler=SchedulerSettings(kind="hyperband", audit_share=0.2)
    )
    rig.run(given, workers=3, order=order)
    more = dataclasses.replace(given, trials=20, epochs=27)
    live = rig.run(more, workers=3, order=order)
    again = preparation.make_conductor(preparation.prepare(more), None, session=0, concurrency=3)
    again.replay(Ledger(folders.folder_of(more)).events())
    assert again._scheduler.state() == live._scheduler.state()


def test_an_extension_that_was_killed_is_taken_up_by_the_next_session(tmp_path):
    given = rig.spec(tmp_path, trials=6, epochs=3, scheduler=SchedulerSettings(kind="none"))
    rig.run(given)
    more = dataclasses.replace(given, epochs=6)
    rig.run(more, steps=3, workers=1, flush_every=1)
    state = rig.run(more).state
    check_books(more, state)
    assert {trial.epoch for trial in state.trials.values()} == {6}


@pytest.mark.parametrize("kind", ["asha_promotion", "hyperband"])
def test_who_waits_at_a_rung_goes_on_from_there_however_seldom_states_are_written(tmp_path, kind):
    given = rig.spec(
        tmp_path, trials=12, epochs=9, scheduler=SchedulerSettings(kind=kind, audit_share=0.0, first_rung=3),
        checkpoints=CheckpointSettings(every_s=1000.0),
    )  # fmt: skip
    state = rig.run(given).state
    check_books(given, state)
    promoted = [a for trial in state.trials.values() for a in trial.attempts.values() if a.cause == "promoted"]
    assert promoted
    assert {attempt.from_epoch for attempt in promoted} == {3}


@pytest.mark.parametrize(
    ("how", "kind", "attempts"),
    [("epoch", "error", 3), ("nan", "non_finite", 1), ("no_metric", "no_metric", 1), ("start", "build", 1)],
)
def test_a_trial_that_fails_has_its_reason_and_its_retries(tmp_path, how, kind, attempts):
    given = rig.spec(tmp_path, task="Broken", options={"how": how, "kind": "wide", "after": 2}, trials=6)
    state = rig.run(given).state
    check_books(given, state)
    for trial in state.trials.values():
        if trial.values["kind"] == "wide":
            assert (trial.state, trial.reason_kind, trial.attempt) == ("failed", kind, attempts)
        else:
            assert trial.state != "failed"
    assert any(trial.state == "failed" for trial in state.trials.values())


def test_what_was_not_finite_is_no_best(tmp_path):
    given = rig.spec(tmp_path, task="Broken", options={"how": "nan", "after": 2}, trials=2)
    state = rig.run(given).state
    assert state.ranked() == []
    assert [math.isfinite(row["loss"]) for row in table(given, "trials")] == [True, True]  # its best epoch's


def test_a_trial_that_failed_by_accident_goes_on(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    given = rig.spec(
        tmp_path / "runs",
        task="Broken",
        options={"how": "epoch", "after": 2, "once": str(marks)},
        trials=3,
        scheduler=SchedulerSettings(kind="none"),
    )
    state = rig.run(given).state
    check_books(given, state)
    assert {t.state for t in state.trials.values()} == {"completed"}
    assert {t.attempts[2].cause for t in state.trials.values()} == {"failed"}
    assert {t.attempts[2].from_epoch for t in state.trials.values()} == {2}


def test_a_trial_that_ran_out_of_memory_gets_a_larger_share(tmp_path):
    given = rig.spec(
        tmp_path,
        task="Broken",
        options={"how": "oom"},
        trials=1,
        resources=ResourceSettings(gpus=0.25, retries=3),
    )
    state = rig.run(given).state
    assert [attempt.gpus for attempt in state.trials[0].attempts.values()] == [0.25, 0.5, 1.0, 1.0]
    assert state.trials[0].reason_kind == "out_of_memory"


@pytest.mark.parametrize(("how", "gpus"), [("oom", 1.0), ("oom", 2.0), ("memory", 0.25)])
def test_no_trial_gets_more_than_a_whole_gpu_nor_more_of_it_for_want_of_other_memory(tmp_path, how, gpus):
    given = rig.spec(
        tmp_path, task="Broken", options={"how": how}, trials=1, resources=ResourceSettings(gpus=gpus, retries=2)
    )
    (trial,) = rig.run(given).state.trials.values()
    assert [attempt.gpus for attempt in trial.attempts.values()] == [gpus] * 3
    assert (trial.state, trial.reason_kind) == ("failed", "out_of_memory" if how == "oom" else "host_memory")


def test_when_time_is_over_the_rest_is_unfinished_and_goes_on_later(tmp_path):
    given = rig.spec(tmp_path, wall_time_s=0.001, trials=3, scheduler=SchedulerSettings(kind="none"))
    state = rig.run(given).state
    assert {trial.state for trial in state.trials.values()} <= {"unfinished"}
    more = dataclasses.replace(given, wall_time_s=3600.0)
    check_books(more, rig.run(more).state)
    assert len(table(more, "trials")) == 3


def test_a_stop_that_a_worker_sees_before_the_driver_does_is_a_stop(tmp_path):
    given = rig.spec(tmp_path, scheduler=SchedulerSettings(kind="none"))
    conductor = rig.run(given, stop_at=4)
    assert conductor.stopping
    left = [trial for trial in conductor.state.trials.values() if trial.state != "completed"]
    assert 1 <= len(left) <= 2  # what ran; nothing more was handed out
    assert {(trial.state, trial.reason_kind) for trial in left} == {("unfinished", "user")}
    check_books(given, rig.run(given).state)


def test_points_come_first_and_say_so(tmp_path):
    from search.spec import Point

    points = (Point(preset="good"), Point(values={"rate": 0.5}))
    state = rig.run(rig.spec(tmp_path, points=points, trials=3)).state
    assert [state.trials[n].origin for n in range(3)] == ["point:good", "point", "searcher"]
    assert state.trials[0].values == {"rate": 1e-2, "kind": "wide", "width": 32}
    assert state.trials[1].values["rate"] == 0.5


def test_a_sweep_starts_warm_from_another(tmp_path):
    first = rig.spec(tmp_path / "a", searcher=SearcherSettings(kind="tpe", startup_trials=2))
    rig.run(first)
    warm = rig.spec(
        tmp_path / "b",
        searcher=SearcherSettings(kind="tpe", startup_trials=2),
        warm_start=(str(tmp_path / "a" / "rig"),),
    )
    prepared = preparation.prepare(warm)
    assert preparation.make_searcher(prepared).ask(0) != preparation.make_searcher(
        dataclasses.replace(prepared, spec=dataclasses.replace(warm, warm_start=()))
    ).ask(0)
    check_books(warm, rig.run(warm).state)


def test_what_was_learnt_from_another_sweep_stays_whatever_becomes_of_it(tmp_path):
    first = rig.spec(tmp_path / "a", trials=4)
    rig.run(first)
    tpe = SearcherSettings(kind="tpe", startup_trials=2)
    warm = rig.spec(tmp_path / "b", trials=4, searcher=tpe, warm_start=(str(tmp_path / "a" / "rig"),))
    rig.run(warm, steps=5)
    live = rig.run(warm)
    assert len(live._searcher.state()["trials"]) == 8
    rig.run(dataclasses.replace(first, trials=8))

    def again():
        made = preparation.make_conductor(preparation.prepare(warm), None, session=0, concurrency=2)
        made.replay(Ledger(folders.folder_of(warm)).events())
        return made._searcher.state()

    assert again() == live._searcher.state()
    shutil.rmtree(tmp_path / "a")
    assert again() == live._searcher.state()
    check_books(dataclasses.replace(warm, trials=6), rig.run(dataclasses.replace(warm, trials=6)).state)
    folders.folder_of(warm).write("warm_start.json", b'[{"values": {}}]')
    with pytest.raises(SweepError, match=r"warm_start\.json is damaged.*Bring it back, or remove it"):
        sweep.run(warm, go_on=True)
    folders.folder_of(warm).remove("warm_start.json")  # as of a sweep that began with an older version
    with pytest.raises(SpecError, match="there is no sweep at"):
        preparation.prepare(warm)


def test_a_folder_that_was_moved_is_found_and_one_that_was_renamed_is_refused(tmp_path):
    given = rig.spec(tmp_path / "here", trials=2)
    rig.run(given)
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "rig").rename(tmp_path / "there" / "rig")
    found = folders.find(str(tmp_path / "there" / "rig"))
    assert folders.read_spec(found) == dataclasses.replace(given, storage=str(tmp_path / "there"))
    (tmp_path / "there" / "rig").rename(tmp_path / "there" / "other")
    with pytest.raises(SweepError, match="holds the sweep 'rig'; a sweep's folder has its name"):
        folders.read_spec(folders.find(str(tmp_path / "there" / "other")))
