"""What marks an attempt in the log of its worker."""

import pytest

from search.attempts import Attempt, Progress
from search.marks import Marks, label


def attempt(trial, number=1):
    return Attempt(
        trial=trial, attempt=number, cause="first", values={}, seed=1, epochs=2, milestones=(), known_epoch=0,
        objective="loss", minimize=True, time_limit_s=None, checkpoint_s=1.0, cpus=1.0, gpus=0.0,
        handed_out=0.0,
    )  # fmt: skip


def epoch(number):
    return {"epoch": number, "metrics": {"loss": 1.0 / number}}


def test_names_sort_as_numbers_do():
    assert label(7, 2) == "trial-00007-2"
    assert sorted([label(10, 1), label(9, 1)]) == [label(9, 1), label(10, 1)]


@pytest.mark.parametrize("storage", ["/mnt/sweeps/gpu", "s3://bucket/sweeps/gpu?endpoint_override=a/b", "runs/gpu/"])
def test_the_log_says_where_each_attempt_begins_and_ends(capsys, storage):
    marks = Marks(storage)
    marks.begin(attempt(0))
    marks.told(Progress(epochs=(epoch(1), epoch(2))))
    marks.begin(attempt(3, 2))  # the sweep has stopped the one before
    marks.told(Progress(epochs=(epoch(1),), outcome="completed"))
    marks.end()  # over already
    assert capsys.readouterr().out.splitlines() == [
        "trial-00000-1 of gpu begins",
        "trial-00000-1 of gpu ends: stopped after epoch 2",
        "trial-00003-2 of gpu begins",
        "trial-00003-2 of gpu ends: completed after epoch 1",
    ]
