"""One model in training, as a search drives it: epoch by epoch, saved and restored anywhere."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from bach import model_files
from bach.corpus import Dataset
from bach.formats import write_json
from bach.generation import Generator
from bach.hypermodel import build, parameters
from bach.notes import NUM_VOICES, Split
from bach.runs import Run, facts
from bach.settings import TrainingSettings
from bach.training import Training

SPEED_STEPS = 64
"""Length in steps of the chorale that the speed of generation is measured with."""
VALID_PIECES = "pieces-valid.json"
"""Lies beside an exported model: nats per note and notes of each validation chorale, and the data's fingerprint."""
TRAINED_ON: tuple[Split, ...] = ("train", "valid")
"""What a model to ship learns from."""
_SPEED_FILE = "speed.json"


class ChoraleRun:
    """One model in training.

    Attributes:
        model: as it is now; `export` writes that of the best epoch.
    """

    def __init__(
        self, values: Mapping[str, Any], data: Dataset, *, epochs: int, seed: int, measure_speed: bool = False
    ):
        """Builds the model; see `ChoraleTask.start`."""
        self._values, self._data, self._epochs, self._seed = dict(values), data, epochs, seed
        self._measure_speed, self._notes_per_s = measure_speed, 0.0
        self._hp = parameters(values)
        self.model = build(self._hp)
        self._training = Training(
            self.model,
            TrainingSettings.from_hp(self._hp),
            [chorale.pitches for chorale in data.splits["train"]],
            [chorale.pitches for chorale in data.splits["valid"]],
            epochs=epochs,
            seed=seed,
        )

    def epoch(self) -> dict[str, float]:
        """Trains one epoch more and returns its metrics.

        Raises:
            TrainingFailed: the loss or the score is no finite number; its `reason_kind` is `non_finite`.
        """
        result = self._training.run_epoch()
        metrics = {
            "val_nll": result.val_nll,
            "val_accuracy": result.val_accuracy,
            "train_loss": result.train_loss,
            "learning_rate": result.learning_rate,
            "train_notes_per_s": result.notes_per_s,
            "num_parameters": float(self.model.count_params()),
        }
        if self._measure_speed:
            # It does not depend on the weights, so once is enough.
            self._notes_per_s = self._notes_per_s or notes_per_s(self.model)
            metrics["notes_per_s"] = self._notes_per_s
        return metrics

    def save(self, folder: Path) -> None:
        """Writes the whole state to `folder`, whole or not at all.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._training.save(folder)
        if self._notes_per_s:
            write_json({"notes_per_s": self._notes_per_s}, Path(folder) / _SPEED_FILE)

    def restore(self, folder: Path) -> None:
        """Takes up the state that `save` left in `folder`.

        A run of as many epochs goes on as if it had not been interrupted, to the last bit. A run of more epochs (an
        extended trial) goes on, too, on the schedule of its own length from that place on: the learning rate, which had
        come down at the end of the shorter schedule, goes up again.

        Raises:
            SettingError: there is no checkpoint, it is damaged or belongs to another run, or has more epochs behind it
                than this run spans.
        """
        self._training.restore(folder, other_epochs=True)
        try:
            self._notes_per_s = float(json.loads((Path(folder) / _SPEED_FILE).read_text("utf-8"))["notes_per_s"])
        except (OSError, ValueError, KeyError, TypeError):
            self._notes_per_s = 0.0  # it will be measured again

    def export(self, folder: Path) -> None:
        """Writes the model of the best epoch so far, and what it scores on each validation chorale.

        See `ChoraleTask.export`. To score it now takes a second, for the model is compiled; later it takes twenty.
        """
        run = Run(values=self._values, data=self._data, folder=Path(folder), epochs=self._epochs, seed=self._seed)
        with self._training.best_weights():
            model_files.save(self.model, folder, facts(run, self.model, self._hp, self._training))
            pieces = zip(self._data.splits["valid"], self._training.valid_pieces(), strict=True)
            told = {chorale.id: {"nll_nats": nats, "count": count} for chorale, (nats, count) in pieces}
        fingerprint = self._data.fingerprint
        write_json({"fingerprint": fingerprint, "by_piece": told}, Path(folder) / VALID_PIECES)


class WholeRun(ChoraleRun):
    """A training on train and valid together, for a model to ship.

    What it measures on valid is of pieces that it learns from, so no epoch is the best one: the last is exported.
    """

    def __init__(
        self, values: Mapping[str, Any], data: Dataset, *, epochs: int, seed: int, measure_speed: bool = False
    ):
        """Builds the model; see `ChoraleTask.start_whole`."""
        learnt = data.learnt_from(TRAINED_ON)
        super().__init__(values, learnt, epochs=epochs, seed=seed, measure_speed=measure_speed)

    def export(self, folder: Path) -> None:
        """Writes the model of the last epoch; its record says what it was trained on, and has no score of valid."""
        run = Run(values=self._values, data=self._data, folder=Path(folder), epochs=self._epochs, seed=self._seed)
        told = facts(run, self.model, self._hp, self._training)
        told |= {"trained_on": list(TRAINED_ON), "best_epoch": told["epochs_done"]}
        told |= {"val_nll": None, "val_accuracy": None}
        with self._training.scored_weights():
            model_files.save(self.model, folder, told)


def notes_per_s(model: keras.Model) -> float:
    """Returns how many notes the model writes a second, one chorale at a time, the fastest of three; compiles first."""
    generator, fastest = Generator(model), math.inf
    for attempt in range(4):
        began = time.perf_counter()
        generator.generate(seeds=[attempt], steps=SPEED_STEPS)
        if attempt:  # the first one compiles
            fastest = min(fastest, time.perf_counter() - began)
    return SPEED_STEPS * NUM_VOICES / fastest
