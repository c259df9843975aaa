import math

import pytest

from results.ledger import Ledger, Writer
from results.storage import Storage
from search.audit import audit, rank_correlation, share
from search.errors import SpecError, SweepError
from search.scheduler import SchedulerSettings
from search.simulation import Curve
from tests.search.recorded import sweep

SETTINGS = SchedulerSettings(kind="asha", max_epochs=4, reduction=3)  # rungs after epochs 1 and 3


def flat(level):
    return Curve(losses=(level,) * 4)


def test_says_against_which_cutoff_a_trial_was_stopped(tmp_path):
    found = audit(sweep(tmp_path, [flat(2.0), flat(3.0), flat(1.0)], SETTINGS))
    assert [(s.trial, s.epoch, s.rung, s.value, s.cutoff, s.num_values, s.reason) for s in found.stops] == [
        (1, 1, 0, 3.0, 2.0, 2, "3 > 2, the cutoff of 2")
    ]
    assert "1 of 3 trials stopped (1 by the scheduler), 0 audited" in found.summary()
    assert "give [scheduler] a larger audit_share" in found.summary()


def test_a_metric_that_is_maximised_is_shown_as_it_is(tmp_path):
    found = audit(sweep(tmp_path, [flat(-2.0), flat(-1.0)], SETTINGS, goal="max"))
    assert [(s.value, s.cutoff, s.reason) for s in found.stops] == [(1.0, 2.0, "1 < 2, the cutoff of 2")]


def test_wrong_stops_are_audited_trials_that_end_as_good_as_the_best(tmp_path):
    late_bloomer = Curve(losses=(9.0, 5.0, 1.0, 0.5))
    curves = [flat(2.0), late_bloomer, flat(8.0), flat(1.5), flat(7.0)]
    settings = SchedulerSettings(kind="asha", max_epochs=4, reduction=3, audit_share=1.0)
    found = audit(sweep(tmp_path, curves, settings), top_share=0.5)
    # Trials 0 and 3 go on by right and end at 2 and 1.5: the best half of them is 1.5.
    assert (found.num_survivors, found.num_good, found.good_value) == (2, 1, 1.5)
    assert [(a.trial, a.final, a.rank, a.wrong) for a in found.audited] == [
        (1, 0.5, 1, True),
        (2, 8.0, 3, False),
        (4, 7.0, 3, False),
    ]
    assert (found.wrong.count, found.wrong.of) == (1, 3)
    assert found.wrong.low < 1 / 3 < found.wrong.high
    assert (found.better_than_winner.count, found.better_than_winner.of) == (1, 3)
    assert {s.trial for s in found.stops if s.audited} == {1, 2, 4}
    # At the first rung: 9, 8, 7; in the end: 0.5, 8, 7.
    first = next(c for c in found.correlations if (c.epoch, c.among) == (1, "audited"))
    assert (first.num_trials, first.rho, first.low) == (3, pytest.approx(-0.5), None)
    both = next(c for c in found.correlations if (c.epoch, c.among) == (1, "all"))
    assert both.num_trials == 5
    assert "Wrong: 1 of 3 audited trials" in found.summary()


def test_audited_trials_that_have_not_ended_are_named_and_not_counted(tmp_path):
    settings = SchedulerSettings(kind="asha", max_epochs=4, reduction=3, audit_share=1.0)
    found = audit(sweep(tmp_path, [flat(2.0), flat(3.0)], settings, budget=6))
    assert (found.unfinished, found.audited, found.wrong.of) == ((1,), (), 0)


def test_stops_by_others_than_the_scheduler_are_told_apart(tmp_path):
    ledger = sweep(tmp_path, [flat(2.0)], SETTINGS, budget=2)
    writer = Writer(Storage(tmp_path).child("toy"), ledger.schema, session=2, next_seq=ledger.last_seq + 1)
    writer.append("trials", {"trial": 0, "state": "stopped", "reason_kind": "budget", "reason": "time is up"})
    writer.flush()
    found = audit(Ledger(Storage(tmp_path).child("toy")))
    assert [(s.trial, s.rung, s.epoch, s.reason) for s in found.stops] == [(0, -1, 2, "time is up")]


def test_a_sweep_without_epochs_and_an_impossible_share_are_refused(tmp_path):
    ledger = sweep(tmp_path, [], SETTINGS)
    with pytest.raises(SweepError, match="no recorded epochs yet"):
        audit(ledger)
    with pytest.raises(SpecError, match="top_share: got 0"):
        audit(ledger, top_share=0)


def test_shares_have_wilsons_interval():
    # 2 of 10: centre (0.2 + z²/20) / (1 + z²/10), z = 1.96 (Wilson 1927): 0.0567 to 0.5098
    found = share(2, 10)
    assert (found.value, found.low, found.high) == (
        0.2,
        pytest.approx(0.0567, abs=1e-4),
        pytest.approx(0.5098, abs=1e-4),
    )
    nothing = share(0, 0)
    assert (nothing.low, nothing.high, math.isnan(nothing.value)) == (0, 1, True)


def test_rank_correlation_sees_order_only():
    pairs = [(float(i), math.exp(i)) for i in range(10)]
    assert rank_correlation(1, "all", pairs).rho == pytest.approx(1)
    assert rank_correlation(1, "all", [(1.0, 2.0)] * 5).rho is None
    assert rank_correlation(1, "all", pairs[:2]).rho is None
    mixed = rank_correlation(1, "all", [(a, a * 7 % 10) for a, _ in pairs])
    assert mixed.rho is not None
    assert mixed.low is not None
    assert mixed.high is not None
    assert -1 <= mixed.low < mixed.rho < mixed.high <= 1
