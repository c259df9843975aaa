import math

import pytest

from search.scheduler import Kind, SchedulerSettings, create
from search.simulation import Curve, simulate


def run(curves, *, kind: Kind = "asha", epochs=9, audit_share=0.0, **options):
    settings = SchedulerSettings(kind=kind, max_epochs=epochs, reduction=3, audit_share=audit_share)
    return simulate(create(settings), lambda trial: curves[trial] if trial < len(curves) else None, **options)


def falling(start, epochs=9, **options):
    return Curve(losses=tuple(start - 0.1 * epoch for epoch in range(1, epochs + 1)), **options)


def test_one_worker_by_hand():
    # Rungs after epochs 1 and 3. Trial 0 goes on alone; trial 1 is worse at once; trial 2 is better all along.
    done = run([falling(5.0), falling(6.0), falling(4.0)])
    assert {t: (r.state, r.epochs, r.started, r.ended) for t, r in done.runs.items()} == {
        0: ("completed", 9, 0.0, 9.0),
        1: ("stopped", 1, 9.0, 10.0),
        2: ("completed", 9, 10.0, 19.0),
    }
    assert (done.epochs, done.cost, done.time) == (19, 19.0, 19.0)
    assert done.best == pytest.approx(3.1)
    assert done.best_at(0.5) == math.inf
    assert done.best_at(10) == pytest.approx(4.1)  # what trial 0 has come to
    assert done.best_at(11) == pytest.approx(3.9)  # the first epoch of trial 2


def test_two_workers_share_the_time_and_not_the_cost():
    curves = [falling(5.0), falling(6.0), falling(4.0)]
    alone, shared = run(curves, kind="none"), run(curves, kind="none", workers=2)
    assert (alone.cost, shared.cost) == (27, 27)
    assert (alone.time, shared.time) == (27, 18)
    assert run(curves, workers=2).improvements == run(curves, workers=2).improvements


def test_costs_may_differ_by_epoch():
    done = run([Curve(losses=(3.0, 2.0), costs=(10.0, 1.0))], kind="none", epochs=2)
    assert [(step.cost, step.loss) for step in done.improvements] == [(10, 3), (11, 2)]


def test_curves_that_end_early_are_failed_or_censored():
    done = run([Curve(losses=(2.0,), failed=True), Curve(losses=(1.0, 0.5)), Curve(losses=())])
    assert [done.runs[trial].state for trial in range(3)] == ["failed", "censored", "censored"]


def test_a_value_that_is_not_finite_is_a_failure():
    assert run([Curve(losses=(1.0, math.nan, 1.0))]).runs[0].state == "failed"


def test_the_budget_ends_it():
    done = run([falling(5.0), falling(4.0)], kind="none", max_cost=4)
    assert (done.cost, done.runs[0].state, done.runs[0].ended) == (4, "unfinished", 4)
    assert list(done.runs) == [0]


@pytest.mark.parametrize("kind", ["asha_promotion", "hyperband"])
@pytest.mark.parametrize("workers", [1, 3])
def test_paused_trials_are_promoted_or_stopped_in_the_end(kind, workers):
    curves = [falling(float((trial * 7) % 20)) for trial in range(20)]
    done = run(curves, kind=kind, workers=workers)
    assert {run.state for run in done.runs.values()} == {"stopped", "completed"}
    assert done.runs[0].state == "completed"  # the best of all


def test_telling_comes_with_what_was_seen():
    told = []
    settings = SchedulerSettings(kind="asha", max_epochs=2, reduction=3)
    simulate(
        create(settings),
        lambda trial: Curve(losses=(float(trial), 0.5)),
        num_trials=2,
        tell=lambda trial, state, seen: told.append((trial, state, dict(seen))),
    )
    assert told == [(0, "completed", {1: 0.0, 2: 0.5}), (1, "stopped", {1: 1.0})]


def test_costs_and_workers_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="costs: got 1, expected one for each of 2 epochs"):
        Curve(losses=(1.0, 2.0), costs=(1.0,))
    with pytest.raises(ValueError, match="costs: expected finite numbers from 0"):
        Curve(losses=(1.0,), costs=math.nan)
    with pytest.raises(ValueError, match="workers: got 0"):
        run([], workers=0)
