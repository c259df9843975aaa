"""The model families, one a file, and the named points of their space.

Each family is a function `layers(hp)` in KerasTuner's idiom: it asks `hp` for what may vary and returns a chain of
layers, to be made later (`bach.models.later`), from `NoteInputs`' table `[batch, time, 9]` to logits
`[batch, time, 47]`. A chain, so that training can feed it rows of whole pieces and generation one note at a time
(`bach.generation`).

No module here imports Keras on top, so that names, presets and the space are told at once.
"""

from collections.abc import Callable
from typing import Any

from bach.models import conv_lstm, relative_transformer, transformer
from bach.models.later import LaterLayer

FAMILIES: dict[str, Callable[[Any], list[LaterLayer]]] = {
    "conv_lstm": conv_lstm.layers,
    "transformer": transformer.layers,
    "relative_transformer": relative_transformer.layers,
}
"""The families by name, in the order of the tables."""

__all__ = ["FAMILIES"]
