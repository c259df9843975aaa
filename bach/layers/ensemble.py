"""Several models as one: the mean of what they think probable."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from bach.layers.stepwise import initial_states, step


@keras.saving.register_keras_serializable(package="bach")
class Ensemble(keras.layers.Layer):
    """Asks several models and gives the mean of their probabilities.

    All members read the same rows of `NoteInputs`, each the columns that it was trained on.

    Args:
        members: models from rows `[batch, time, 9]` to logits `[batch, time, 47]`, such as `body` returns; one or more.

    Call arguments:
        rows: `[batch, time, 9]` integers as `NoteInputs` gives them.

    Returns:
        `[batch, time, 47]` float32: logarithms of the mean probabilities, which as logits give back just these.
    """

    def __init__(self, members: Sequence[keras.Model], **kwargs):
        super().__init__(**kwargs)
        if not members:
            raise ValueError("an ensemble has one member or more, got none")
        self.members = list(members)

    def build(self, input_shape):
        pass  # the members are

    def call(self, rows, training=None):
        return _mean([member(rows, training=training) for member in self.members])

    def initial_state(self, batch):
        return tuple(initial_states(member.layers, batch, 0) for member in self.members)

    def step(self, rows, state, t):
        logits, after = [], []
        for member, own in zip(self.members, state, strict=True):
            outputs, own = step(member.layers, rows, own, t)
            logits.append(outputs)
            after.append(own)
        return _mean(logits), tuple(after)

    def compute_output_shape(self, input_shape):
        return self.members[0].compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "members": [keras.saving.serialize_keras_object(m) for m in self.members]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Ensemble":
        members: Any = [keras.saving.deserialize_keras_object(member) for member in config["members"]]
        return cls(**{**config, "members": members})


def _mean(logits):
    logs = ops.stack([ops.log_softmax(ops.cast(each, "float32")) for each in logits])
    # Relative to the largest, so that what all members think impossible does not vanish.
    largest = ops.max(logs, axis=0)
    return largest + ops.log(ops.mean(ops.exp(logs - largest), axis=0))
