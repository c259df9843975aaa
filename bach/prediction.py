"""What a Keras model says of whole sequences: the log-probabilities of every note."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from bach import backend
from bach.encoding import note_inputs
from bach.layers import body
from bach.notes import NUM_TOKENS, Tokens

_LENGTH_STEP = 256
"""Sequences are padded to a multiple of this many notes, so that few shapes are compiled."""
_NOTES_AT_ONCE = 16_384
"""About how many notes go through the model in one call."""


class ModelPredictor:
    """Log-probabilities from a model that maps tokens `[batch, time]` to logits `[batch, time, 47]`, causally."""

    def __init__(self, model: keras.Model):
        """Takes the model whose predictions are wanted.

        Args:
            model: built; its weights are read at every call, so that a predictor may outlive a training epoch.
        """
        chain = body(model)
        self._run = backend.compiled(
            lambda rows: ops.log_softmax(ops.cast(chain(rows, training=False), "float32")), model.variables
        )

    def log_probabilities(self, sequences: Sequence[Tokens]) -> list[np.ndarray]:
        """Returns for each sequence `[L]` natural-log probabilities `[L, 47]` of each of its notes given those before.

        The first note, which no note precedes, is uniform over the 47 tokens.
        """
        return self.after([note_inputs(sequence) for sequence in sequences])

    def after(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same for sequences given as the rows `[L, 9]` of `bach.encoding.note_inputs`."""
        results: list[np.ndarray] = [np.empty((0, NUM_TOKENS), np.float32)] * len(rows)
        for length, group in _groups([len(sequence) for sequence in rows]):
            batch = np.zeros((_rows(length), length, rows[group[0]].shape[1]), np.int32)
            for row, index in enumerate(group):
                batch[row, : len(rows[index])] = rows[index]
            logs = ops.convert_to_numpy(self._run(batch))
            for row, index in enumerate(group):
                first = np.full((min(1, len(rows[index])), NUM_TOKENS), -np.log(NUM_TOKENS), np.float32)
                results[index] = np.concatenate([first, logs[row, : max(0, len(rows[index]) - 1)]])
        return results


def _rows(padded_length: int) -> int:
    return max(1, _NOTES_AT_ONCE // padded_length)


def _groups(lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Indices of sequences that go through the model together, with the length they are padded to."""
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        short = max(lengths, default=0) <= 256  # windows: one exact length
        padded = max(lengths) if short else -(-length // _LENGTH_STEP) * _LENGTH_STEP
        by_length.setdefault(max(1, padded), []).append(index)
    return [
        (padded, group[first : first + _rows(padded)])
        for padded, group in sorted(by_length.items())
        for first in range(0, len(group), _rows(padded))
    ]
