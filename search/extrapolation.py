"""Where a stopped trial would have ended, from how others went on.

Curves are taken as *running best*: the best value up to each epoch. From one epoch at which trials were stopped to the
next, and from the last to the end, a line is fitted through the trials that were seen at both; a stopped trial's value
is carried along these lines to the end. Trials that went on are better than those that did not, so a line is drawn
through good trials and used on worse ones. That bends no line, since trials are chosen by the value that it starts
from; but while they are few its slope is held near 1, which moves all by the same amount. (Actuaries extrapolate claims
in this way and call it the chain ladder.)
"""

from collections.abc import Mapping, Sequence

import numpy as np

HELD = 5.0
"""The slope of a line is held near 1 as if by so many more trials."""
STEEPEST = 5.0
"""No slope is above it: differences grow while some trials learn and others do not, but not without end."""

Curve = Mapping[int, float]
"""Epoch, from 1 -> loss; lower is better."""


def ends(completed: Sequence[Curve], stopped: Sequence[Curve]) -> list[float]:
    """Returns the loss that each of `stopped` would have ended with; order within one epoch of stopping is kept.

    While no trial has been completed the losses are those at the last epoch at which one was stopped: comparable with
    each other, which is all that is needed then.

    Args:
        completed: trials that ran to their end, each with one epoch at least.
        stopped: trials that did not, each with one epoch at least.
    """
    last = np.array([max(curve) for curve in stopped])
    places = sorted({*last.tolist()})
    columns = [_best_until([*completed, *stopped], place) for place in places]
    if completed:
        final = [min(curve.values()) for curve in completed]
        columns.append(np.array(final + [np.nan] * len(stopped)))
    carried = np.full(len(stopped), np.nan)
    for number, place in enumerate(places):
        carried = np.where(last == place, columns[number][len(completed) :], carried)
        if number + 1 < len(columns):
            slope, offset = _line(columns[number], columns[number + 1])
            carried = offset + slope * carried
    # What it has reached it would not have lost.
    return np.minimum(carried, [min(curve.values()) for curve in stopped]).tolist()


def _best_until(curves: Sequence[Curve], epoch: int) -> np.ndarray:
    """Returns each one's running best at `epoch`; NaN for those that did not come so far."""
    return np.array(
        [min(loss for at, loss in c.items() if at <= epoch) if max(c) >= epoch >= min(c) else np.nan for c in curves]
    )


def _line(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Returns slope, 0 or more, and offset of the line from one column to the next."""
    both = np.isfinite(before) & np.isfinite(after)
    if not both.any():
        return 1.0, 0.0
    x, y = before[both], after[both]
    # The spread of all that came to the first place, not of those alone that went on, says how far the line must reach.
    pull = HELD * float(np.var(before[np.isfinite(before)]))
    x0, y0 = float(np.mean(x)), float(np.mean(y))
    below = float(np.sum((x - x0) ** 2)) + pull
    slope = (float(np.sum((x - x0) * (y - y0))) + pull) / below if below > 0 else 1.0
    slope = min(max(slope, 0.0), STEEPEST)
    # The median: one trial that went astray does not move the others.
    return slope, float(np.median(y - slope * x))
