"""What a search is told of a chorale model: names of metrics, scores and measures, each with unit and meaning."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bach.measures import RATIOS

if TYPE_CHECKING:
    from bach.scoring import Report

Columns = Mapping[str, tuple[str, str]]
"""Names, each with its unit and its meaning."""

METRICS: Columns = {
    "val_nll": ("nats/note", "negative log-likelihood of whole pieces of the validation split; lower is better"),
    "val_accuracy": ("share", "validation notes whose most probable token is right"),
    "train_loss": ("nats/note", "mean training loss, with dropout, smoothing and transposition"),
    "learning_rate": ("", "learning rate of the epoch's last step"),
    "train_notes_per_s": ("notes/s", "training notes per second of training time"),
    "num_parameters": ("", "weights of the model, trained or not"),
}
SPEED: Columns = {"notes_per_s": ("notes/s", "notes that the model writes per second, one chorale at a time")}

SCORES: Columns = {
    "test_nll": ("nats/note", "negative log-likelihood of whole pieces of the test split; lower is better"),
    "test_nll_low": ("nats/note", "lower end of its 95 % interval over pieces"),
    "test_nll_high": ("nats/note", "upper end of its 95 % interval over pieces"),
    "test_accuracy": ("share", "test notes whose most probable token is right"),
    "test_changed_nll": ("nats/note", "test_nll of notes that differ from their voice's note before"),
    "test_changed_accuracy": ("share", "test_accuracy of these"),
    "test_distinct_nll": ("nats/note", "test_nll without the pieces that stand in train, too"),
    "test_window_nll": ("nats/note", "the notebook's protocol on test: windows of 33 steps, shifted by 16"),
    "test_window_accuracy": ("share", "accuracy in these windows"),
    "val_changed_nll": ("nats/note", "val_nll of notes that differ from their voice's note before"),
    "val_distinct_nll": ("nats/note", "val_nll without the pieces that stand in train, too"),
    "val_window_nll": ("nats/note", "the notebook's protocol on the validation split"),
    "val_window_accuracy": ("share", "accuracy in these windows"),
}
_OF_VALID = ("val_nll", "val_accuracy")


def named_scores(report: "Report", *, all_of_valid: bool = False) -> dict[str, float]:
    """A report's numbers under the names of `SCORES`; those without a number (nothing to count) are left out."""
    pieces, windows = report.results["pieces"], report.results["windows"]
    low, high = pieces.nll_interval or (math.nan, math.nan)
    prefix = {"valid": "val"}.get(report.split, report.split)
    found = {
        "nll": pieces.notes.nll_nats,
        "nll_low": low,
        "nll_high": high,
        "accuracy": pieces.notes.accuracy,
        "changed_nll": pieces.groups["changed"].nll_nats,
        "changed_accuracy": pieces.groups["changed"].accuracy,
        "distinct_nll": report.distinct["pieces"].notes.nll_nats if report.distinct else pieces.notes.nll_nats,
        "window_nll": windows.notes.nll_nats,
        "window_accuracy": windows.notes.accuracy,
    }
    named = {f"{prefix}_{name}": value for name, value in found.items() if not math.isnan(value)}
    known = {*SCORES, *(_OF_VALID if all_of_valid else ())}
    return {name: value for name, value in named.items() if name in known}


_UNITS = {1: "share", 1000: "per 1000 notes"}
MEASURES: Columns = {
    "temperature": ("", "temperature that the chorale was sampled with"),
    "seed": ("", "seed that it was sampled with"),
    "nll": ("nats/note", "what the model itself pays for its notes"),
    "notes": ("notes", "notes in all voices, held ones counted once"),
    **{ratio.name: (_UNITS[ratio.per], ratio.meaning) for ratio in RATIOS if not ratio.name.startswith("duration_")},
    "longest_stuck": ("steps", "longest stretch in which no voice changes"),
    "longest_copied_run": ("steps", "longest stretch that it shares with a training chorale, in whatever key"),
    "distance": ("", "how far its intervals, durations and harmonies lie from the training chorales'; lower is closer"),
}
