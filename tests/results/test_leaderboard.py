import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import results
from results.comparison import compare_sweeps, compare_trials, summary
from results.curves import curves, sparkline
from results.errors import CallerError, LedgerError, QueryError
from results.failures import failures
from results.filters import condition
from results.finding import trial
from results.importance import importances
from results.leaderboard import leaderboards, undominated
from results.schema import Measure, SweepSchema
from results.storage import Storage
from tests.results import ledgers


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    return results.open(ledgers.laptop(tmp_path_factory.mktemp("runs")).uri)


def test_trials_are_ranked_by_their_best_epoch_never_by_the_last(laptop):
    (board,) = leaderboards(laptop, top=None)
    values = board.rows["val_nll"].to_pylist()
    assert values == sorted(values)
    assert board.rows["id"][0].as_py() == "laptop/13"  # 0.5 in its second epoch, 0.9 in its last
    assert (board.num_ranked, board.num_without) == (15, 1)  # the one that was only proposed has no value


def test_the_goal_turns_the_order_round(laptop):
    (board,) = leaderboards(laptop, metric="notes_per_s", top=2)
    assert board.rows["id"].to_pylist() == ["laptop/12", "laptop/11"] or board.goal == "max"
    values = board.rows["notes_per_s"].to_pylist()
    assert values == sorted(values, reverse=True)


def test_scores_on_different_data_are_never_ranked_together(tmp_path):
    ledgers.plain(tmp_path, "here", 4, 3, data=("music21", "a"))
    ledgers.plain(tmp_path, "there", 3, 3, data=("jsb", "b"))
    first, second = leaderboards(results.open(tmp_path))
    assert (first.data, first.data_fingerprint, first.num_ranked) == ("music21", "a", 4)
    assert (second.data, second.data_fingerprint, second.num_ranked) == ("jsb", "b", 3)
    assert {name.split("/")[0] for name in first.rows["id"].to_pylist()} == {"here"}
    assert second.rows["rank"].to_pylist() == [1, 2, 3]


def test_equal_values_have_equal_ranks(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    for number, value in enumerate([1.0, 0.5, 1.0, 2.0]):
        sweep.finish(number, "completed", sweep.propose(number), {1: value})
    sweep.flush()
    (board,) = leaderboards(results.open(sweep.storage.uri))
    assert board.rows["rank"].to_pylist() == [1, 2, 2, 4]


def test_finals_are_ranked_by_a_score(laptop):
    (board,) = leaderboards(laptop, table="finals", metric="test_nll")
    assert board.rows["test_nll"].to_pylist() == [1.0, 1.1]


def test_a_ranking_that_means_nothing_is_refused(laptop, tmp_path):
    with pytest.raises(QueryError, match="did you mean 'val_nll'"):
        leaderboards(laptop, metric="val_nl")
    with pytest.raises(CallerError, match="add --goal"):
        leaderboards(laptop, metric="train_loss")
    ledgers.plain(tmp_path, "a", 1, 2)
    ledgers.plain(tmp_path, "b", 1, 2, objectives=(("notes_per_s", "max"),))
    with pytest.raises(CallerError, match="different objectives"):
        leaderboards(results.open(tmp_path))
    empty = ledgers.Sweep(tmp_path / "empty")
    empty.flush()
    with pytest.raises(LedgerError, match="the ledger is empty"):
        leaderboards(results.open(tmp_path / "empty"))


def test_pareto_leaves_out_what_another_one_beats(tmp_path):
    ledgers.plain(tmp_path, "two", 9, 3, objectives=(("val_nll", "min"), ("notes_per_s", "max")))
    (board,) = leaderboards(results.open(tmp_path), pareto=True, top=None)
    nll, speed = board.rows["val_nll"].to_pylist(), board.rows["notes_per_s"].to_pylist()
    assert 1 <= len(nll) < 9
    assert speed == sorted(speed)  # along the front, a better one is slower


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_undominated_points_beat_all_others(points):
    values = np.asarray(points, dtype=float)
    front = set(undominated(values).tolist())
    for i, point in enumerate(values):
        beaten = any((other <= point).all() and (other < point).any() for other in values)
        assert (i in front) != beaten


def test_a_trial_is_found_with_all_that_happened_to_it(laptop):
    found = trial(laptop, "laptop/12")
    assert [a["outcome"] for a in found.attempts] == ["lost", "completed"]
    assert len(found.epochs) == 4
    assert trial(laptop, "13").attempts[0]["outcome"] is None  # still running
    assert trial(laptop, "8").decisions[0]["verdict"] == "stop"


@pytest.mark.parametrize(
    ("name", "message"),
    [("laptop/99", "it has 16, 0 to 15"), ("laptop", "names no trial"), ("lapto/3", "did you mean 'laptop'")],
)
def test_a_trial_that_does_not_exist_is_refused(laptop, name, message):
    with pytest.raises(CallerError, match=message):
        trial(laptop, name)


def test_comparing_trials_shows_what_differs(laptop):
    found = compare_trials([trial(laptop, "0"), trial(laptop, "1")])
    lines = {line.name: line for line in found.lines}
    assert lines["config.train.learning_rate"].differs
    assert not lines["state"].differs
    assert found.warning == ""
    with pytest.raises(CallerError, match="expected two or more"):
        compare_trials([trial(laptop, "0")])


def test_comparing_sweeps_on_different_data_warns(tmp_path):
    ledgers.plain(tmp_path, "here", 3, 3, data=("music21", "a"))
    ledgers.plain(tmp_path, "there", 4, 3, data=("jsb", "b"))
    found = compare_sweeps(results.open(tmp_path))
    assert "must not be compared" in found.warning
    lines = {line.name: line.values for line in found.lines}
    assert lines["trials"] == (3, 4)
    assert lines["sweep.name"] == ("here", "there")


def test_a_summary_counts_states_and_the_time_at_work(laptop):
    figures = summary(laptop.sweeps[0])
    assert (figures["trials"], figures["completed"], figures["running"]) == (16, 9, 1)
    assert (figures["best"], figures["best_trial"]) == (0.5, "laptop/13")
    assert figures["wall_s"] > 60


def test_failures_tell_kind_reason_and_whose_fault(laptop):
    ended, lost = failures(laptop)
    assert (ended.kind, ended.num_trials, ended.own_fault, ended.trials) == ("non_finite", 1, 1, ("laptop/11",))
    assert "Traceback" in ended.detail
    assert (lost.kind, lost.num_trials, lost.num_attempts, lost.lost_s) == ("worker_died", 0, 1, 5.0)
    assert failures(laptop, [condition("state=completed")])[0].kind == "worker_died"


def test_failures_name_the_value_that_stands_out(tmp_path):
    sweep = ledgers.Sweep(tmp_path)
    for number in range(12):
        values = {"model.family": "transformer" if number < 4 else "conv_lstm", "train.learning_rate": 1e-3}
        sweep.trial(number, "failed" if number < 4 else "completed", epochs=2, values=values | {"train.ema": True})
    sweep.flush()
    (found,) = failures(results.open(sweep.storage.uri))
    assert found.shared == "model.family=transformer: 4 of 4, otherwise 0 of 8"


def test_importance_finds_the_parameter_that_matters(tmp_path):
    ledgers.plain(tmp_path, "many", 60, 4)
    opened = results.open(tmp_path)
    found = importances(opened)
    assert found[0].parameter == "train.learning_rate"
    assert sum(each.importance for each in found) == pytest.approx(1)
    assert {each.parameter for each in found} >= {"conv_lstm.filters", "transformer.heads"}  # conditional ones too
    assert found[0].num_trials == 60


def test_importance_of_too_little_or_of_mixed_data_is_refused(laptop, tmp_path):
    with pytest.raises(LedgerError, match="at least 10 are needed"):
        importances(laptop, where=[condition("trial<5")])
    with pytest.raises(QueryError, match="did you mean 'fanova'"):
        importances(laptop, method="anova")
    ledgers.plain(tmp_path, "a", 8, 3, data=("music21", "a"))
    ledgers.plain(tmp_path, "b", 8, 3, data=("jsb", "b"))
    with pytest.raises(CallerError, match="different data"):
        importances(results.open(tmp_path))


@pytest.mark.parametrize("name", ["rank", "id"])
def test_a_ledger_with_a_metric_called_like_a_column_of_the_leaderboard_says_so(tmp_path, name):
    schema = SweepSchema(sweep="own", metrics={name: Measure()}, objectives=((name, "min"),))
    writer = results.Writer(Storage(tmp_path), schema, session=1, next_seq=0)
    writer.append("proposals", {"trial": 0})
    writer.flush()
    with pytest.raises(LedgerError, match=f"has a column '{name}', and so has every leaderboard; results export"):
        leaderboards(results.open(tmp_path))


def test_curves_are_those_of_the_last_attempt(laptop):
    (curve,) = curves(laptop, ids=["laptop/12"])
    assert curve.epochs == (1, 2, 3, 4)
    assert curve.values[0] < 9
    assert curve.best("min") == curve.values[3]


def test_sparklines_show_heights_and_holes():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, float("nan"), 3.0]) == "▁×█"
    assert sparkline([2.0, 2.0]) == "▅▅"
    assert len(sparkline(list(range(100)), width=10)) == 10
    assert sparkline([]) == ""
