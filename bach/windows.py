"""Chorales cut into windows of equal length, as arrays that a training step takes."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bach.encoding import NUM_NOTE_COLUMNS, START, encode, piece_inputs, transposition_bounds
from bach.notes import NUM_VOICES, SILENCE, Pitches

_NOTES = slice(0, NUM_NOTE_COLUMNS)


class Windows:
    """All training windows of a set of chorales, cut anew for every epoch.

    A window is a stretch of rows of `note_inputs` with the notes that follow them. Rows are those of the whole piece: a
    window in the middle knows its beat, the notes before it and for how long they have been held.

    Args:
        chorales: `[T, 4]` each.
        steps: length of a window.
        shift: with a shift, windows begin every `shift` steps, notes that do not fill a window are dropped, and the
            last note of a window is only predicted, never heard (the seed's protocol: 33 steps, shifted by 16). With 0,
            each epoch covers every piece by the fewest windows that can, their overlaps placed at random.
        transposition: the largest move in semitones; each epoch moves each piece by one random number of semitones that
            keeps its voices within their ranges. 0 keeps the pieces where they are.
    """

    def __init__(self, chorales: Sequence[Pitches], *, steps: int, shift: int = 0, transposition: int = 0):
        tokens = [encode(chorale) for chorale in chorales]
        self.steps, self.shift = steps, shift
        self.lengths = np.array([len(t) // NUM_VOICES for t in tokens])
        self._offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens])])
        self._inputs = np.concatenate([piece_inputs(t) for t in tokens]).astype(np.uint8)
        self._targets = np.concatenate([np.append(t[1:], SILENCE) for t in tokens]).astype(np.uint8)
        self._weights = np.concatenate([np.append(np.ones(len(t) - 1), 0.0) for t in tokens]).astype(np.float32)
        bounds = np.array([transposition_bounds(chorale) for chorale in chorales])
        self._lowest = np.maximum(bounds[:, 0], -transposition)
        self._highest = np.minimum(bounds[:, 1], transposition)

    def num_batches(self, batch_size: int) -> int:
        """Returns how many batches an epoch has; the same for every epoch."""
        return -(-num_windows(self.lengths, steps=self.steps, shift=self.shift) // batch_size)

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields the batches of one epoch in random order: inputs `[B, W, 9]`, targets `[B, W]`, weights `[B, W]`.

        `W` is `4 * steps`, less one with a `shift`. All batches have the same shape; the last one is filled up with
        windows of weight 0. Inputs and targets are int32, weights float32.
        """
        piece, start = self._starts(rng)
        moved_inputs, moved_targets = self._moved(rng)
        order = rng.permutation(len(piece))
        missing = -len(order) % batch_size
        order = np.concatenate([order, order[np.arange(missing) % len(order)]])
        counts = np.concatenate([np.ones(len(piece)), np.zeros(missing)]).astype(np.float32)
        width = self.steps * NUM_VOICES - (1 if self.shift else 0)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            rows = self._offsets[piece[chosen], None] + start[chosen, None] * NUM_VOICES + np.arange(width)
            inside = rows < self._offsets[piece[chosen] + 1, None]
            rows = np.where(inside, rows, 0)
            weights = self._weights[rows] * inside * counts[first : first + batch_size, None]
            yield moved_inputs[rows].astype(np.int32), moved_targets[rows].astype(np.int32), weights

    def content(self) -> bytes:
        """Returns bytes that differ wherever the chorales differ."""
        return self.lengths.tobytes() + self._targets.tobytes() + self._inputs[:, 0].tobytes()

    def _starts(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The piece and the first step of every window."""
        pieces, starts = [], []
        for piece, length in enumerate(self.lengths):
            if self.shift:
                begin = np.arange(0, length - self.steps + 1, self.shift)
            else:
                count = num_windows([length], steps=self.steps)
                overlap = (
                    rng.multinomial(count * self.steps - length, np.full(count - 1, 1 / max(count - 1, 1)))
                    if (count > 1)
                    else np.zeros(0, int)
                )
                begin = np.arange(count) * self.steps - np.concatenate([[0], np.cumsum(overlap)]).astype(int)
            pieces.append(np.full(len(begin), piece))
            starts.append(begin)
        return np.concatenate(pieces), np.concatenate(starts)

    def _moved(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets with every piece transposed by a random number of semitones."""
        semitones = rng.integers(self._lowest, self._highest + 1)
        if not semitones.any():
            return self._inputs, self._targets
        by_row = np.repeat(semitones, np.diff(self._offsets)).astype(np.int16)
        inputs = self._inputs.copy()
        notes = inputs[:, _NOTES]
        sounding = (notes != SILENCE) & (notes != START)
        inputs[:, _NOTES] = np.where(sounding, notes + by_row[:, None], notes)
        return inputs, np.where(self._targets == SILENCE, SILENCE, self._targets + by_row).astype(np.uint8)


def num_windows(lengths: Iterable[int], *, steps: int, shift: int = 0) -> int:
    """Returns how many windows an epoch has over pieces of these lengths in steps; see `Windows`."""
    if shift:
        return int(sum(max(0, (length - steps) // shift + 1) for length in lengths))
    return int(sum(max(1, -(-length // steps)) for length in lengths))
