"""Models that need no training, as floors under every table: what a better model must beat.

`RepeatFloor` says that every voice keeps its pitch. `CountingFloor` counts what followed the last two steps in the
training set. Both are `bach.scoring.Predictor`s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bach.encoding import START, encode, transpose
from bach.errors import DataError, SettingError
from bach.notes import MAX_PITCH, MIN_PITCH, NUM_TOKENS, NUM_VOICES, SILENCE, STEPS_PER_QUARTER, Pitches, Tokens

if TYPE_CHECKING:
    from bach.corpus import Chorale

TRANSPOSITIONS = range(-5, 6)
"""By how many semitones copies of the training set are moved before counting."""
LEVELS = ((4,), (1, 2, 3), (8,), (5, 6, 7))
"""Which notes each level of `CountingFloor` adds to the context, counted back from the note to be predicted.

4 and 8 are the same voice, one and two steps back; 1, 2, 3 are the other voices' latest notes; all eight together are
the last two steps.
"""
SHORT_LEVELS = ((4,), (1, 2, 3))
"""One step only. Scores better than `LEVELS` (see `docs/scoring.md`), whose rarest contexts are trusted too much."""

_BITS = 6
"""Enough for a token or `START` (0..47)."""
_MAX_NOTES = (64 - 4) // _BITS - 1
"""Notes that fit beside voice, beat and the predicted token in a key of 64 bits."""


class RepeatFloor:
    """Every voice repeats its pitch of the step before, with certainty; notes of the first step are uniform.

    Its accuracy is the share of held notes. Its score is infinite as soon as one note changes.
    """

    def log_probabilities(self, sequences: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Returns for each sequence `[L]` the array `[L, 47]`: 0 for the repeated note and `-inf` for all others."""
        answers: list[NDArray[np.float64]] = []
        for tokens in sequences:
            rows = np.full((len(tokens), NUM_TOKENS), -np.inf)
            rows[:NUM_VOICES] = -np.log(NUM_TOKENS)
            later = np.arange(NUM_VOICES, len(tokens))
            rows[later, tokens[: len(later)]] = 0.0
            answers.append(rows)
        return answers


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counts:
    """What followed each context of one level, contexts in rising order of their keys.

    Attributes:
        contexts: `[K]` uint64, the key of each context that was seen.
        first: `[K]` where its followers begin in `tokens` and `counts`.
        distinct: `[K]` how many different tokens followed it.
        total: `[K]` how many tokens followed it.
        tokens: the followers.
        counts: how often each followed.
    """

    contexts: NDArray[np.uint64]
    first: NDArray[np.integer]
    distinct: NDArray[np.integer]
    total: NDArray[np.integer]
    tokens: NDArray[np.integer]
    counts: NDArray[np.integer]


class CountingFloor:
    """Counts of what followed the last two steps in the training set, blended by Witten and Bell's rule.

    The context of a note grows by levels. Level 0 is the voice and the beat (step modulo 4). Each further level adds
    the notes that `levels` names. With `C` the number of times that a context was seen, `D` the number of different
    tokens that followed it, and `c(x)` the times that token `x` did,

        p(x) = (c(x) + D * q(x)) / (C + D)

    where `q` is the level before, and uniform over 47 tokens before level 0. A context never seen leaves `q` as it is.
    Notes before a sequence began are one more symbol, so a window's first notes look like a piece's. The first note of
    a sequence is uniform, as for the models.

    Counted are the training chorales and their copies moved by each of `transpositions`, as long as the whole piece
    stays within 36..81. On `jsb` it reaches 0.539 nats whole-piece on test (`docs/scoring.md`).

    Source: I. H. Witten and T. C. Bell, The zero-frequency problem, IEEE Transactions on Information Theory 37(4), 1991
    (method C); interpolated rather than backed off, over a context of our own.
    """

    def __init__(self, counts: Sequence[_Counts], levels: Sequence[Sequence[int]]) -> None:
        """Keeps tables that `fit` made."""
        self._counts = tuple(counts)
        self._levels = levels

    @classmethod
    def fit(
        cls,
        chorales: Iterable["Chorale"],
        *,
        transpositions: Iterable[int] = TRANSPOSITIONS,
        levels: Sequence[Sequence[int]] = LEVELS,
    ) -> "CountingFloor":
        """Returns the counts of the chorales, which should be a training split alone.

        Args:
            chorales: what to count.
            transpositions: semitones, each once; 0 counts the chorales themselves.
            levels: notes back (1 is the note just before) that each level adds, each note once and 9 at most in all.

        Raises:
            SettingError: `levels` or `transpositions` repeat a number, or a note back is not positive, or too many.
            DataError: there is nothing to count.
        """
        notes_back = [back for level in levels for back in level]
        if len(set(notes_back)) != len(notes_back) or any(back < 1 for back in notes_back):
            raise SettingError(f"levels name notes back, from 1 on and each once, got {levels!r}")
        if len(notes_back) > _MAX_NOTES:
            raise SettingError(f"levels name {len(notes_back)} notes back; at most {_MAX_NOTES} fit")
        shifts = tuple(transpositions)
        if len(set(shifts)) != len(shifts):
            raise SettingError(f"transpositions are counted once each, got {shifts}")
        sequences = [
            encode(transpose(chorale.pitches, shift))
            for chorale in chorales
            for shift in shifts
            if _stays_inside(chorale.pitches, shift)
        ]
        if not sum(map(len, sequences)):
            raise DataError("there are no notes to count; give a training split with at least one chorale")
        followers = np.concatenate(sequences).astype(np.uint64)
        keys = [_keys(tokens, levels) for tokens in sequences]
        return cls([_count(np.concatenate(level), followers) for level in zip(*keys, strict=True)], levels)

    def log_probabilities(self, sequences: Sequence[Tokens]) -> list[NDArray[np.float64]]:
        """Returns for each sequence `[L]` its log-probabilities `[L, 47]`; none is `-inf`."""
        return [np.log(self._probabilities(np.asarray(tokens))) for tokens in sequences]

    def _probabilities(self, tokens: Tokens) -> NDArray[np.float64]:
        blend = np.full((len(tokens), NUM_TOKENS), 1 / NUM_TOKENS)
        if not len(tokens):
            return blend
        for counts, keys in zip(self._counts, _keys(tokens, self._levels), strict=True):
            place = np.minimum(np.searchsorted(counts.contexts, keys), len(counts.contexts) - 1)
            rows = np.flatnonzero(counts.contexts[place] == keys)
            place = place[rows]
            distinct = counts.distinct[place]
            mass = counts.total[place] + distinct
            blend[rows] *= (distinct / mass)[:, None]
            # Every follower of every row, flattened: a row's followers lie side by side from `first` on.
            within = np.arange(distinct.sum()) - np.repeat(np.cumsum(distinct) - distinct, distinct)
            follower = np.repeat(counts.first[place], distinct) + within
            share = counts.counts[follower] / np.repeat(mass, distinct)
            blend[np.repeat(rows, distinct), counts.tokens[follower]] += share
        blend[0] = 1 / NUM_TOKENS
        return blend


def _stays_inside(pitches: Pitches, semitones: int) -> bool:
    """Returns whether all notes stay within `MIN_PITCH..MAX_PITCH` when moved."""
    sung = pitches[pitches != SILENCE]
    return not len(sung) or bool(sung.min() + semitones >= MIN_PITCH and sung.max() + semitones <= MAX_PITCH)


def _keys(tokens: Tokens, levels: Sequence[Sequence[int]]) -> list[NDArray[np.uint64]]:
    """Returns for each level the keys `[L]` of each note's context; equal contexts, and only they, have equal keys."""
    length = len(tokens)
    key = (np.arange(length) % (NUM_VOICES * STEPS_PER_QUARTER)).astype(np.uint64)  # voice and beat
    keys = [key]
    for level in levels:
        for back in level:
            note = np.full(length, START, np.uint64)
            note[back:] = tokens[: max(length - back, 0)]
            key = (key << np.uint64(_BITS)) | note
        keys.append(key)
    return keys


def _count(keys: NDArray[np.uint64], followers: NDArray[np.uint64]) -> _Counts:
    """Returns how often each follower (a token) came after each key."""
    pairs, counts = np.unique((keys << np.uint64(_BITS)) | followers, return_counts=True)
    contexts, first, distinct = np.unique(pairs >> np.uint64(_BITS), return_index=True, return_counts=True)
    return _Counts(
        contexts=contexts,
        first=first,
        distinct=distinct,
        total=np.add.reduceat(counts, first),
        tokens=(pairs & np.uint64(2**_BITS - 1)).astype(np.intp),
        counts=counts,
    )
