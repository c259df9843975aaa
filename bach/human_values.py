"""What the measures of samples are for Bach himself: values to compare with, and where they become unusual.

Only pitches are read; no model is scored here.
"""

import functools

import numpy as np

from bach.corpus import Dataset
from bach.measures import COPIED_RUN, RATIOS, Reference, measure, measure_many
from bach.notes import Pitches, Split
from bach.task_columns import MEASURES

MEDIANS = ("notes", "longest_stuck", "longest_copied_run", "distance")
"""Measures of one chorale that cannot be pooled: of a set, the median over its chorales stands."""
LIMITS = {
    "longest_copied_run": (
        None,
        float(COPIED_RUN),
        "copies the training set: longer than nine in ten of Bach's own held-out chorales share with it",
    ),
    "parallel_fifths": (None, 5.4, "more parallel fifths than in 95 % of Bach's chorales"),
    "parallel_octaves": (None, 3.7, "more parallel octaves than in 95 % of Bach's chorales"),
    "voice_crossings": (None, 0.098, "voices cross more than in 95 % of Bach's chorales"),
    "wide_spacings": (None, 0.06, "upper voices farther apart than in 95 % of Bach's chorales"),
    "voice_overlaps": (None, 68.0, "more overlaps than in 95 % of Bach's chorales"),
    "longest_stuck": (None, 16.0, "stands still for longer than 95 % of Bach's chorales"),
    "distance": (None, 0.34, "farther from the training set than 95 % of Bach's chorales"),
}
"""Where a measure of one chorale is marked: below, above (both exclusive), and what that says.

The 95th percentiles over single chorales of train and valid of `music21`; docs/measures.md has them, a test measures
them again.
"""


@functools.lru_cache(maxsize=4)
def human_values(dataset: Dataset, splits: tuple[Split, ...]) -> dict[str, dict[str, float]]:
    """Returns the measures of the human pieces of each split, under names such as `Bach, valid`.

    Rates and shares are pooled over the split, so that a long piece weighs more; the `MEDIANS` are of single pieces,
    because that is what one sample compares with. What is copied is told by train; of train itself it is left out.
    The last results are kept.

    Args:
        dataset: of the pieces.
        splits: those to measure; no other but train is read.
    """
    try:
        reference = Reference(chorale.pitches for chorale in dataset.splits["train"])
    except ValueError:  # too few chorales to compare with
        reference = None
    return {
        f"Bach, {split}": _values([c.pitches for c in dataset.splits[split]], reference, is_train=split == "train")
        for split in splits
    }


def _values(chorales: list[Pitches], reference: Reference | None, *, is_train: bool) -> dict[str, float]:
    pooled = measure_many(chorales)
    single = [measure(chorale, reference) for chorale in chorales]
    found = {ratio.name: pooled[ratio.name] for ratio in RATIOS if ratio.name in MEASURES}
    for name in MEDIANS:
        values = np.array([each[name] for each in single if name in each])
        if len(values) and not (is_train and name == "longest_copied_run"):
            found[name] = float(np.nanmedian(values))
    return found
