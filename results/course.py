"""Which epochs of a trial belong to the course that it is on, and which were given up when an attempt began earlier."""

import numpy as np


def on_course(trial: np.ndarray, attempt: np.ndarray, epoch: np.ndarray) -> np.ndarray:
    """Returns which epochs count: those with no later attempt that began at or before them.

    Attempt 1 got to epoch 6, attempt 2 went on from the checkpoint of epoch 3 and has come to epoch 4: epochs 1 to 3 of
    the first and epoch 4 of the second count. Epochs 5 and 6 are of a course that was given up.

    Args:
        trial: `[N]` numbers, in any order.
        attempt: `[N]` which attempt of the trial trained the epoch; NaN counts as before the first.
        epoch: `[N]` numbers.

    Returns:
        `[N]` booleans. An epoch that one attempt reported twice counts twice.
    """
    attempt = np.nan_to_num(attempt).astype(np.int64)
    if not len(attempt) or attempt.min() == attempt.max():
        return np.ones(len(attempt), bool)
    order = np.lexsort((-attempt, epoch, trial))
    _, place = np.unique(trial, return_inverse=True)
    # Greater in every trial than in the one before, so the greatest attempt so far is never that of another trial.
    number = place * (attempt.max() + 1) + attempt
    counts = np.empty(len(attempt), bool)
    counts[order] = number[order] == np.maximum.accumulate(number[order])
    return counts
