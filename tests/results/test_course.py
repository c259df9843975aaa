"""Epochs that a trial gave up, for it went on from a checkpoint before them, are seen by no reader."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import results
from results.checking import check
from results.course import on_course
from results.curves import curves
from results.ledger import Ledger
from tests.results import ledgers


def test_an_epoch_counts_only_if_no_later_attempt_began_at_or_before_it():
    rows = [  # trial, attempt, epoch, counts
        *((0, 1, epoch, epoch <= 1) for epoch in range(1, 7)),
        (0, 2, 4, False), (0, 2, 5, False),  # attempt 2 went on after epoch 3,
        (0, 3, 2, True), (0, 3, 3, True),    # attempt 3 after epoch 1
        (1, 1, 1, True), (1, 1, 2, True),    # what happens to trial 0 is no matter of trial 1
        (2, 2, 1, True), (2, 1, 2, False),   # a latecomer
        (3, 1, 1, True), (3, 2, 3, True),    # attempt 2 went on after epoch 2, which is still to come
        (3, 1, 2, True),
    ]  # fmt: skip
    trial, attempt, epoch, counts = map(np.array, zip(*rows, strict=True))
    for order in (np.arange(len(rows)), np.arange(len(rows))[::-1], np.random.default_rng(1).permutation(len(rows))):
        assert on_course(trial[order], attempt[order], epoch[order]).tolist() == counts[order].tolist()
    assert on_course(trial[:0], attempt[:0], epoch[:0]).tolist() == []


@pytest.fixture
def lost(tmp_path) -> ledgers.Sweep:
    """Six epochs, the node is lost; attempt 2 goes on from the checkpoint of epoch 3, and has come to epoch 4."""
    sweep = ledgers.Sweep(tmp_path, "lost")
    config = sweep.propose(0)
    sweep.begin(0)
    for epoch in range(1, 7):
        sweep.epoch(0, epoch, 1 / epoch)
    sweep.end(0, "lost", 6, kind="node_lost", reason="its machine went away")
    sweep.begin(0, 2, "lost")
    sweep.epoch(0, 4, 0.3, attempt=2)
    sweep.flush()
    sweep.config = config  # pyright: ignore[reportAttributeAccessIssue]
    return sweep


KEPT = [(1, 1), (2, 1), (3, 1), (4, 2)]


def test_no_reader_sees_epochs_that_were_given_up(lost):
    opened = results.open(lost.storage.uri)
    epochs = opened.arrow("epochs", ["epoch", "attempt"]).to_pylist()
    assert [(row["epoch"], row["attempt"]) for row in epochs] == KEPT
    (trial,) = opened.arrow("trials").to_pylist()
    assert (trial["state"], trial["epochs"], trial["best_epoch"], trial["val_nll"]) == ("running", 4, 4, 0.3)
    (curve,) = curves(opened)
    assert curve.epochs == (1, 2, 3, 4)
    assert Ledger(lost.storage).raw("epochs").num_rows == 7  # what was trained is not forgotten


def test_a_trial_that_counts_the_epochs_of_its_course_keeps_the_promises(lost):
    lost.end(0, "paused", 4, attempt=2, kind="user", reason="the sweep was stopped")
    curve = {1: 1.0, 2: 1 / 2, 3: 1 / 3, 4: 0.3}
    lost.finish(0, "unfinished", lost.config, curve, attempts=2, kind="user", reason="the sweep was stopped")
    lost.flush()
    assert check(Ledger(lost.storage)) == []


def test_compacting_puts_them_aside_for_readers_that_know_no_rule(lost):
    Ledger(lost.storage).compact()
    frame = pd.read_parquet(Path(lost.storage.uri) / "ledger" / "epochs")
    assert list(zip(frame["epoch"], frame["attempt"], strict=True)) == KEPT
    assert Ledger(lost.storage).raw("epochs").num_rows == 7
    lost.epoch(0, 2, 0.4, attempt=3)  # and so with those that are given up later
    lost.flush()
    assert Ledger(lost.storage).table("epochs")["epoch"].to_pylist() == [1, 2]
