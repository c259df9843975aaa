"""How fast a model is trained: `bach.training.Training` against plain Keras `model.fit`, in one run.

Both train `seed-conv-lstm` (or the other preset that cuts windows as the notebook does) on the same windows of 33 steps
in batches of 32: `fit` on arrays of tokens, `Training` on its own tables of the same pieces. Validation is left out of
both times, and so is the first epoch, which compiles. The two take turns, epoch by epoch, and the ratio is the median
of the repeats' own ratios. The pieces are of random notes, 60 and about as long as those of `jsb` unless `--pieces`
says otherwise: for the work it is all one.

Run: python benchmarks/bench_training.py [--presets NAME ...] [--json]; KERAS_BACKEND=jax for the other backend.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from machine import machine_of_models

from bach.encoding import encode
from bach.hypermodel import build, parameters
from bach.models.presets import PRESETS
from bach.notes import VOICE_RANGES, Pitches
from bach.settings import TrainingSettings
from bach.training import Training


def chorales(count: int, steps: int) -> list[Pitches]:
    """Returns pieces of random notes, each held for a quarter."""
    rng = np.random.default_rng(1)
    quarters = [
        np.stack([rng.integers(low, high + 1, -(-steps // 4)) for low, high in VOICE_RANGES], axis=1)
        for _ in range(count)
    ]
    return [np.repeat(piece, 4, axis=0)[:steps] for piece in quarters]


def windows(pieces: list[Pitches], settings: TrainingSettings) -> np.ndarray:
    """Returns the notebook's windows as tokens `[windows, 4 * steps]`, in order."""
    steps, shift = settings.window_steps, settings.window_shift
    cut = [piece[i : i + steps] for piece in pieces for i in range(0, len(piece) - steps + 1, shift)]
    return np.stack([encode(window) for window in cut])


class EpochTime(keras.callbacks.Callback):
    """Takes the time of an epoch, without what `fit` does before and after."""

    seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stops the clock."""
        self.seconds = time.perf_counter() - self.began


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured for one preset: notes per second of training, one value a repeat.

    Attributes:
        preset: its name.
        fit: by `model.fit`.
        training: by `bach.training.Training`.
    """

    preset: str
    fit: list[float]
    training: list[float]

    @property
    def ratio(self) -> float:
        """How many times as fast as `fit`: the median over the repeats of each one's ratio."""
        return statistics.median(t / f for t, f in zip(self.training, self.fit, strict=True))

    def to_json(self) -> dict[str, object]:
        """Returns all of it, medians and ratio included."""
        medians = {"fit_notes_per_s": statistics.median(self.fit), "notes_per_s": statistics.median(self.training)}
        return {**medians, "ratio": self.ratio, **dataclasses.asdict(self)}


def measure(name: str, *, pieces: int, steps: int, repeats: int) -> Figures:
    """Returns the figures of one preset.

    Args:
        name: of a preset whose windows are cut at fixed places.
        pieces: how many chorales to train on.
        steps: their length.
        repeats: epochs that are timed, after a first that is not.
    """
    hp = parameters(PRESETS[name].point())
    settings = TrainingSettings.from_hp(hp)
    train = chorales(pieces, steps)
    keras.utils.set_random_seed(1)
    plain = build(hp)
    training = Training(build(hp), settings, train, train[:1], epochs=repeats + 1, seed=1)
    tokens = windows(train, settings)
    x, y = tokens[:, :-1], tokens[:, 1:]
    fit_rates, training_rates = [], []
    for _ in range(repeats + 1):
        clock = EpochTime()
        plain.fit(x, y, batch_size=settings.batch_size, epochs=1, callbacks=[clock], verbose=0)
        fit_rates.append(y.size / clock.seconds)
        training_rates.append(training.run_epoch().notes_per_s)
    return Figures(preset=name, fit=fit_rates[1:], training=training_rates[1:])


def main() -> None:
    """Measures and prints."""
    seeds = [name for name, preset in PRESETS.items() if preset.values.get("train.window_shift")]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=seeds, default=["seed-conv-lstm"], metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pieces", type=int, default=60, help="chorales to train on")
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    size = {"pieces": options.pieces, "steps": 241, "repeats": options.repeats}
    if options.tiny:
        size = {"pieces": 2, "steps": 33, "repeats": 2}
    facts = machine_of_models()
    rows = [measure(name, **size) for name in options.presets]
    if options.json:
        print(json.dumps({"benchmark": "training", **facts, **size, "presets": [r.to_json() for r in rows]}, indent=1))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
    print("| preset | `model.fit`, notes/s | `Training`, notes/s | ratio |\n|---|---|---|---|")
    for row in rows:
        fit, ours = statistics.median(row.fit), statistics.median(row.training)
        print(f"| `{row.preset}` | {fit:,.0f} | {ours:,.0f} | {row.ratio:.2f} |")


if __name__ == "__main__":
    main()
