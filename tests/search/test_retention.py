"""Which checkpoints stay when their trials have ended."""

import pytest

from results.schema import Parameter, SweepSchema
from results.storage import Storage
from search import retention
from search.checkpoints import Checkpoints
from search.retention import Retention
from search.spec import CheckpointSettings
from search.state import SweepState
from search.task import declared

METRICS = {"loss": ("nats", "falls", "min")}


class Measured:
    metrics = METRICS


SCHEMA = SweepSchema(
    sweep="kept",
    parameters={"rate": Parameter("float")},
    metrics=declared("Measured", Measured()),
    objectives=(("loss", "min"),),
)


def ended(storage, endings, size=10):
    """A sweep whose trials ended so, each with checkpoints of its best epoch, 1, and its last, 2; lower numbers are
    better."""
    state = SweepState(SCHEMA)
    for number, ending in enumerate(endings):
        state.apply("proposals", {"trial": number, "config.rate": 0.1})
        state.apply("attempts", {"trial": number, "attempt": 1})
        place = Checkpoints(storage, number, "same")
        for epoch, loss in ((1, number), (2, number + 0.5)):
            state.apply("epochs", {"trial": number, "attempt": 1, "epoch": epoch, "loss": loss})
            storage.write(f"checkpoints/{number:05d}/e{epoch:05d}-a1/manifest.json", b" " * size)
        assert len(place.names()) == 2
        state.apply("attempt_ends", {"trial": number, "attempt": 1, "outcome": ending})
        state.apply("trials", {"trial": number, "state": ending})
    return state


def left(storage):
    return {
        int(number): [int(name[1:6]) for name in storage.names(f"checkpoints/{number}")]
        for number in storage.names("checkpoints")
    }


@pytest.mark.parametrize("many", [0, 100])
def test_the_best_trials_keep_their_best_epoch_and_completed_ones_their_last(tmp_path, monkeypatch, many):
    monkeypatch.setattr(retention, "MANY", many)
    storage = Storage(tmp_path)
    state = ended(storage, ["stopped", "completed", "failed", "completed", "stopped"])
    kept = Retention(storage, CheckpointSettings(keep_best=2))
    kept.apply(state)
    assert left(storage) == {0: [1], 1: [1, 2], 3: [2]}
    # A better one comes: what was among the best is no longer.
    state.apply("epochs", {"trial": 5, "attempt": 1, "epoch": 1, "loss": -1.0})
    state.apply("trials", {"trial": 5, "state": "stopped"})
    kept.apply(state)
    assert left(storage) == {0: [1], 1: [2], 3: [2]}


def test_a_trial_that_was_extended_is_looked_at_when_it_ends_again(tmp_path):
    storage = Storage(tmp_path)
    state = ended(storage, ["completed", "completed"])
    kept = Retention(storage, CheckpointSettings(keep_best=1))
    kept.apply(state)
    assert left(storage) == {0: [1, 2], 1: [2]}
    state.apply("attempts", {"trial": 1, "attempt": 2})
    for epoch in (3, 4):
        state.apply("epochs", {"trial": 1, "attempt": 2, "epoch": epoch, "loss": 2.0})
        storage.write(f"checkpoints/00001/e{epoch:05d}-a2/manifest.json", b" ")
    kept.apply(state)
    assert left(storage)[1] == [2, 3, 4]
    state.apply("attempt_ends", {"trial": 1, "attempt": 2, "outcome": "completed"})
    state.apply("trials", {"trial": 1, "state": "completed"})
    kept.apply(state)
    assert left(storage) == {0: [1, 2], 1: [4]}


def test_the_disk_is_measured_again_only_after_twenty_times_as_long_as_it_took(tmp_path):
    storage, now = Storage(tmp_path), [0.0]
    sizes = []

    class Slow(Storage):
        def size(self, folder=""):
            sizes.append(now[0])
            now[0] += 3.0
            return super().size(folder)

    kept = Retention(Slow(tmp_path), CheckpointSettings(disk_bytes=10**6), clock=lambda: now[0])
    for number in range(1, 30):
        kept.apply(ended(storage, ["completed"] * number))
        now[0] += 5.0
    assert sizes == [0.0, 63.0, 126.0]


def test_beyond_the_budget_the_worst_go_first_and_the_best_stays(tmp_path):
    storage = Storage(tmp_path)
    Retention(storage, CheckpointSettings(keep_best=1, disk_bytes=45)).apply(ended(storage, ["completed"] * 6))
    assert left(storage) == {0: [1, 2], 1: [2], 2: [2]}
