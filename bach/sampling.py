"""How the next note is chosen from what a model says: pure functions of logits and a random number.

Chance comes in as numbers drawn beforehand, one a note and chorale, so that a chorale depends on its own seed only,
whatever else is generated beside it.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

from bach.backend import Tensor
from bach.notes import NUM_TOKENS, NUM_VOICES, SILENCE

_FORBIDDEN = float("-inf")
_LOWEST_TEMPERATURE = 1e-30


def choose(
    logits: Tensor,
    uniform: Tensor,
    *,
    temperature: Tensor | float,
    top_p: Tensor | float | None,
    allowed: Tensor,
) -> Tensor:
    """Returns one token per row.

    Args:
        logits: `[batch, 47]`.
        uniform: `[batch]` numbers in [0, 1), the chance of each row.
        temperature: above 0; the logits are divided by it, so that below 1 the probable grows more probable.
        top_p: in (0, 1]; only the most probable tokens whose probabilities first sum to this are kept, at least one;
            `None` keeps all.
        allowed: `[batch, 47]` (or broadcast to it) booleans; at least one a row.

    Returns:
        `[batch]` int32.

    Source: nucleus sampling as in Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, section 3.1.
    """
    logits = ops.where(allowed, ops.cast(logits, "float32"), _FORBIDDEN)
    below_best = logits - ops.max(logits, axis=-1, keepdims=True)  # so that nothing overflows at low temperatures
    probabilities = ops.softmax(below_best / ops.maximum(temperature, _LOWEST_TEMPERATURE))
    kept = ops.where(allowed, probabilities, 0.0)
    if top_p is not None:
        more_probable = probabilities[:, None, :] > probabilities[:, :, None]  # [B, i, j]: j is more probable than i
        mass_above = ops.sum(ops.where(more_probable, probabilities[:, None, :], 0.0), axis=-1)
        kept = ops.where(ops.logical_or(mass_above < top_p, mass_above == 0.0), kept, 0.0)
    cumulative = ops.matmul(kept, np.triu(np.ones((NUM_TOKENS, NUM_TOKENS), np.float32)))  # [B, 47]
    target = uniform[:, None] * cumulative[:, -1:]
    index = ops.sum(ops.cast(cumulative <= target, "int32"), axis=-1)
    # Where rounding leaves no room above the target, the last token that has any probability is meant.
    last = ops.max(ops.where(kept > 0, np.arange(NUM_TOKENS, dtype=np.int32), 0), axis=-1)
    return ops.minimum(index, last)


def most_probable(logits: Tensor, *, allowed: Tensor) -> Tensor:
    """Returns the most probable allowed token per row: `[batch]` int32; the lowest of equals."""
    return ops.cast(ops.argmax(ops.where(allowed, logits, _FORBIDDEN), axis=-1), "int32")


def parallel_motion(past: Tensor, voice: Tensor) -> Tensor:
    """Returns `[batch, 47]` booleans: which tokens would move in parallel fifths or octaves with a voice above.

    Both voices change, in the same direction, and are a fifth, an octave or a unison apart (mod 12) before and after.

    Args:
        past: `[batch, 8]` the last eight notes as tokens, the latest first; anything but 1..46 is no note.
        voice: of the coming note, 0..3; the voices above it have sung their note of this step.
    """
    candidates = np.arange(NUM_TOKENS, dtype=np.int32)[None]
    own = past[:, NUM_VOICES - 1, None]
    found = ops.zeros_like(own + candidates, dtype="bool")
    for above in range(1, NUM_VOICES):  # how many voices higher
        now, earlier = past[:, above - 1, None], past[:, above + NUM_VOICES - 1, None]
        interval = (earlier - own) % 12
        alike = ops.logical_and(
            ops.logical_or(interval == 0, interval == 7),
            ops.logical_and((now - candidates) % 12 == interval, (now - earlier) * (candidates - own) > 0),
        )
        sing = ops.logical_and(ops.logical_and(_sings(own), _sings(now)), _sings(earlier))
        exists = ops.logical_and(sing, voice >= above)
        found = ops.logical_or(found, ops.logical_and(alike, exists))
    return ops.logical_and(found, candidates > SILENCE)


def _sings(tokens: Tensor) -> Tensor:
    return ops.logical_and(tokens > SILENCE, tokens < NUM_TOKENS)


def chances(seeds: Sequence[int], notes: int) -> np.ndarray:
    """Returns `[len(seeds), notes]` float32 numbers in [0, 1): row `i` depends on `seeds[i]` alone.

    A longer draw begins with the shorter one of the same seed.
    """
    rows = [np.random.Generator(np.random.Philox(int(seed))).random(notes, dtype=np.float32) for seed in seeds]
    return np.stack(rows) if rows else np.zeros((0, notes), np.float32)
