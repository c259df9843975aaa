"""Named points of the search space: two that follow the notebook, and the best found by hand."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bach.errors import SettingError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A point of the space and how long to train it.

    Attributes:
        name: as the command line takes it.
        family: key of `bach.models.FAMILIES`.
        purpose: one sentence.
        parameters: number of weights, trained or not.
        epochs: over which the learning-rate schedule spans.
        values: hyperparameters that differ from their defaults.
    """

    name: str
    family: str
    purpose: str
    parameters: int
    epochs: int
    values: Mapping[str, Any]

    def point(self) -> dict[str, Any]:
        """Returns the point as `bach.hypermodel.parameters` takes it."""
        return {"model.family": self.family, **self.values}


_NOTES_ONLY = {
    "inputs.notes": 1,
    "inputs.voice": False,
    "inputs.beat": 0,
    "inputs.held": False,
    "inputs.echo": False,
}
_SEED_TRAINING = {
    "train.optimizer": "nadam",
    "train.learning_rate": 1e-3,
    "train.schedule": "constant",
    "train.clip_norm": 0.0,
    "train.batch_size": 32,
    "train.ema": 0.0,
    "train.window_steps": 33,
    "train.window_shift": 16,
    "train.transposition": 0,
}

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="seed-conv-lstm",
            family="conv_lstm",
            purpose="the notebook's CNN+LSTM, layer for layer",
            parameters=396_810,
            epochs=20,
            values={
                **_NOTES_ONLY,
                **_SEED_TRAINING,
                "conv_lstm.embedding_dim": 5,
                "conv_lstm.dilation_depth": 4,
                "conv_lstm.filters": 32,
                "conv_lstm.widening": True,
                "conv_lstm.first_dilation": 1,
                "conv_lstm.normalization": "batch",
                "conv_lstm.batch_momentum": 0.99,
                "conv_lstm.residual": False,
                "conv_lstm.dropout": 0.0,
            },
        ),
        Preset(
            name="seed-transformer",
            family="transformer",
            purpose="the notebook's Transformer with its leak mended",
            parameters=708_207,
            epochs=20,
            values={
                **_NOTES_ONLY,
                **_SEED_TRAINING,
                "transformer.embedding_dim": 64,
                "transformer.layers": 1,
                "transformer.attention_heads": 16,
                "transformer.head_dim": 64,
                "transformer.feed_forward": 1024,
                "transformer.attentions": 2,
                "transformer.norm_first": False,
                "transformer.dropout": 0.0,
                "transformer.window_steps": 32,
                "transformer.head": "seed",
            },
        ),
        Preset(
            name="small",
            family="relative_transformer",
            purpose="minutes on a laptop",
            parameters=270_971,
            epochs=30,
            values={
                "relative_transformer.embedding_dim": 96,
                "relative_transformer.layers": 3,
                "relative_transformer.feed_forward": 2,
                "relative_transformer.span_steps": 32,
                "relative_transformer.dropout": 0.1,
                "train.learning_rate": 3e-3,
                "train.window_steps": 32,
            },
        ),
        Preset(
            name="hand-conv-lstm",
            family="conv_lstm",
            purpose="the best CNN+LSTM found by hand",
            parameters=427_983,
            epochs=30,
            values={
                "conv_lstm.embedding_dim": 96,
                "conv_lstm.dilation_depth": 1,
                "conv_lstm.filters": 96,
                "conv_lstm.dropout": 0.2,
                "conv_lstm.lstm_width": 256,
                "train.learning_rate": 6e-3,
                "train.batch_size": 32,
                "train.window_steps": 32,
            },
        ),
        Preset(
            name="hand-transformer",
            family="transformer",
            purpose="the best Transformer with learnt positions found by hand",
            parameters=351_311,
            epochs=30,
            values={
                "transformer.embedding_dim": 96,
                "transformer.layers": 3,
                "transformer.head_dim": 32,
                "transformer.feed_forward": 256,
                "transformer.window_steps": 32,
                "transformer.dropout": 0.1,
                "train.learning_rate": 3e-3,
                "train.window_steps": 32,
            },
        ),
        Preset(
            name="best",
            family="relative_transformer",
            purpose="the best found by hand; the model that ships",
            parameters=863_423,
            epochs=60,
            values={},
        ),
    )
}
"""The presets by name, in the order of the tables."""


def preset(name: str) -> Preset:
    """Returns the preset called `name`.

    Raises:
        SettingError: there is none; the nearest name is offered.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise SettingError(f"unknown preset {name!r}{did_you_mean(name, PRESETS)}") from None
