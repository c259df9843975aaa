"""What a sweep uses up: what workers hold, from when they begin until they are done, and the time of its trials."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import preparation
from search.attempts import Progress
from search.budget import Budget
from search.shares import fitting
from search.snapshot import Limits, take
from search.spec import CheckpointSettings, ResourceSettings, SchedulerSettings
from tests.search import rig

QUARTERS = ResourceSettings(gpus=0.25)


class Rows:
    """Takes what is written down."""

    def __init__(self):
        self.events = []

    def append(self, table, row):
        self.events.append((table, {**row, "seq": len(self.events), "session": 1}))
        return len(self.events) - 1

    def flush(self):
        pass


@pytest.fixture
def course(tmp_path):
    """A conductor whose clock stands until it is set on, and what it writes down."""

    def make(*, concurrency=32, events=(), **given):
        spec = rig.spec(tmp_path, **{"trials": 100, "scheduler": SchedulerSettings(kind="none")} | given)
        clock, rows = SimpleNamespace(now=1000.0), Rows()
        conductor = preparation.make_conductor(
            preparation.prepare(spec), rows, session=1, concurrency=concurrency, clock=lambda: clock.now
        )
        conductor.replay(events)
        return SimpleNamespace(conductor=conductor, clock=clock, rows=rows, limits=Limits.of(spec))

    return make


def hand_out(conductor):
    attempts = []
    while (attempt := conductor.next_attempt()) is not None:
        attempts.append(attempt)
    return attempts


def told(epoch, outcome=None, wall_s=None):
    row = {"epoch": epoch, "duration_s": 1.0, "ended": 0.0, "metrics": {"loss": 1.0}}
    return Progress(epochs=(row,), outcome=outcome, facts={} if wall_s is None else {"wall_s": wall_s})


def test_what_waits_for_room_uses_up_nothing(course):
    one = course(resources=QUARTERS, gpu_hours=1.0, money=1.0, price_per_hour=2.0)
    attempts = hand_out(one.conductor)
    assert len(attempts) == 32
    one.clock.now += 460
    assert (one.conductor.budget.gpu_hours(), one.conductor.budget.money()) == (0.0, 0.0)
    assert not one.conductor.is_ending
    for attempt in attempts:
        one.conductor.returned(attempt.trial, attempt.attempt, "user", "could not begin")
    assert (one.conductor.budget.gpu_hours(), one.conductor.state.gpu_s) == (0.0, 0.0)
    ends = [row for table, row in one.rows.events if table == "attempt_ends"]
    assert {(row["wall_s"], row["wait_s"]) for row in ends} == {(0.0, 460.0)}


def test_what_runs_is_counted_from_its_beginning_and_so_it_is_after_a_replay(course):
    one = course(resources=QUARTERS, gpu_hours=1.0)
    first, second, *_ = hand_out(one.conductor)
    one.clock.now += 1000
    one.conductor.began(first.trial, first.attempt)
    one.conductor.began(second.trial, second.attempt)
    one.clock.now += 400
    assert one.conductor.report(first.trial, first.attempt, told(1))
    assert one.conductor.budget.gpu_hours() == pytest.approx(2 * 0.25 * 400 / 3600)
    shown = take(one.conductor.state, one.limits, now=one.clock.now, condition="running")
    assert shown.use("gpu_hours").used == pytest.approx(one.conductor.budget.gpu_hours())
    assert shown.counts["running"] == 2
    one.conductor.report(first.trial, first.attempt, told(2, "completed"))
    one.conductor.report(second.trial, second.attempt, told(1))
    again = course(events=one.rows.events, resources=QUARTERS, gpu_hours=1.0)  # its driver has died meanwhile
    assert again.conductor.budget.gpu_hours() == pytest.approx(2 * 0.25 * 400 / 3600)


def test_an_attempt_of_whose_beginning_nobody_told_began_when_its_worker_says(course):
    one = course(resources=QUARTERS)
    attempt, *_ = hand_out(one.conductor)
    one.clock.now += 100
    one.conductor.report(attempt.trial, attempt.attempt, told(1, wall_s=30.0))
    assert one.conductor.budget.gpu_hours() == pytest.approx(0.25 * 30 / 3600)


def test_a_worker_that_is_lost_before_it_began_costs_nothing(course):
    one = course(resources=QUARTERS)
    attempt, *_ = hand_out(one.conductor)
    one.clock.now += 100
    one.conductor.failed(attempt.trial, attempt.attempt, Progress(outcome="lost", reason_kind="node_lost"))
    assert one.conductor.state.gpu_s == 0.0
    tables = [table for table, row in one.rows.events if row.get("trial") == attempt.trial]
    assert tables == ["proposals", "attempts", "attempt_ends"]


def test_once_a_budget_is_used_up_workers_are_asked_to_return_and_the_first_to_be_asked_is_enough(course):
    one = course(concurrency=2, resources=ResourceSettings(gpus=1.0), gpu_hours=1.0)
    asked, answers = [], [False, True, True]
    one.conductor.call_back = lambda reason: asked.append(reason) or answers.pop(0)
    first, second = hand_out(one.conductor)
    one.conductor.began(first.trial, first.attempt)
    one.clock.now += 3000
    one.conductor.report(first.trial, first.attempt, told(1))
    assert asked == []
    one.clock.now += 900
    one.conductor.report(first.trial, first.attempt, told(2))
    assert asked == ["the budget is used up: GPU hours 1.083 of 1"]  # it could not be asked: the storage was away
    one.clock.now += 2
    one.conductor.tick()
    one.conductor.report(first.trial, first.attempt, told(3))
    assert len(asked) == 2
    one.conductor.report(second.trial, second.attempt, Progress(outcome="paused", reason_kind="budget"))
    one.conductor.report(first.trial, first.attempt, Progress(outcome="paused", reason_kind="budget"))
    assert one.conductor.is_finished()


@pytest.mark.slow
def test_what_a_budget_cut_off_was_saved_and_goes_on_once_there_is_more(tmp_path):
    log = tmp_path / "epochs trained"
    log.mkdir()
    given = rig.spec(
        tmp_path / "runs",
        trials=3,
        epochs=40,
        options={"log": str(log), "epoch_s": 0.02},
        scheduler=SchedulerSettings(kind="none"),
        checkpoints=CheckpointSettings(every_s=1e9),
        resources=ResourceSettings(gpus=1.0),
        gpu_hours=0.3 / 3600,
    )
    state = rig.run(given).state
    assert {trial.state for trial in state.trials.values()} == {"unfinished"}
    assert {trial.reason_kind for trial in state.trials.values()} == {"budget"}
    assert all(trial.epoch < 40 for trial in state.trials.values())
    more = dataclasses.replace(given, gpu_hours=1.0)
    state = rig.run(more).state
    assert [(trial.state, trial.epoch) for trial in state.trials.values()] == [("completed", 40)] * 3
    trained = [path.name.rpartition("-")[0] for path in log.iterdir()]
    assert len(trained) == len(set(trained)) == 3 * 40


@pytest.mark.parametrize(
    ("share", "cpus", "gpus", "number"),
    [
        (ResourceSettings(cpus=1.0), 8, 0, 8),
        (ResourceSettings(cpus=0.1), 1, 0, 10),
        (ResourceSettings(cpus=1.0, gpus=0.25), 16, 2, 8),
        (ResourceSettings(cpus=4.0, gpus=0.25), 16, 2, 4),
        (ResourceSettings(cpus=4.0, gpus=1.0), 2, 0, 1),
    ],
)
def test_as_many_trials_fit_as_what_is_scarce_has_room_for(share, cpus, gpus, number):
    assert fitting(share, cpus=cpus, gpus=gpus) == number


def test_a_long_final_job_does_not_keep_a_sweep_from_being_extended(course):
    one = course(trials=1, concurrency=1, wall_time_s=600.0)
    attempt, *_ = hand_out(one.conductor)
    one.clock.now += 60
    one.conductor.report(attempt.trial, attempt.attempt, told(9, "completed"))
    one.clock.now += 900
    one.conductor.note("finals", {"final": 0, "trial": 0})
    again = course(events=one.rows.events, trials=2, wall_time_s=600.0)
    assert again.conductor.budget.wall_time_s() == 60
    assert again.conductor.next_attempt() is not None


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1e5), st.sampled_from([0.0, 0.25, 1.0, 8.0])), max_size=40)
)
def test_what_is_held_is_the_sum_over_all_that_hold_it(steps):
    clock, held = SimpleNamespace(now=1.7e9), {}
    spec: Any = SimpleNamespace(price_per_hour=3600.0)
    ended: Any = SimpleNamespace(gpu_s=0.0, priced_s=0.0)
    budget = Budget(spec, ended, lambda: clock.now)
    for trial, wait_s, gpus in steps:
        if trial in held:
            since = budget.since[trial]
            assert budget.give_back(held.pop(trial)) == since
        else:
            held[trial] = SimpleNamespace(trial=trial, gpus=gpus, cpus=2.0)
            budget.take(held[trial], clock.now)
        clock.now += wait_s
        lasted = {trial: clock.now - since for trial, since in budget.since.items()}
        gpu_s = sum(held[trial].gpus * s for trial, s in lasted.items())
        assert budget.gpu_hours() * 3600 == pytest.approx(gpu_s, abs=0.01)
        assert budget.money() == pytest.approx(sum((held[t].gpus or 2.0) * s for t, s in lasted.items()), abs=0.01)
