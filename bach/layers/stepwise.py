"""One note at a time through a chain of layers: our own, which know how, and those of Keras, by the rules here.

    states = initial_states(layers, batch, length)
    outputs, states = step(layers, inputs, states, t)     # inputs [batch, ...] of time t

What is given back for `t = 0, 1, ...` is what the layers give for the whole sequence.
"""

from collections.abc import Sequence
from typing import Any

import keras

from bach.layers.note_inputs import NoteInputs

State = tuple[Any, ...]
"""What is carried from note to note, nested as the layers nest it."""


def initial_states(layers: Sequence[Any], batch: int, length: int) -> State:
    """Returns the state of each layer before the first of at most `length` notes."""
    return tuple(_initial_state(layer, batch, length) for layer in layers)


def step(layers: Sequence[Any], inputs: Any, states: State, t: Any) -> tuple[Any, State]:
    """Takes one note through all layers: `[batch, ...]` and their states, to `[batch, width]` and their states.

    Raises:
        TypeError: one of the layers knows no `step`, and there is no rule for it here.
    """
    after = []
    for layer, state in zip(layers, states, strict=True):
        inputs, state = _step(layer, inputs, state, t)
        after.append(state)
    return inputs, tuple(after)


def _initial_state(layer: Any, batch: int, length: int) -> State:
    if isinstance(layer, NoteInputs):
        return layer.initial_state(batch, length)
    if isinstance(layer, keras.layers.LSTM | keras.layers.GRU):
        return tuple(layer.cell.get_initial_state(batch))
    return layer.initial_state(batch) if hasattr(layer, "initial_state") else ()


def _step(layer: Any, inputs: Any, state: State, t: Any) -> tuple[Any, State]:
    if isinstance(layer, keras.layers.LSTM | keras.layers.GRU):
        outputs, state = layer.cell(inputs, list(state), training=False)
        return outputs, tuple(state)
    if hasattr(layer, "step"):
        return layer.step(inputs, state, t)
    if isinstance(layer, keras.layers.Dropout):
        return inputs, state
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer(inputs[:, None], training=False)[:, 0], state
    if isinstance(layer, keras.layers.Dense | keras.layers.LayerNormalization):
        return layer(inputs), state
    raise TypeError(
        f"no rule for one note through a layer of type {type(layer).__name__}; give it initial_state and step"
    )
