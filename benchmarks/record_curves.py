"""Records real learning curves of small models, as `bench_telling.py` takes them.

Draws points of bach's own space at random, held to small widths, trains each for a few epochs on the openings of some
chorales of `music21`, and writes one line a point: the values that vary and `val_nll` after every epoch. A training
that fails is a line too, with empty cells from the epoch on that it did not reach.

Run: python benchmarks/record_curves.py benchmarks/data/curves.csv --points 120 --minutes 15
"""

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from bach import corpus
from bach.errors import TrainingFailed
from bach.hypermodel import build, parameters
from bach.settings import TrainingSettings
from bach.training import Training

VARIED: dict[str, list[Any]] = {
    "train.optimizer": ["adamw", "nadam"],
    "train.schedule": ["cosine", "one_cycle", "constant"],
    "train.clip_norm": [0.0, 1.0, 5.0],
    "train.batch_size": [16, 32],
    "train.ema": [0.0, 0.99],
    "train.transposition": [0, 3, 12],
    "inputs.notes": [1, 4],
    "inputs.beat": [0, 16],
    "inputs.held": [True, False],
}
"""Choices of every family; beside them `train.learning_rate`, 1e-4 to 1e-2 on a log scale."""
OF_FAMILY: dict[str, dict[str, list[Any]]] = {
    "conv_lstm": {
        "conv_lstm.embedding_dim": [8, 16, 32],
        "conv_lstm.dilation_depth": [0, 1, 2],
        "conv_lstm.normalization": ["layer", "batch", "none"],
        "conv_lstm.dropout": [0.0, 0.15, 0.3],
        "conv_lstm.cell": ["lstm", "gru"],
    },
    "transformer": {
        "transformer.layers": [1, 2],
        "transformer.attention_heads": [2, 4],
        "transformer.activation": ["relu", "gelu"],
        "transformer.norm_first": [True, False],
        "transformer.dropout": [0.0, 0.2, 0.4],
    },
}
"""Choices that one family has."""
HELD: dict[str, dict[str, Any]] = {
    "conv_lstm": {"conv_lstm.filters": 32, "conv_lstm.lstm_width": 64},
    "transformer": {"transformer.embedding_dim": 64, "transformer.head_dim": 16, "transformer.feed_forward": 128},
}
"""What is the same at every point, so that an epoch takes less than a second on one core."""


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Returns a point at random."""
    family = rng.choice(list(OF_FAMILY))
    point: dict[str, Any] = {"model.family": str(family)}
    for name, options in {**VARIED, **OF_FAMILY[family]}.items():
        point[name] = options[rng.integers(len(options))]
    point["train.learning_rate"] = float(10 ** rng.uniform(-4, -2))
    return point


def train(point: dict[str, Any], pieces: list[Any], valid: list[Any], epochs: int) -> tuple[list[float], float]:
    """Returns `val_nll` after each epoch, as far as training went, and the seconds that all took."""
    import keras

    began = time.monotonic()
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    hp = parameters({**point, **HELD[point["model.family"]], "train.window_steps": 32})
    training = Training(build(hp), TrainingSettings.from_hp(hp), pieces, valid, epochs=epochs, seed=1)
    curve = []
    try:
        curve.extend(result.val_nll for result in training.run())
    except TrainingFailed:
        curve = [result.val_nll for result in training.history]
    return curve, time.monotonic() - began


def main() -> None:
    """Trains, and writes a line after each point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--points", type=int, default=120)
    parser.add_argument("--minutes", type=float, default=15.0, help="no point is begun after these")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--steps", type=int, default=64, help="of each piece's opening that are used")
    parser.add_argument("--seed", type=int, default=1685)
    options = parser.parse_args()
    data = corpus.load("music21")
    pieces = [chorale.pitches[: options.steps] for chorale in data.splits["train"][: options.pieces]]
    valid = [chorale.pitches[: options.steps] for chorale in data.splits["valid"][:12]]
    names = ["model.family", "train.learning_rate", *VARIED, *(n for own in OF_FAMILY.values() for n in own)]
    rng = np.random.default_rng(options.seed)
    began = time.monotonic()
    with open(options.out, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*(f"config.{name}" for name in names), *range(1, options.epochs + 1), "seconds"])
        for _ in range(options.points):
            if time.monotonic() - began > 60 * options.minutes:
                break
            point = draw(rng)
            curve, seconds = train(point, pieces, valid, options.epochs)
            cells = [f"{value:.5f}" for value in curve] + [""] * (options.epochs - len(curve))
            table.writerow([*(point.get(name, "") for name in names), *cells, f"{seconds:.2f}"])
            file.flush()


if __name__ == "__main__":
    main()
