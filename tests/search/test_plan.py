import dataclasses
from pathlib import Path

import pytest

from results.ledger import Writer
from results.storage import Storage
from search.errors import SpecError, TaskError
from search.forecast import measured
from search.plan import configurations, plan
from search.preparation import make_conductor, prepare
from search.space import Space
from search.spec import FinalSettings, Objective, Point, SchedulerSettings, SweepSpec
from search.sweep_file import document

FAKE = Path(__file__).with_name("fake_task.py")


@pytest.fixture
def spec(tmp_path):
    return SweepSpec(
        name="planned",
        task=f"{FAKE}:FakeTask",
        objectives=(Objective(metric="loss"),),
        trials=20,
        epochs=9,
        storage=str(tmp_path / "runs"),
        points=(Point(preset="good"),),
        concurrency=2,
        final=FinalSettings(models=0),
    )


def test_a_plan_shows_the_space_as_narrowed(spec):
    made = plan(dataclasses.replace(spec, space={"rate": {"low": 1e-3, "high": 1e-1}, "kind": "wide"}))
    assert {row.name: (row.range, row.condition, row.state) for row in made.parameters} == {
        "rate": ("0.001 to 0.1, log", "", "varies"),
        "kind": ("wide", "", "pinned"),
        "width": ("8, 16, 24, …, 128", "kind is wide", "varies"),
    }
    assert made.objectives == (("loss", "min"),)


def test_nothing_is_written(spec, tmp_path):
    plan(spec)
    assert list(tmp_path.iterdir()) == []


class Rows:
    """Keeps what a ledger would."""

    def __init__(self):
        self.rows = []

    def append(self, table, row):
        self.rows.append((table, row))
        return len(self.rows) - 1

    def flush(self):
        pass


def test_the_first_proposals_are_those_of_a_run(spec):
    rows = Rows()
    conductor = make_conductor(prepare(spec), rows, session=1, concurrency=6)
    attempts = [conductor.next_attempt() for _ in range(6)]
    made = plan(spec, proposals=5)
    assert [dict(p.values) for p in made.proposals] == [dict(attempt.values) for attempt in attempts if attempt]
    assert made.proposals[0].origin == "point:good"
    assert dict(made.proposals[0].values) == {"rate": 1e-2, "kind": "wide", "width": 32}


def test_early_stopping_is_reckoned_with(spec):
    stopped = plan(spec).forecast
    unstopped = plan(dataclasses.replace(spec, scheduler=SchedulerSettings(kind="none"))).forecast
    assert (stopped.trials, stopped.epochs_most) == (20, 180)
    assert stopped.epochs in range(20, 120)
    assert unstopped.epochs == 180


def test_time_and_money_are_unknown_until_a_sweep_has_measured_them(spec):
    made = plan(dataclasses.replace(spec, price_per_hour=2.0))
    assert (made.measured, made.forecast.wall_s, made.forecast.money) == (None, None, None)
    by_time = dataclasses.replace(spec, trials=None, wall_time_s=60.0)
    assert plan(by_time).forecast.trials is None


def record(spec, name, epoch_s):
    """An earlier sweep with one trial of three epochs."""
    import json

    earlier = dataclasses.replace(spec, name=name)
    folder = Storage(spec.storage).child(name)
    folder.write("sweep.json", json.dumps(document(earlier)).encode())
    writer = Writer(folder, prepare(earlier).schema, session=1, next_seq=0)
    for epoch in (1, 2, 3):
        writer.append("epochs", {"trial": 0, "attempt": 1, "epoch": epoch, "duration_s": epoch_s, "loss": 1.0})
    writer.append("attempt_ends", {"trial": 0, "attempt": 1, "outcome": "completed", "wait_s": 1.0, "start_s": 2.0})
    writer.flush()


def test_time_and_money_come_from_earlier_sweeps_of_the_task(spec):
    record(spec, "earlier", 10.0)
    record(dataclasses.replace(spec, task=f"{FAKE}:ThreeLines", points=()), "another-task", 99.0)
    Storage(spec.storage).write("no-sweep/sweep.json", b"{")
    known = measured(spec)
    assert known is not None
    assert (known.epoch_s, known.start_s, known.epochs, known.sweeps) == (10.0, 3.0, 3, ("earlier",))
    made = plan(dataclasses.replace(spec, scheduler=SchedulerSettings(kind="none"), price_per_hour=3.6)).forecast
    # 20 trials of 3 s and 9 epochs of 10 s; two at a time; one core an hour costs 3.6, so a second 0.001
    assert (made.worker_s, made.wall_s, made.money) == pytest.approx((20 * 93, 10 * 93, 1.86))


def test_a_budget_of_time_or_money_bounds_the_forecast(spec):
    record(spec, "earlier", 10.0)
    all_night = dataclasses.replace(spec, trials=None, wall_time_s=930.0, scheduler=SchedulerSettings(kind="none"))
    assert plan(all_night).forecast.trials in range(18, 23)
    poor = dataclasses.replace(spec, money=0.5, price_per_hour=3.6)
    assert plan(poor).forecast.money == pytest.approx(0.5, abs=0.05)


def test_the_final_jobs_trainings_are_reckoned_too(spec):
    final = FinalSettings(models=3, seeds=2, epochs=6, racing=5)
    job = plan(dataclasses.replace(spec, final=final)).final
    assert job is not None
    assert (job.trainings, job.trainings_most, job.epochs, job.wall_s) == (6, 11, 6, None)
    record(spec, "earlier", 10.0)
    job = plan(dataclasses.replace(spec, final=final, price_per_hour=3.6)).final
    assert job is not None
    # 11 trainings of 3 s and 6 epochs of 10 s, two at a time
    assert (job.wall_s, job.money) == pytest.approx((6 * 63, 11 * 0.063))
    assert plan(spec).final is None


def test_configurations_are_counted_through_conditions():
    def space(hp):
        kind = hp.Choice("kind", ["a", "b"])
        hp.Boolean("flag")
        with hp.conditional_scope("kind", ["b"]):
            if kind == "b":
                hp.Int("layers", 1, 3)

    found = Space.explore(space)
    assert configurations(found) == 2 * (1 + 3)
    assert configurations(found.narrowed({"kind": "b"})) == 2 * 3
    assert configurations(Space.explore(lambda hp: hp.Float("x", 0, 1))) == float("inf")
    assert configurations(Space.explore(lambda hp: None)) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"space": {"rat": 1}}, SpecError, "unknown parameter 'rat'; did you mean 'rate'"),
        ({"space": {"rate": 7.0}}, SpecError, "pinned to 7.0, expected"),
        ({"objectives": (Objective(metric="los"),)}, TaskError, "no such metric; did you mean 'loss'"),
        ({"points": (Point(preset="god"),)}, SpecError, "no point 'god'.*good"),
        ({"points": (Point(values={"rat": 1}),)}, SpecError, "unknown parameter 'rat'; did you mean 'rate'"),
        ({"points": (Point(values={"width": 8}),)}, SpecError, "'width' is not active at this point: it needs kind"),
        ({"task": f"{FAKE}:RaisesInSpace"}, TaskError, "cannot be declared: ValueError: no space left"),
    ],
)
def test_what_only_the_task_knows_is_checked_before_anything_runs(spec, change, error, message):
    with pytest.raises(error, match=message):
        plan(dataclasses.replace(spec, **change))
