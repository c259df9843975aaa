"""The musical constants that every other module is written in.

A *chorale* is an integer array `[T, 4]` of MIDI pitches: `T` steps of a sixteenth note each, four voices from soprano
to bass, `SILENCE` where a voice rests. A *token* numbers the 47 things a voice can do in a step: 0 is silence, 1..46
are the pitches 36..81. A chorale as a *sequence* is one token after the other, per step soprano, alto, tenor, bass.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

VOICES = ("soprano", "alto", "tenor", "bass")
NUM_VOICES = 4

SILENCE = 0
"""The pitch, and the token, of a voice that rests."""
MIN_PITCH = 36
"""The lowest pitch of the corpus (C2), inclusive."""
MAX_PITCH = 81
"""The highest pitch of the corpus (A5), inclusive."""
NUM_TOKENS = MAX_PITCH - MIN_PITCH + 2

VOICE_RANGES = ((60, 81), (52, 74), (46, 69), (36, 66))
"""Lowest and highest pitch (inclusive) that each voice sings in the canonical corpus, soprano to bass."""

STEPS_PER_QUARTER = 4
STEPS_PER_BAR = 16
"""Steps in a bar of 4/4. The corpus carries no time signatures; positions count modulo this number."""

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

Pitches = NDArray[np.integer]
"""A chorale: `[T, 4]`, each cell `SILENCE` or `MIN_PITCH..MAX_PITCH`."""
Tokens = NDArray[np.integer]
"""A sequence: `[4 * T]`, each cell `0..NUM_TOKENS - 1`."""
