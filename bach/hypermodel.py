"""The search space, written once: what a model is made of and how it is trained, as one function of `hp`."""

from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner

from bach.errors import SettingError, did_you_mean
from bach.layers import NoteInputs
from bach.models import FAMILIES
from bach.settings import TrainingSettings

Values = Mapping[str, Any]
"""A point of the space: hyperparameter names and their values."""


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Returns the compiled model at the point that `hp` answers with, and declares every parameter of the space to `hp`.

    The model maps tokens `[batch, time]`, time counted from the start of a piece, to logits `[batch, time, 47]` of the next
    token, causally.
    """
    family = hp.Choice("model.family", list(FAMILIES), default="relative_transformer")
    chain: list[keras.layers.Layer] = []
    for name, layers in FAMILIES.items():
        with hp.conditional_scope("model.family", [name]):
            if family == name:
                chain = layers(hp)
    settings = TrainingSettings.from_hp(hp)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Sequential([tokens, NoteInputs(echo=chain[0].echo, name="note_inputs"), *chain], name=family)
    model.compile(
        optimizer=settings.optimizer(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def parameters(values: Values) -> keras_tuner.HyperParameters:
    """Returns the hyperparameters that answer with `values`, and with their defaults where `values` is silent.

    Raises:
        SettingError: a name that the space does not have at this point, or a value outside its range.
    """
    hp = keras_tuner.HyperParameters()
    hp.values.update(values)
    build(hp)
    known = {p.name: p for p in hp.space if hp._conditions_are_active(p.conditions)}  # noqa: SLF001
    for name, value in values.items():
        if name not in known:
            raise SettingError(
                f"unknown parameter {name!r} of family {hp.get('model.family')!r}{did_you_mean(name, known)}"
            )
        if not _allows(known[name], value):
            raise SettingError(f"parameter {name!r}: got {value!r}, expected {_range(known[name])}")
    return hp


def from_values(values: Values) -> keras.Model:
    """Returns the compiled, untrained model at the point `values`; see `parameters`."""
    return build(parameters(values))


def _allows(parameter, value) -> bool:
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Choice):
        return value in parameter.values
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Boolean):
        return isinstance(value, bool)
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Fixed):
        return value == parameter.value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and parameter.min_value <= value <= parameter.max_value


def _range(parameter) -> str:
    if hasattr(parameter, "min_value"):
        return f"{parameter.min_value}..{parameter.max_value}"
    return f"one of {list(parameter.values)}"
