"""The model families, one a file, and the named points of their space.

Each family is a function `layers(hp)` in KerasTuner's idiom: it asks `hp` for what may vary and returns a chain of
layers from `NoteInputs`' table `[batch, time, 9]` to logits `[batch, time, 47]`. A chain, so that training can feed it
rows of whole pieces and generation one note at a time (`bach.generation`).

Keras is imported when the first family is asked for its layers, so that names and presets are told at once.
"""

from collections.abc import Callable
from typing import Any


def _conv_lstm(hp: Any) -> list[Any]:
    from bach.models import conv_lstm

    return conv_lstm.layers(hp)


def _transformer(hp: Any) -> list[Any]:
    from bach.models import transformer

    return transformer.layers(hp)


def _relative_transformer(hp: Any) -> list[Any]:
    from bach.models import relative_transformer

    return relative_transformer.layers(hp)


FAMILIES: dict[str, Callable[[Any], list[Any]]] = {
    "conv_lstm": _conv_lstm,
    "transformer": _transformer,
    "relative_transformer": _relative_transformer,
}
"""The families by name, in the order of the tables."""

__all__ = ["FAMILIES"]
