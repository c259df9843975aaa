import json
import math
import sys
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import parts
from results.schema import SweepSchema
from search.state import STATES, SweepState
from tests.search.event_book import SCHEMA, START, Book


def curve(book, trial=0):
    return [(n, row.attempt, row.metrics["loss"]) for n, row in book.state.trials[trial].epochs.items()]


def test_a_trial_walks_through_its_states():
    book = Book()
    trials = book.state.trials
    book.proposal(0, width=3, kind=None)
    assert (trials[0].state, trials[0].values) == ("proposed", {"width": 3})
    book.attempt(0, 1)
    assert (trials[0].state, trials[0].attempt) == ("running", 1)
    book.attempt_end(0, 1, "paused")
    assert trials[0].state == "paused"
    book.attempt(0, 2, "promoted")
    book.attempt_end(0, 2, "lost", reason_kind="node_lost")
    assert trials[0].state == "proposed"  # waits for another attempt
    book.attempt(0, 3, "lost")
    book.attempt_end(0, 3, "completed")
    book.end(0, "completed", checkpoint="best")
    assert (trials[0].state, trials[0].checkpoint, trials[0].is_ended) == ("completed", "best", True)
    assert [attempt.outcome for attempt in trials[0].attempts.values()] == ["paused", "lost", "completed"]
    assert book.state.ended == [trials[0]]
    assert book.state.unfinished == []


def test_an_extended_trial_runs_again():
    book = Book()
    book.proposal(0)
    book.attempt(0, 1)
    book.end(0, "completed")
    book.attempt(0, 2, "extended")
    assert (book.state.trials[0].state, book.state.trials[0].ended) == ("running", None)


def test_counts_are_those_of_the_trials():
    book = Book()
    for trial in range(6):
        book.proposal(trial)
    for trial in range(5):
        book.attempt(trial, 1)
    for trial, state in enumerate(("completed", "stopped", "failed", "unfinished")):
        book.end(trial, state)
    counts = book.state.counts()
    assert list(counts) == list(STATES)
    assert counts == dict.fromkeys(STATES, 1) | {"paused": 0}
    assert [trial.trial for trial in book.state.unfinished] == [3, 4, 5]
    assert [trial.trial for trial in book.state.running] == [4]


def test_an_attempt_that_goes_on_from_a_checkpoint_replaces_what_came_after_it():
    book = Book()
    book.epochs(0, 1, [9, 8, 7, 6, 5, 1, 1, 1])  # attempt 1 got to epoch 8, its checkpoint to 5
    book.epoch(0, 2, 6, 4)
    assert curve(book) == [(1, 1, 9), (2, 1, 8), (3, 1, 7), (4, 1, 6), (5, 1, 5), (6, 2, 4)]
    assert book.state.trials[0].best_epoch == 6
    assert book.state.best_value(0) == 4
    book.epoch(0, 2, 7, 5)
    assert book.state.trials[0].epoch == 7
    assert book.state.trials[0].best_epoch == 6


def test_an_attempt_that_starts_over_replaces_everything():
    book = Book()
    book.epochs(0, 1, [3, 2, 1])
    book.epoch(0, 2, 1, 3)
    assert curve(book) == [(1, 2, 3)]
    assert book.state.best_value(0) == 3


def test_epochs_before_the_new_attempt_reports_still_count():
    book = Book()
    book.attempt(0, 1)
    book.epochs(0, 1, [3, 2, 1])
    book.attempt_end(0, 1, "lost")
    book.attempt(0, 2, "lost")
    assert book.state.trials[0].epoch == 3


def test_a_latecomer_of_an_earlier_attempt_is_left_out():
    book = Book()
    book.epochs(0, 1, [5, 4])
    book.epoch(0, 2, 2, 3)
    book.epoch(0, 1, 3, 0)
    assert curve(book) == [(1, 1, 5), (2, 2, 3)]


def test_rows_of_one_attempt_may_come_in_any_order():
    book = Book()
    for epoch in (3, 1, 2):
        book.epoch(0, 1, epoch, 10 - epoch)
    assert curve(book) == [(1, 1, 9), (2, 1, 8), (3, 1, 7)]
    assert book.state.trials[0].best_epoch == 3


def test_the_best_is_the_first_of_equals_and_always_finite():
    book = Book()
    book.epochs(0, 1, [math.nan, 2.0, 2.0, -math.inf])
    book.epochs(1, 1, [math.nan])
    assert book.state.trials[0].best_epoch == 2
    assert book.state.best(1) is None
    assert book.state.best_value(1) is None
    assert [trial.trial for trial in book.state.ranked()] == [0]


def test_a_failed_trial_is_not_ranked():
    book = Book()
    for trial, loss in enumerate((3.0, 1.0, 2.0)):
        book.proposal(trial)
        book.epoch(trial, 1, 1, loss)
    book.end(1, "failed", reason_kind="non_finite", reason="loss is NaN")
    assert [trial.trial for trial in book.state.ranked()] == [2, 0]
    assert book.state.best_trial() is book.state.trials[2]


def test_loss_is_lower_for_the_better_whatever_the_goal():
    schema = SweepSchema(
        sweep="toy", parameters={}, metrics=SCHEMA.metrics, scores={}, measures={}, objectives=(("speed", "max"),)
    )
    book = Book(schema)
    book.epoch(0, 1, 1, 0.0, speed=3.0)
    book.epoch(0, 1, 2, 0.0, speed=5.0)
    assert book.state.losses(0) == {1: -3.0, 2: -5.0}
    assert book.state.loss(0, 3) is None
    assert book.state.best_value(0) == 5.0
    assert book.state.results(0, 1) == (3.0,)


def test_the_last_decision_at_an_epoch_counts():
    book = Book()
    decision = {"trial": 0, "attempt": 1, "bracket": 0, "rung": 0, "value": 2.0, "num_values": 3}
    book.add("decisions", epoch=1, cutoff=None, verdict="pause", audited=False, **decision)
    book.add("decisions", epoch=1, cutoff=1.5, verdict="stop", audited=True, **decision)
    assert [(d.verdict, d.cutoff) for d in book.state.trials[0].decisions.values()] == [("stop", 1.5)]
    assert book.state.trials[0].audited


def test_gpu_time_is_that_of_ended_attempts():
    book = Book()
    book.attempt(0, 1, gpus=0.5)
    book.attempt_end(0, 1, "completed", wall_s=10.0)
    book.attempt(1, 1, gpus=1.0)  # row 2, second 2
    book.epoch(1, 1, 1, 1.0)  # second 3
    book.attempt_end(1, 1, "lost", wall_s=None, time=START + timedelta(days=9))  # its driver died after second 3
    assert book.state.gpu_s == pytest.approx(5.0 + 1.0)


def test_rows_of_the_other_tables_are_kept_by_their_keys():
    book = Book()
    book.add("sessions", command="run")
    book.add("finals", final=1, trial=0, chosen=False)
    book.add("finals", final=0, trial=0, chosen=False)
    book.add("finals", final=1, trial=0, chosen=True)
    book.add("samples", sample=0, path="a.mid")
    book.add("openings", opening=0, who="me")
    book.add("choices", choice=0, rank=1, trial=0)
    book.add("choices", choice=0, rank=2, trial=1)
    state = book.state
    assert [(row["final"], row["chosen"]) for row in state.finals] == [(0, False), (1, True)]
    assert [row["trial"] for row in state.choices] == [0, 1]
    assert (len(state.samples), len(state.openings), state.session, len(state.sessions)) == (1, 1, 1, 1)


def test_replay_comes_to_the_same_and_is_json():
    book = Book()
    book.add("sessions", command="run")
    book.proposal(0, width=1, kind="a")
    book.attempt(0, 1)
    book.epochs(0, 1, [2.0, math.nan])
    book.attempt_end(0, 1, "failed", reason_kind="non_finite", detail="Traceback")
    book.end(0, "failed", reason_kind="non_finite")
    document = book.state.document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert SweepState(SCHEMA).replay(book.rows).document() == document
    assert SweepState(SCHEMA).replay(book.rows[:-1]).document() != document


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no table 'trails' in a ledger"):
        SweepState(SCHEMA).apply("trails", {})


def test_a_row_is_as_little_work_late_in_a_long_ledger_as_early():
    state = SweepState(SCHEMA)
    rows = [
        {"seq": i, "time": START, "trial": i % 1000, "attempt": 1, "epoch": i // 1000 + 1, "loss": 1.0, "speed": 2.0}
        for i in range(50_000)
    ]
    # How long it takes, `benchmarks/bench_ledger.py` measures; here, that it does not grow.
    early = calls(lambda: [state.apply("epochs", row) for row in rows[:2_000]])
    for row in rows[2_000:-2_000]:
        state.apply("epochs", row)
    late = calls(lambda: [state.apply("epochs", row) for row in rows[-2_000:]])
    assert late <= 1.1 * early
    assert state.num_results == 50_000


def calls(work):
    """How many functions are called in doing `work`, those written in C too: work that no machine's speed changes."""
    count = 0

    def called(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_time_between_sessions_does_not_count():
    book = Book()
    book.add("sessions", command="run")  # second 0
    book.proposal(0)  # second 1
    later = START + timedelta(hours=5)
    book.add("sessions", command="resume", session=2, time=later)
    book.add("proposals", trial=1, session=2, time=later + timedelta(seconds=4))
    assert book.state.elapsed_s() == 1 + 4
    assert book.state.elapsed_s(later.timestamp() + 10) == 1 + 10


def test_the_time_of_the_final_job_is_not_the_sweeps():
    book = Book()
    book.add("sessions", command="run")  # second 0
    book.proposal(0)  # second 1
    book.add("finals", final=0, time=START + timedelta(minutes=15))
    book.add("sessions", command="final", session=2, time=START + timedelta(hours=5))
    book.add("finals", final=1, session=2, time=START + timedelta(hours=6))
    assert book.state.elapsed_s() == 1
    later = START + timedelta(hours=7)
    book.add("sessions", command="extend", session=3, time=later)
    book.add("proposals", trial=1, session=3, time=later + timedelta(seconds=4))
    assert book.state.elapsed_s() == 1 + 4
    assert book.state.elapsed_s(later.timestamp() + 10) == 1 + 10


def test_the_ranking_may_be_cut_short():
    book = Book()
    for trial, loss in enumerate((3.0, 1.0, 2.0, 1.0)):
        book.epoch(trial, 1, 1, loss)
    assert [trial.trial for trial in book.state.ranked()] == [1, 3, 2, 0]
    assert [trial.trial for trial in book.state.ranked(2)] == [1, 3]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.integers(1, 6)), max_size=30))
def test_the_epochs_are_those_that_readers_of_the_ledger_see(rows):
    book = Book()
    for trial, attempt, epoch in rows:
        book.epoch(trial, attempt, epoch, 1.0)
    table = pa.table(
        {
            "seq": pa.array(range(len(rows)), pa.int64()),
            **{
                name: pa.array([row[i] for row in rows], pa.int32())
                for i, name in enumerate(("trial", "attempt", "epoch"))
            },
        }
    )
    seen = table.filter(pa.array(parts.seen(table, "epochs"))).to_pylist()
    for trial, state in book.state.trials.items():
        expected = sorted((row["epoch"], row["attempt"]) for row in seen if row["trial"] == trial)
        assert [(row.epoch, row.attempt) for row in state.epochs.values()] == expected
