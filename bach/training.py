"""Training, one epoch at a time: no Ray, no printing, stopped and continued anywhere with the same outcome.

training = Training(model, settings, train, valid, epochs=20, seed=1)
for result in training.run():     # one EpochResult an epoch
    training.save(folder)         # a later Training(...).restore(folder) goes on as if nothing had happened
with training.best_weights():     # in here the model has the weights of the best epoch
    model.save(...)
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from bach import backend
from bach.backend import Tensor
from bach.encoding import encode, piece_inputs
from bach.errors import DataError, OutputError, SettingError, TrainingFailed
from bach.formats.files import write_whole
from bach.layers import body
from bach.notes import NUM_TOKENS, Pitches
from bach.prediction import ModelPredictor
from bach.settings import TrainingSettings
from bach.windows import Windows

_log = logging.getLogger(__name__)

CHECKPOINT_VERSION = 1
_RECORD = "checkpoint.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        epoch: counts from 1.
        train_loss: mean training loss in nats per note, with dropout, smoothing and transposition as configured.
        val_nll: nats per note over whole pieces of the validation split.
        val_accuracy: share of those notes whose most probable token is right, in [0, 1].
        learning_rate: of the epoch's last step.
        duration_s: wall time of training and validation.
        notes_per_s: training notes per second of training time.
        best: whether no epoch before had as low a `val_nll`.
    """

    epoch: int
    train_loss: float
    val_nll: float
    val_accuracy: float
    learning_rate: float
    duration_s: float
    notes_per_s: float
    best: bool


OnStep = Callable[[int, int, float], None]
"""Called now and then within an epoch: steps done, steps of the epoch, mean loss so far."""


class Training:
    """One model's training: the state between epochs, and how to run the next one."""

    def __init__(
        self,
        model: keras.Model,
        settings: TrainingSettings,
        train: Sequence[Pitches],
        valid: Sequence[Pitches],
        *,
        epochs: int,
        seed: int,
        first_epoch: int = 1,
    ):
        """Takes what is to be trained; nothing runs yet.

        Args:
            model: from `bach.hypermodel.build`, untrained; it is changed in place.
            settings: how to train.
            train: chorales `[T, 4]` to learn from.
            valid: chorales `[T, 4]` to judge every epoch by.
            epochs: how many epochs the learning-rate schedule spans.
            seed: of the windows' cuts, order and transpositions. The weights and dropout follow
                `keras.utils.set_random_seed`.
            first_epoch: the epoch to begin with, 1 or more. Those before it were trained elsewhere, and `model` has
                what they taught; they count for the schedule and for what is drawn, but none of them is the best.

        Raises:
            SettingError: `epochs` or `first_epoch` is below 1.
            DataError: a split is empty, or no window fits into its pieces.
        """
        if epochs < 1:
            raise SettingError(f"epochs: got {epochs}, expected 1 or more")
        if first_epoch < 1:
            raise SettingError(f"first_epoch: got {first_epoch}, expected 1 or more")
        if not train or not valid:
            raise DataError(
                f"training needs chorales to train on and to validate on, got {len(train)} and {len(valid)}"
            )
        self.model, self.settings, self.epochs, self.seed = model, settings, epochs, seed
        self.first_epoch = first_epoch
        self.windows = Windows(
            train, steps=settings.window_steps, shift=settings.window_shift, transposition=settings.transposition
        )
        self.steps_per_epoch = self.windows.num_batches(settings.batch_size)
        if not self.steps_per_epoch:
            raise DataError(
                f"no window of {settings.window_steps} steps fits into the {len(train)} training pieces "
                f"(longest: {max(map(len, train))} steps); choose shorter windows"
            )
        self.history: list[EpochResult] = []
        self._valid = [encode(chorale) for chorale in valid]
        self._rates = settings.rates(self.steps_per_epoch * epochs)
        self._body = body(model)
        self._optimizer = settings.optimizer()
        self._optimizer.build(self._body.trainable_variables)
        smoothing = settings.label_smoothing
        self._step = backend.training_step(
            self._body, self._optimizer, lambda *batch: _loss(*batch, smoothing=smoothing), settings.ema
        )
        self._predictor = ModelPredictor(model)
        self._valid_inputs = [piece_inputs(tokens) for tokens in self._valid]
        self._best_weights: list[np.ndarray] = self._scored_weights()

    @property
    def epochs_done(self) -> int:
        """How many epochs the model has behind it, those before `first_epoch` too."""
        return self.first_epoch - 1 + len(self.history)

    @property
    def best(self) -> EpochResult | None:
        """The epoch with the lowest `val_nll` so far."""
        return min(self.history, key=lambda result: result.val_nll, default=None)

    def run(self, on_step: OnStep | None = None) -> Iterator[EpochResult]:
        """Trains epoch after epoch up to `epochs` and yields each one's result.

        Raises:
            TrainingFailed: the loss or the score is no finite number; `history` and the best weights stand.
        """
        while self.epochs_done < self.epochs:
            yield self.run_epoch(on_step)

    def run_epoch(self, on_step: OnStep | None = None) -> EpochResult:
        """Trains one epoch and returns its result; see `run`."""
        began = time.monotonic()
        epoch = self.epochs_done + 1
        first = (epoch - 1) * self.steps_per_epoch
        batches = self.windows.epoch(np.random.default_rng([self.seed, epoch]), self.settings.batch_size)
        losses, notes, step = [], 0.0, first
        for step, (inputs, targets, weights) in enumerate(batches, start=first):
            rate = self._rates[min(step, len(self._rates) - 1)]
            losses.append(self._step(inputs, targets, weights, rate, step))
            notes += float(weights.sum())
            if len(losses) % 8 == 0:
                self._refuse_non_finite(float(losses[-1]), epoch, len(losses))
                if on_step is not None:
                    on_step(len(losses), self.steps_per_epoch, float(np.mean([float(loss) for loss in losses[-32:]])))
        train_loss = float(np.mean([float(loss) for loss in losses]))
        self._refuse_non_finite(train_loss, epoch, len(losses))
        trained = time.monotonic()
        self._step.publish()
        weights_now = self._scored_weights()
        with Weights(self.model, weights_now):
            val_nll, val_accuracy = self._validate()
        if not math.isfinite(val_nll):
            raise TrainingFailed(
                f"epoch {epoch}: the validation score is {val_nll}, no finite number; lower the learning rate"
            )
        is_best = self.best is None or val_nll < self.best.val_nll
        if is_best:
            self._best_weights = weights_now
        result = EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            val_nll=val_nll,
            val_accuracy=val_accuracy,
            learning_rate=float(self._rates[min(step, len(self._rates) - 1)]),
            duration_s=time.monotonic() - began,
            notes_per_s=notes / max(trained - began, 1e-9),
            best=is_best,
        )
        self.history.append(result)
        _log.info("epoch %d: train %.4f, val_nll %.4f, accuracy %.4f", epoch, train_loss, val_nll, val_accuracy)
        return result

    def best_weights(self) -> "Weights":
        """Returns a context in which the model has the weights of the best epoch; after it, training can go on."""
        return Weights(self.model, self._best_weights)

    def scored_weights(self) -> "Weights":
        """Returns a context in which the model has the weights of the last epoch as they were scored."""
        return Weights(self.model, self._scored_weights())

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the whole state to `folder`, each file whole or not at all, the record last.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = Path(folder)
        arrays = {
            f"{part}_{index:04d}": value
            for part, values in (
                ("model", [ops.convert_to_numpy(v) for v in self._body.variables]),
                ("optimizer", [ops.convert_to_numpy(v) for v in self._optimizer.variables]),
                ("average", [ops.convert_to_numpy(v) for v in self._step.average]),
                ("best", self._best_weights),
            )
            for index, value in enumerate(values)
        }
        name = f"checkpoint-{self.epochs_done:05d}.npz"
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        record = {
            "version": CHECKPOINT_VERSION,
            "arrays": name,
            "sha256": hashlib.sha256(content.getbuffer()).hexdigest(),
            "identity": self._identity(),
            "history": [dataclasses.asdict(result) for result in self.history],
        }
        try:
            write_whole(folder / name, content.getbuffer())
            write_whole(folder / _RECORD, json.dumps(record, indent=1).encode())
        except OutputError as error:
            raise OutputError(f"cannot write the checkpoint to {folder}: {error}") from error
        for old in folder.glob("checkpoint-*.npz"):
            if old.name != name:
                with contextlib.suppress(OSError):
                    old.unlink(missing_ok=True)

    def restore(self, folder: str | os.PathLike, *, other_epochs: bool = False) -> None:
        """Takes up the state that `save` left in `folder`.

        Args:
            folder: where the checkpoint is.
            other_epochs: take a checkpoint whose schedule spans another number of epochs, too. What follows is on this
                training's own schedule from that place on: after a schedule that had come down, the rate goes up again.

        Raises:
            SettingError: there is no checkpoint, it is damaged, it belongs to another model, data or configuration, or
                more epochs are done than this training spans.
        """
        folder = Path(folder)
        try:
            if not (folder / _RECORD).is_file():
                raise SettingError(f"no checkpoint in {folder}; start without --resume")
            record = json.loads((folder / _RECORD).read_text())
            data = (folder / record["arrays"]).read_bytes()
            digest, identity, history = (record[key] for key in ("sha256", "identity", "history"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingError(
                f"the checkpoint in {folder} cannot be read ({type(error).__name__}: {error}); remove it to start anew"
            ) from error
        if record.get("version") != CHECKPOINT_VERSION:
            raise SettingError(
                f"the checkpoint in {folder} has version {record.get('version')}, expected {CHECKPOINT_VERSION}"
            )
        if hashlib.sha256(data).hexdigest() != digest:
            raise SettingError(f"the checkpoint in {folder} is damaged (checksum differs); remove it to start anew")
        done = self.first_epoch - 1 + len(history)
        if done > self.epochs and other_epochs:
            raise SettingError(
                f"the checkpoint in {folder} has {done} epochs behind it, expected at most {self.epochs}; "
                "ask for more epochs"
            )
        for key, here in self._identity().items():
            if identity.get(key, here) != here and not (other_epochs and key == "epochs"):
                raise SettingError(
                    f"the checkpoint in {folder} belongs to another run: {key} was {identity[key]!r}, "
                    f"is {here!r}; use the same settings or another folder"
                )
        with np.load(folder / record["arrays"], allow_pickle=False) as arrays:
            parts: dict[str, list[np.ndarray]] = {"model": [], "optimizer": [], "average": [], "best": []}
            for key in sorted(arrays.files):
                parts[key.split("_")[0]].append(arrays[key])
        for variables, values in (
            (self._body.variables, parts["model"]),
            (self._optimizer.variables, parts["optimizer"]),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self._best_weights = parts["best"]
        self._step.restart(parts["average"] if self.settings.ema else None)
        self._step.publish()
        self.history = [EpochResult(**result) for result in history]

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to fit."""
        shapes = json.dumps([list(v.shape) for v in self._body.variables])
        layers = json.dumps([layer.get_config() for layer in self.model.layers], default=str)  # dropout has no shape
        data = hashlib.sha256(b"".join(np.ascontiguousarray(t).tobytes() for t in self._valid))
        data.update(self.windows.content())
        return {
            "model": hashlib.sha256(shapes.encode()).hexdigest()[:16],
            "layers": hashlib.sha256(layers.encode()).hexdigest()[:16],
            "data": data.hexdigest()[:16],
            "settings": dataclasses.asdict(self.settings),
            "epochs": self.epochs,
            "seed": self.seed,
            "first_epoch": self.first_epoch,
            "backend": backend.name(),
        }

    def _scored_weights(self) -> list[np.ndarray]:
        """What is scored and kept: the weights or their moving average, and the normalisations' statistics."""
        average = {id(v): a for v, a in zip(self._body.trainable_variables, self._step.average, strict=False)}
        return [ops.convert_to_numpy(average.get(id(v), v)) for v in _scored(self.model)]

    def valid_pieces(self) -> list[tuple[float, int]]:
        """Returns nats per note and notes of each validation piece, by the weights that the model has right now."""
        return [(total / count, count) for total, _, count in self._judged()]

    def _validate(self) -> tuple[float, float]:
        total, right, count = (sum(each) for each in zip(*self._judged(), strict=True))
        return total / count, right / count

    def _judged(self) -> Iterator[tuple[float, int, int]]:
        """Yields of each validation piece its nats, how many notes are right, and how many there are."""
        for tokens, logs in zip(self._valid, self._predictor.after(self._valid_inputs), strict=True):
            nats = -float(logs[np.arange(len(tokens)), tokens].sum(dtype=np.float64))
            yield nats, int((logs[1:].argmax(axis=-1) == tokens[1:]).sum()), len(tokens)

    @staticmethod
    def _refuse_non_finite(loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"epoch {epoch}, step {step}: the loss is {loss}, no finite number; "
                "lower the learning rate or clip more"
            )


class Weights:
    """For the length of a `with`, gives a model other weights."""

    def __init__(self, model: keras.Model, values: Sequence[np.ndarray]):
        self._variables, self._values = _scored(model), values

    def __enter__(self):
        self._own = [ops.convert_to_numpy(v) for v in self._variables]
        self._assign(self._values)

    def __exit__(self, *_):
        self._assign(self._own)

    def _assign(self, values: Sequence[np.ndarray]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)


def _scored(model: keras.Model) -> list[keras.Variable]:
    """The variables that decide what a model says: weights and running statistics, but not the seeds of dropout."""
    return model.weights


def _loss(logits: Tensor, targets: Tensor, weights: Tensor, *, smoothing: float) -> Tensor:
    """Mean cross-entropy in nats over the notes with weight 1."""
    logs = ops.log_softmax(ops.cast(logits, "float32"))
    wanted = ops.one_hot(targets, NUM_TOKENS) * (1 - smoothing) + smoothing / NUM_TOKENS
    return -ops.sum(ops.sum(logs * wanted, axis=-1) * weights) / ops.maximum(ops.sum(weights), 1.0)
