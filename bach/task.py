"""What a search sees of all this: chorale models as a task that is trained one epoch at a time.

    task = ChoraleTask(data="music21")
    run = task.start({"model.family": "conv_lstm"}, epochs=12, seed=1)
    run.epoch()["val_nll"]
    task.export(run, folder)
    task.score(folder, "test")

A sweep file names it as `task = "bach.task:ChoraleTask"`, and its `[task]` table holds the arguments. The class keeps
the shape of a task by itself; nothing here knows who runs it. Measures are given as pairs of unit and meaning.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bach.errors import SettingError
from bach.models.presets import PRESETS
from bach.task_columns import METRICS, SPEED, Columns
from bach.task_models import FinishedModels
from bach.task_options import checked_limit, checked_number
from bach.windows import num_windows

if TYPE_CHECKING:
    import keras_tuner

    from bach.task_runs import ChoraleRun

LARGEST_SEED = 2**32 - 1
"""Seeds go up to here, inclusive: numpy's own generator takes no larger one."""
FIRST_RUNG = 2
"""Epochs after which a configuration without a slow start can be judged."""
SLOW_START_STEPS = 375
"""Training steps that a post-norm Transformer, or the notebook's head, needs before its score says anything."""
LAG_STEPS = {0.9: 75, 0.99: 750}
"""The same for stacked batch normalisations, by the momentum of their running averages."""


class ChoraleTask(FinishedModels):
    """Models of chorales: what may vary, how one is trained and scored, and what it sings.

    Attributes:
        metrics: what an epoch returns.
    """

    def __init__(
        self,
        *,
        data: str = "music21",
        limit: int | Mapping[str, int] = 0,
        measure_speed: bool = False,
        sample_steps: int = 256,
        sample_seed: int = 1685,
    ):
        """Takes the options of a sweep file's `[task]`; nothing is loaded yet.

        Args:
            data: the chorales, as `bach.corpus.load` takes them.
            limit: use only so many pieces, the first ones, of every split, or of the splits named; 0 for all. The data
                then have another name and fingerprint.
            measure_speed: measure, once a trial, how fast the model writes, as the metric `notes_per_s`.
            sample_steps: length of the sample chorales in sixteenths, 1 or more.
            sample_seed: of the sample chorales, 0 or more.

        Raises:
            SettingError: an option has an impossible value.
        """
        if not isinstance(data, str) or not data:
            raise SettingError(f"task option data: got {data!r}, expected a source of chorales, such as 'music21'")
        if not isinstance(measure_speed, bool):
            raise SettingError(f"task option measure_speed: got {measure_speed!r}, expected true or false")
        super().__init__(
            data,
            checked_limit(limit),
            measure_speed=measure_speed,
            sample_steps=checked_number("sample_steps", sample_steps, 1),
            sample_seed=checked_number("sample_seed", sample_seed, 0),
        )
        self.metrics: Columns = {**METRICS, **(SPEED if measure_speed else {})}

    # --- training -----------------------------------------------------------------------------------------------------

    def space(self, hp: "keras_tuner.HyperParameters") -> None:
        """Declares all that may vary to `hp`; no model is built."""
        from bach.declaration import declare

        declare(hp)

    def points(self) -> dict[str, dict[str, Any]]:
        """Returns the presets' points of the space by name."""
        return {name: preset.point() for name, preset in PRESETS.items()}

    def data(self) -> tuple[str, str]:
        """Returns name and fingerprint of the chorales; scores on others do not compare.

        Raises:
            DataError: the chorales cannot be had.
            SettingError: `limit` asks for more than there are.
        """
        return self.dataset.name, self.dataset.fingerprint

    def first_rung(self, values: Mapping[str, Any]) -> int:
        """Returns the epoch from which on a configuration can be compared with others.

        What is slow for a reason that has nothing to do with how good it will be shall not be judged by it:

        - A stack of batch normalisations validates with running averages that lag behind the weights. With momentum
          0.99, as in the notebook, accuracy is 0.05 at epoch 1, 0.34 at 5 and 0.73 at 6, at 96 steps an epoch; from
          epoch 8 on the score is the model's own. The lag counts in steps, so larger batches wait for more epochs.
        - A Transformer that normalises after adding, or that has the notebook's head (one batch normalisation), stays
          where it is through epoch 3 of the same.
        - All others are compared from epoch 2 on: the first is mostly warm-up.

        It may be more than the sweep has epochs; such a configuration cannot be stopped fairly at all.
        """

        def value(name: str, default: Any) -> Any:
            return values.get(name, default)

        batches = self._batches(value)
        family = value("model.family", "relative_transformer")
        steps = 0
        if family == "conv_lstm":
            stacked = value("conv_lstm.normalization", "layer") == "batch" and value("conv_lstm.dilation_depth", 2)
            steps = LAG_STEPS.get(value("conv_lstm.batch_momentum", 0.9), max(LAG_STEPS.values())) if stacked else 0
        elif family == "transformer":
            slow = not value("transformer.norm_first", True) or value("transformer.head", "linear") == "seed"
            steps = SLOW_START_STEPS if slow else 0
        return max(FIRST_RUNG, math.ceil(steps / batches))

    def _batches(self, value: Any) -> int:
        lengths = [len(chorale.pitches) for chorale in self.dataset.splits["train"]]
        windows = num_windows(lengths, steps=value("train.window_steps", 64), shift=value("train.window_shift", 0))
        return max(1, math.ceil(windows / value("train.batch_size", 16)))

    def start(self, values: Mapping[str, Any], *, epochs: int, seed: int) -> "ChoraleRun":
        """Returns a run at the point `values`, before its first epoch.

        Values, epochs and seed decide what comes out, as they do with `bach train`.

        Args:
            values: a point of the space; what is not named has its default.
            epochs: what the learning-rate schedule spans, 1 or more.
            seed: of all that is drawn, in 0..`LARGEST_SEED`.

        Raises:
            SettingError: an unknown parameter, an impossible value, number of epochs or seed.
            DataError: the chorales cannot be had, or no window fits into them.
        """
        self._check_start(epochs, seed)
        data = self.dataset
        import keras

        from bach.task_runs import ChoraleRun

        keras.utils.set_random_seed(seed)
        return ChoraleRun(values, data, epochs=epochs, seed=seed, measure_speed=self._measure_speed)

    def start_whole(self, values: Mapping[str, Any], *, epochs: int, seed: int) -> "ChoraleRun":
        """Returns a run that trains on train and valid together, for a model to ship; otherwise as `start`.

        Its validation metrics are of chorales that it learns from, so they cannot choose an epoch: `export` writes the
        last one, and its record says what it was trained on.
        """
        self._check_start(epochs, seed)
        data = self.dataset
        import keras

        from bach.task_runs import WholeRun

        keras.utils.set_random_seed(seed)
        return WholeRun(values, data, epochs=epochs, seed=seed, measure_speed=self._measure_speed)

    def _check_start(self, epochs: int, seed: int) -> None:
        checked_number("seed", seed, 0, LARGEST_SEED, what="task")
        checked_number("epochs", epochs, 1, what="task")

    # --- a finished model ---------------------------------------------------------------------------------------------

    def export(self, run: "ChoraleRun", folder: Path) -> None:
        """Writes the model of the run's best epoch to `folder`: `model.keras` and its record `model.json`.

        Raises:
            OutputError: the folder cannot be written.
        """
        run.export(folder)
