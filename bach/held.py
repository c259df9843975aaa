"""Steps to notes: a pitch that a voice repeats is a pitch that it holds.

A chorale array has no onsets, so a note sung twice cannot be told from one sung for twice as long. Wherever a chorale
is written or measured, a note is a run of equal pitch in one voice, and silence is the absence of a note.
"""

from typing import NamedTuple

import numpy as np

from bach.notes import SILENCE, Pitches


class Note(NamedTuple):
    """One note of one voice.

    Attributes:
        start: the step it begins on.
        steps: how long it sounds, in steps; at least 1.
        pitch: MIDI number; in the result of `runs` also `SILENCE`.
    """

    start: int
    steps: int
    pitch: int


def starts(pitches: Pitches) -> np.ndarray:
    """Returns `[T]` or `[T, 4]`, as `pitches`: where a note or a silence begins. True throughout the first step."""
    begins = np.ones(pitches.shape, bool)
    begins[1:] = pitches[1:] != pitches[:-1]
    return begins


def runs(voice: np.ndarray) -> list[Note]:
    """Returns the notes and the silences (`pitch == SILENCE`) of one voice `[T]`, in order; they fill all `T` steps."""
    first = np.flatnonzero(starts(voice))
    lengths = np.diff(np.append(first, len(voice)))
    return [Note(int(s), int(n), int(voice[s])) for s, n in zip(first, lengths, strict=True)]


def merged_notes(voice: np.ndarray) -> list[Note]:
    """Returns the notes of one voice `[T]`, in order, without its silences."""
    return [run for run in runs(voice) if run.pitch != SILENCE]


def last_sung(pitches: Pitches) -> Pitches:
    """Returns `[T, 4]` with each silence replaced by the voice's last note before it (`SILENCE` if there is none)."""
    index = np.where(pitches != SILENCE, np.arange(len(pitches))[:, None], 0)
    return np.take_along_axis(pitches, np.maximum.accumulate(index, axis=0), axis=0)
