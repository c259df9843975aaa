"""A whole training run in a folder: begun, interrupted, continued, finished.

The folder holds `checkpoint.json` with its arrays while the run can go on, and `model.keras` with `model.json`: the
weights of the best epoch so far and how they came to be.
"""

import dataclasses
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from bach import backend, model_files
from bach.corpus import Dataset
from bach.errors import OutputError
from bach.hypermodel import build, parameters
from bach.settings import TrainingSettings
from bach.training import EpochResult, OnStep, Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What is to be trained, on what, and where it goes.

    Attributes:
        values: a point of the space, as `bach.hypermodel.parameters` takes it.
        data: the chorales; the test split is not touched.
        folder: made if it is not there.
        epochs: 1 or more; the learning-rate schedule spans them.
        seed: of everything that is drawn, 0 or more.
        preset: the name of the preset that `values` came from, or `""`.
    """

    values: Mapping[str, Any]
    data: Dataset
    folder: Path
    epochs: int
    seed: int
    preset: str = ""


def train(
    run: Run,
    *,
    resume: bool = False,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Trains `run` to its end and returns the path of the best epoch's model.

    After every epoch the folder holds a checkpoint and the best model so far, so that an interruption loses one epoch
    at most.

    Args:
        run: what to train.
        resume: go on from the folder's checkpoint; without, a folder that holds one is refused.
        on_epoch: called after each epoch, once its checkpoint is written.
        on_step: see `bach.training.OnStep`.

    Raises:
        SettingError: the configuration is impossible, or the checkpoint does not fit.
        OutputError: the folder cannot be written, or holds another run.
        TrainingFailed: the loss is no finite number; the best model so far stands.
    """
    checkpoint = Path(run.folder) / "checkpoint.json"
    if checkpoint.exists() and not resume:
        raise OutputError(f"{run.folder} holds a training run already; go on with --resume or choose another folder")
    keras.utils.set_random_seed(run.seed)
    hp = parameters(run.values)
    model = build(hp)
    training = Training(
        model,
        TrainingSettings.from_hp(hp),
        [chorale.pitches for chorale in run.data.splits["train"]],
        [chorale.pitches for chorale in run.data.splits["valid"]],
        epochs=run.epochs,
        seed=run.seed,
    )
    if resume:
        training.restore(run.folder)
    else:
        training.save(run.folder)  # an unwritable folder is better noticed now than after an epoch
    for result in training.run(on_step):
        training.save(run.folder)
        if result.best:
            with training.best_weights():
                model_files.save(model, run.folder, facts(run, model, hp, training))
        if on_epoch is not None:
            on_epoch(result)
    with training.best_weights():
        return model_files.save(model, run.folder, facts(run, model, hp, training))


def facts(run: Run, model: keras.Model, hp: Any, training: Training) -> dict[str, Any]:
    """Returns the record that goes beside a model."""
    best = training.best
    return {
        "preset": run.preset,
        "family": model.name,
        "parameters": model.count_params(),
        "values": dict(hp.values),
        "data": run.data.name,
        "fingerprint": run.data.fingerprint,
        "seed": run.seed,
        "epochs": run.epochs,
        "epochs_done": len(training.history),
        "best_epoch": best.epoch if best else None,
        "val_nll": best.val_nll if best else None,
        "val_accuracy": best.val_accuracy if best else None,
        "duration_s": round(sum(result.duration_s for result in training.history), 1),
        "backend": backend.name(),
        "python": platform.python_version(),
        "versions": backend.versions(),
        "history": [dataclasses.asdict(result) for result in training.history],
    }
