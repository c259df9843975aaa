"""Machines whose clocks disagree: no duration in the ledger comes from two clocks."""

import time
from types import SimpleNamespace

import pytest

from results.ledger import Ledger
from search import folders, preparation, sweep, trial
from tests.search import faults, rig


@pytest.mark.parametrize("ahead_s", [600.0, -600.0])
def test_a_workers_clock_that_is_off_changes_no_duration(tmp_path, monkeypatch, ahead_s):
    clocks = SimpleNamespace(time=lambda: time.time() + ahead_s, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(trial, "time", clocks)
    given = rig.spec(tmp_path, trials=4, epochs=3)
    expected = rig.spec(tmp_path / "right", trials=4, epochs=3)
    state = rig.run(given).state
    monkeypatch.undo()
    assert faults.outcome(state) == faults.outcome(rig.run(expected).state)
    place = folders.folder_of(given)
    assert faults.problems(place) == []
    ends = Ledger(place).table("attempt_ends").to_pylist()
    assert all(0 <= end["wait_s"] < 60 and 0 <= end["wall_s"] < 60 for end in ends)
    spans = [row["ended"] - row["started"] for row in Ledger(place).table("trials").to_pylist()]
    assert all(0 <= span.total_seconds() < 60 for span in spans)


def test_a_workers_wait_is_what_the_driver_saw(tmp_path):
    times = iter(range(0, 10_000, 7))
    given = rig.spec(tmp_path, trials=1, epochs=1)
    prepared = preparation.prepare(given)
    with sweep.session(prepared, command="a test") as taken:
        conductor = taken.conductor
        conductor._clock = lambda: float(next(times))
        attempt = conductor.next_attempt()
        assert attempt is not None
        worker = trial.Worker(**sweep.worker_options(given, taken.storage))
        worker.begin(attempt)
        conductor.began(0, attempt.attempt)
        conductor.report(0, attempt.attempt, worker.step())
        worker.close()
        conductor.flush()
    (end,) = Ledger(folders.folder_of(given)).table("attempt_ends").to_pylist()
    assert 7 <= end["wait_s"] < 60  # by the driver's clock, whatever the worker's shows
