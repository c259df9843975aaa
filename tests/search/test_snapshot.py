import json
import math
from datetime import timedelta

import pytest

from search.snapshot import Condition, Limits, Snapshot, ending_text, take
from tests.search.event_book import START, Book

NOW = START.timestamp()


def at(second):
    return NOW + second


def shot(book: Book, limits: Limits | None = None, second: float = 100.0, condition: Condition = "running") -> Snapshot:
    return take(book.state, limits or Limits(), now=at(second), storage="runs/toy", condition=condition)


def ended(book, trial, losses, state="completed", **row):
    book.proposal(trial)
    book.attempt(trial, 1)
    book.epochs(trial, 1, losses)
    book.attempt_end(trial, 1, state, wall_s=1.0, **row)
    book.end(trial, state, **row)


def test_a_sweep_without_a_row_has_a_snapshot():
    empty = shot(Book(), Limits(trials=3, epochs=2))
    assert (empty.best, empty.running, empty.elapsed_s, empty.time_left_s) == (None, (), 0.0, None)
    assert empty.time_left_how == "too few results yet"


def test_running_trials_are_shown_with_what_they_have_come_to():
    book = Book()
    book.proposal(0, width=2)
    book.attempt(0, 1)
    book.epochs(0, 1, [3.0, 1.0, math.nan])  # seconds 2, 3, 4
    trial = shot(book, Limits(epochs=9), second=10.0).running[0]
    assert (trial.epoch, trial.epochs, trial.best_epoch, trial.value) == (3, 9, 2, 1.0)
    assert trial.last_value is not None
    assert math.isnan(trial.last_value)
    assert trial.values == {"width": 2}
    assert trial.objectives == (1.0, 1.0)
    assert trial.quiet_s == pytest.approx(6.0)


def test_in_a_dead_sweep_nothing_goes_on():
    book = Book()
    book.proposal(0)
    book.attempt(0, 1, gpus=2.0)  # second 1
    book.epoch(0, 1, 1, 1.0)  # second 2
    dead = shot(book, Limits(trials=5), second=1e6, condition="dead")
    assert (dead.elapsed_s, dead.epochs_per_s, dead.time_left_s, dead.running[0].quiet_s) == (2.0, 0.0, None, None)
    assert dead.use("gpu_hours").used == pytest.approx(2.0 / 3600)  # to its last sign of life


def test_the_top_is_ranked_and_short():
    book = Book()
    for trial in range(8):
        ended(book, trial, [float(8 - trial)])
    top = shot(book).top
    assert [trial.trial for trial in top] == [7, 6, 5, 4, 3]
    assert shot(book).best == top[0]


def test_rates_are_those_of_the_last_minutes():
    book = Book()
    book.add("sessions", command="run")
    book.epochs(0, 1, [1.0] * 60)  # one a second
    assert shot(book, second=61.0).epochs_per_s == pytest.approx(60 / 61)
    assert shot(book, second=61.0 + 110).epochs_per_s == pytest.approx(9 / 120, rel=0.15)
    assert shot(book, second=1000.0).epochs_per_s == 0.0


def test_a_rate_begins_with_its_session():
    book = Book()
    book.add("sessions", command="run")
    book.epochs(0, 1, [1.0] * 9)
    again = START + timedelta(hours=1)
    book.add("sessions", command="resume", session=2, time=again)
    book.add("epochs", trial=0, attempt=2, epoch=1, loss=1.0, session=2, time=again + timedelta(seconds=2))
    assert shot(book, second=3600.0 + 4).epochs_per_s == pytest.approx(1 / 4)


def test_time_left_is_reckoned_from_what_trials_took():
    book = Book()
    book.add("sessions", command="run")
    for trial, epochs in enumerate((1, 1, 4)):
        ended(book, trial, [1.0] * epochs)
    book.proposal(3)
    book.attempt(3, 1)
    book.epochs(3, 1, [1.0, 1.0])
    second = book.rows[-1][1]["seq"] + 1.0
    now = shot(book, Limits(trials=5, epochs=9), second=second)
    # Trial 3 trains on as those did that came beyond epoch 2: to epoch 4. Trial 4 takes the mean, 2 epochs.
    assert now.time_left_s == pytest.approx((2 + 2) / now.epochs_per_s)
    assert now.time_left_how == f"2 trials to come or running, 2 epochs each, {now.epochs_per_s:.3g} epochs/s"


def test_before_trials_have_ended_all_epochs_are_reckoned_with():
    book = Book()
    book.add("sessions", command="run")
    book.proposal(0)
    book.attempt(0, 1)
    book.epochs(0, 1, [1.0, 1.0])
    now = shot(book, Limits(trials=2, epochs=9), second=6.0)
    assert now.time_left_s == pytest.approx((7 + 9) / now.epochs_per_s)


def test_the_budget_that_is_used_up_first_ends_the_sweep():
    book = Book()
    book.add("sessions", command="run")
    book.proposal(0)
    book.attempt(0, 1, gpus=2.0)  # second 2
    left = shot(book, Limits(wall_time_s=300.0, gpu_hours=0.1), second=62.0)
    assert left.use("gpu_hours").used == pytest.approx(2 * 60 / 3600)
    assert left.time_left_s == pytest.approx((360 - 120) / 2)
    assert left.time_left_how == "until the GPU-hours are used up, at 2 an hour"
    assert shot(book, Limits(wall_time_s=70.0, gpu_hours=0.1), second=62.0).time_left_s == pytest.approx(8.0)
    paid = shot(book, Limits(money=1.0, price_per_hour=6.0), second=62.0)
    assert paid.use("money").used == pytest.approx(0.2)
    assert paid.time_left_s == pytest.approx(0.8 / 12 * 3600)


def test_each_attempt_costs_what_it_holds():
    book = Book()
    book.attempt(0, 1, gpus=0.0)
    book.attempt_end(0, 1, "completed", wall_s=3600.0)  # on one core, before the sweep was given GPUs
    book.attempt(1, 1, gpus=0.5)
    book.attempt_end(1, 1, "completed", wall_s=3600.0)
    assert shot(book, Limits(price_per_hour=2.0)).use("money").used == pytest.approx(2.0 * (1 + 0.5))


def test_without_gpus_cores_are_paid_for():
    book = Book()
    book.proposal(0)
    book.attempt(0, 1)  # one core, second 1
    assert shot(book, Limits(price_per_hour=3.6), second=101.0).use("money").used == pytest.approx(0.1)


def test_failures_are_counted_by_kind_with_the_last_message():
    book = Book()
    ended(book, 0, [1.0], "failed", reason_kind="non_finite", reason="loss is NaN")
    ended(book, 1, [1.0], "failed", reason_kind="non_finite", reason="loss is inf")
    book.proposal(2)
    book.attempt(2, 1)
    book.attempt_end(2, 1, "lost", reason_kind="node_lost", reason="gone")
    ended(book, 3, [1.0], "stopped", reason_kind="scheduler")
    found = [(each.kind, each.trials, each.attempts, each.trial, each.message) for each in shot(book).failures]
    assert found == [("non_finite", 2, 2, 1, "loss is inf"), ("node_lost", 0, 1, 2, "gone")]
    assert shot(book).stopped == {"scheduler": 1}


def test_the_trials_that_ended_last_come_first():
    book = Book()
    ended(book, 0, [2.0, 1.0])
    ended(book, 1, [3.0], "stopped", reason_kind="scheduler", reason="3 is above 1")
    ended(book, 2, [], "failed", reason_kind="build", reason="no such layer")
    assert [each.text for each in shot(book, Limits(epochs=2)).endings] == [
        "trial 2 failed (build) after epoch 0 of 2: no such layer",
        "trial 1 stopped after epoch 1 of 2, loss 3 at epoch 1: 3 is above 1",
        "trial 0 completed after epoch 2 of 2, loss 1 at epoch 2",
    ]
    assert ending_text(book.state, book.state.trials[0]) == "trial 0 completed after epoch 2, loss 1 at epoch 2"


def test_its_document_is_json():
    book = Book()
    book.proposal(0, width=2, kind="a")
    book.attempt(0, 1)
    book.epochs(0, 1, [math.nan, math.inf])
    document = shot(book).document()
    assert json.loads(json.dumps(document, allow_nan=False))["running"][0]["curve"] == [None, None]
