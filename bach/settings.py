"""How a model is trained: one record, filled from a point of the search space."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bach.errors import SettingError

if TYPE_CHECKING:
    import keras

SCHEDULES = ("cosine", "one_cycle", "constant")
OPTIMIZERS = ("adamw", "nadam")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Everything that training does beside the model itself.

    Attributes:
        optimizer_name: one of `OPTIMIZERS`.
        learning_rate: the highest rate of the schedule, above 0.
        schedule: `"cosine"`, 5 % warm-up, then down to 0; `"one_cycle"`, 30 % up, then down; `"constant"`.
        weight_decay: of kernels only, 0 or more; used by AdamW.
        clip_norm: the largest norm of all gradients together; 0 does not clip.
        batch_size: windows in a batch, 1 or more.
        label_smoothing: share of each target spread over all tokens, in [0, 1); scores are never smoothed.
        ema: momentum of the moving average of the weights that is scored and kept; 0 for none.
        window_steps: length of a window in steps (a sixteenth each).
        window_shift: steps between the starts of windows as the seed cuts them; 0 covers each piece at random places.
        transposition: the largest random transposition in semitones, within each voice's range.
    """

    optimizer_name: str = "adamw"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    batch_size: int = 16
    label_smoothing: float = 0.0
    ema: float = 0.999
    window_steps: int = 64
    window_shift: int = 0
    transposition: int = 12

    def __post_init__(self):
        problems = [
            (self.optimizer_name in OPTIMIZERS, "optimizer_name", f"one of {OPTIMIZERS}"),
            (self.learning_rate > 0 and math.isfinite(self.learning_rate), "learning_rate", "a finite number above 0"),
            (self.schedule in SCHEDULES, "schedule", f"one of {SCHEDULES}"),
            (self.weight_decay >= 0, "weight_decay", "0 or more"),
            (self.clip_norm >= 0, "clip_norm", "0 or more"),
            (self.batch_size >= 1, "batch_size", "1 or more"),
            (0 <= self.label_smoothing < 1, "label_smoothing", "0 or more, below 1"),
            (0 <= self.ema < 1, "ema", "0 or more, below 1"),
            (self.window_steps >= 1, "window_steps", "1 or more"),
            (self.window_shift >= 0, "window_shift", "0 or more"),
            (self.transposition >= 0, "transposition", "0 or more"),
        ]
        for fine, field, expected in problems:
            if not fine:
                raise SettingError(f"training setting {field}: got {getattr(self, field)!r}, expected {expected}")

    @classmethod
    def from_hp(cls, hp: Any) -> "TrainingSettings":
        """Returns the settings that `hp` answers with; declares them to `hp` under `train.`."""
        optimizer = hp.Choice("train.optimizer", list(OPTIMIZERS), default="adamw")
        return cls(
            optimizer_name=optimizer,
            learning_rate=hp.Float("train.learning_rate", 1e-4, 1e-2, sampling="log", default=2e-3),
            schedule=hp.Choice("train.schedule", list(SCHEDULES), default="cosine"),
            weight_decay=hp.Float("train.weight_decay", 1e-5, 1e-1, sampling="log", default=1e-2),
            clip_norm=hp.Choice("train.clip_norm", [0.0, 0.5, 1.0, 5.0], default=1.0),
            batch_size=hp.Choice("train.batch_size", [16, 32, 64], default=16),
            label_smoothing=hp.Choice("train.label_smoothing", [0.0, 0.02, 0.05], default=0.0),
            ema=hp.Choice("train.ema", [0.0, 0.99, 0.999], default=0.999),
            window_steps=hp.Choice("train.window_steps", [32, 33, 64, 128], default=64),
            window_shift=hp.Choice("train.window_shift", [0, 16], default=0),
            transposition=hp.Choice("train.transposition", [0, 3, 5, 12], default=12),
        )

    def optimizer(self) -> "keras.optimizers.Optimizer":
        """Returns a new optimizer at the full learning rate."""
        import keras

        clip = self.clip_norm or None
        if self.optimizer_name == "nadam":
            return keras.optimizers.Nadam(self.learning_rate, global_clipnorm=clip)
        optimizer = keras.optimizers.AdamW(
            self.learning_rate, weight_decay=self.weight_decay, beta_2=0.99, global_clipnorm=clip
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "slope", "distance", "positions"])
        return optimizer

    def rates(self, steps: int) -> np.ndarray:
        """Returns the learning rate of each of `steps` steps, float32."""
        if self.schedule == "constant":
            return np.full(steps, self.learning_rate, np.float32)
        warm = max(1, round(steps * (0.05 if self.schedule == "cosine" else 0.3)))
        up = np.arange(1, warm + 1) / warm
        down = 0.5 * (1 + np.cos(np.pi * np.arange(1, steps - warm + 1) / max(1, steps - warm)))
        return (self.learning_rate * np.concatenate([up, down])[:steps]).astype(np.float32)
