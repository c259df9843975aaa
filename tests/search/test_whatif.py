import math

import pytest

from search.errors import SpecError, SweepError
from search.scheduler import SchedulerSettings
from search.simulation import Curve
from search.whatif import Question, what_if
from tests.search.recorded import sweep

NONE = SchedulerSettings(kind="none", max_epochs=9)
ASHA = SchedulerSettings(kind="asha", max_epochs=9, reduction=3)


def falling(start, epochs=9):
    return Curve(losses=tuple(start - 0.1 * epoch for epoch in range(1, epochs + 1)), costs=2.0)


def test_over_full_curves_it_says_what_would_have_been_saved_and_lost(tmp_path):
    late_bloomer = Curve(losses=(9.0,) * 8 + (1.0,), costs=2.0)
    ledger = sweep(tmp_path, [falling(5.0), falling(6.0), late_bloomer, falling(4.0)], NONE)
    found = what_if(ledger, Question(kind="asha", reduction=3))
    assert (found.num_known, found.num_trials, found.epochs, found.train_s, found.best) == (4, 4, 36, 72.0, 1.0)
    (outcome,) = found.outcomes
    assert (outcome.completed, outcome.stopped, outcome.censored) == (2, 2, 0)
    assert (outcome.epochs, outcome.train_s) == (9 + 1 + 1 + 9, 40.0)
    assert found.saved_s == 32.0
    assert (outcome.best, outcome.best_trial) == (pytest.approx(3.1), 3)
    assert (outcome.judged_stops, outcome.wrong_stops, outcome.lost_winner) == (2, (2,), True)


def test_the_scheduler_of_the_sweep_over_its_own_curves_changes_nothing(tmp_path):
    curves = [falling(float(trial * 7 % 20)) for trial in range(20)]
    found = what_if(sweep(tmp_path, curves, ASHA), Question(kind="asha", reduction=3))
    (outcome,) = found.outcomes
    assert (outcome.epochs, outcome.best, outcome.censored) == (found.epochs, found.best, 0)
    assert found.saved_s == 0


def test_what_is_unknown_is_counted(tmp_path):
    curves = [falling(float(trial * 7 % 20)) for trial in range(20)]
    found = what_if(sweep(tmp_path, curves, ASHA), Question(kind="none"))
    (outcome,) = found.outcomes
    assert outcome.censored == found.num_trials - found.num_known > 0
    assert "trials needed more than that" in found.summary()


def test_orders_by_chance_are_the_same_each_time_and_differ(tmp_path):
    ledger = sweep(tmp_path, [falling(float(trial * 7 % 20)) for trial in range(20)], NONE)
    question = Question(order="random", num_orders=5, seed=3, workers=2)
    one, other = what_if(ledger, question), what_if(ledger, question)
    assert one == other
    assert [o.order for o in one.outcomes] == ["3", "4", "5", "6", "7"]
    assert len({o.epochs for o in one.outcomes}) > 1
    header, rows = one.table()
    assert header == ["", "happened", "what if", "lowest", "highest"]
    assert all(len(row) == len(header) for row in rows)


def test_fewer_epochs_than_recorded_cut_the_curves(tmp_path):
    ledger = sweep(tmp_path, [falling(5.0), falling(4.0)], NONE)
    (outcome,) = what_if(ledger, Question(kind="none", max_epochs=3)).outcomes
    assert (outcome.epochs, outcome.completed, outcome.best) == (6, 2, pytest.approx(3.7))
    assert not outcome.lost_winner


def test_a_failed_trial_is_known_and_fails_again(tmp_path):
    curves = [falling(5.0), Curve(losses=(1.0,), failed=True), Curve(losses=(2.0, math.nan))]
    found = what_if(sweep(tmp_path, curves, NONE), Question(kind="asha"))
    assert found.outcomes[0].failed == 2


def test_maximised_metrics_keep_their_sign(tmp_path):
    ledger = sweep(tmp_path, [falling(5.0), falling(4.0)], NONE, goal="max")
    assert what_if(ledger).outcomes[0].best == pytest.approx(-3.1)


def test_impossible_questions_are_refused(tmp_path):
    ledger = sweep(tmp_path, [falling(5.0)], NONE)
    with pytest.raises(SpecError, match="num_orders: got 0"):
        Question(num_orders=0)
    with pytest.raises(SpecError, match=r"reduction: got 0\.5"):
        what_if(ledger, Question(reduction=0.5))
    with pytest.raises(SweepError, match="no recorded epochs"):
        what_if(sweep(tmp_path, [], NONE, name="empty"))
