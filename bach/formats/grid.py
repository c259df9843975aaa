"""Notes in any unit of time to the steps of a chorale, and the checks that all readers share."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from bach.encoding import encode
from bach.errors import FormatError
from bach.notes import MAX_PITCH, MIN_PITCH, NUM_VOICES, SILENCE, STEPS_PER_BAR, VOICES, Pitches

MAX_STEPS = 16_000
"""The longest piece that is read, in steps (inclusive): 1000 bars, 25 times the longest chorale."""
OFF_GRID = 0.25
"""A note this far (inclusive), in steps, from the nearest sixteenth still counts as being on it."""
MAX_OFF_GRID = 0.05
"""The share of notes (inclusive) that may be farther off: ornaments, not another rhythm."""


NAMES = {
    "soprano": ("soprano", "sopran", "sop", "s", "cantus", "discant"),
    "alto": ("alto", "alt", "altus", "contralto", "a"),
    "tenor": ("tenor", "tenore", "ten", "t"),
    "bass": ("bass", "basso", "bas", "bassus", "b"),
}
"""What parts are called, in lower case, by voice."""


class TimedNote(NamedTuple):
    """A note as a file gives it.

    Attributes:
        start: when it begins, in steps (sixteenths) from the start of the piece; any fraction.
        end: when it ends, likewise.
        pitch: sounding MIDI number, 0..127.
    """

    start: float
    end: float
    pitch: int


class Line(NamedTuple):
    """One voice of a file.

    Attributes:
        name: what the file calls it; may be empty.
        notes: its notes in any order.
    """

    name: str
    notes: Sequence[TimedNote]


def writable(pitches: Pitches) -> Pitches:
    """Returns `pitches` as `[T, 4]`, int16, ready to be written.

    Raises:
        ValueError: it is not an integer array `[T, 4]` with `T >= 1`, or a cell is neither `SILENCE` nor within
            `MIN_PITCH..MAX_PITCH`.
    """
    pitches = np.asarray(pitches)
    encode(pitches)  # checks shape and range
    if not len(pitches) or not np.issubdtype(pitches.dtype, np.integer):
        raise ValueError(f"a chorale is integers [T, 4] with T >= 1, got {pitches.dtype} {list(pitches.shape)}")
    return pitches.astype(np.int16)


def printable(title: str) -> str:
    """Returns a title without what no file can carry: control characters and halves of characters."""
    return "".join(character for character in title if character.isprintable())


def on_grid(lines: Sequence[Line], where: str) -> np.ndarray:
    """Returns the voices as steps: `[T, len(lines)]`, int16. Silence after the last note is left out.

    Args:
        lines: the voices, each with one note at a time; a note that reaches into the next one is cut there.
        where: the file, for messages.

    Raises:
        FormatError: no note at all, too long a piece, a rhythm that does not fit sixteenths, two notes at once in a
        voice,
            or a pitch outside `MIN_PITCH..MAX_PITCH`.
    """
    every = [note for line in lines for note in line.notes]
    if not every:
        raise FormatError(f"{where} has no notes")
    _check_fit(every, where)
    length = max(round(note.end) for note in every)
    if length > MAX_STEPS:
        raise FormatError(f"{where} lasts {length:,} sixteenths; at most {MAX_STEPS:,} are read")
    grid = np.full((length, len(lines)), SILENCE, np.int16)
    for column, line in enumerate(lines):
        name = line.name or f"voice {column + 1}"
        for note in sorted(line.notes):
            start, end = round(note.start), round(note.end)
            if not MIN_PITCH <= note.pitch <= MAX_PITCH:
                raise FormatError(
                    f"{where}, {name}, {place(start)}: pitch {note.pitch} is outside {MIN_PITCH}..{MAX_PITCH}; "
                    "transpose the piece or move the voice by an octave"
                )
            grid[start:end, column] = note.pitch
            # Of two notes one after the other the later cuts the earlier short (legato playing).
        _check_one_at_a_time(line, name, where)
    sounding = np.flatnonzero((grid != SILENCE).any(axis=1))
    if not len(sounding):
        raise FormatError(f"{where} has no note as long as half a sixteenth")
    return grid[: sounding[-1] + 1]


def _check_fit(notes: Iterable[TimedNote], where: str) -> None:
    """Refuses a file whose notes begin between the sixteenths."""
    notes = list(notes)
    if not all(math.isfinite(note.start) and math.isfinite(note.end) and note.start >= 0 for note in notes):
        raise FormatError(f"{where} has a note at no time that can be counted")
    off = [note for note in notes if abs(note.start - round(note.start)) > OFF_GRID]
    if len(off) > MAX_OFF_GRID * len(notes):
        first = min(off)
        raise FormatError(
            f"{where}: {len(off)} of {len(notes)} notes begin between the sixteenths, the first at "
            f"{place(int(first.start))}, {first.start % 1:.2f} of a sixteenth late; quantise the file first"
        )


def _check_one_at_a_time(line: Line, name: str, where: str) -> None:
    begun: dict[int, int] = {}
    for note in line.notes:
        start = round(note.start)
        if round(note.end) > start and begun.setdefault(start, note.pitch) != note.pitch:
            raise FormatError(
                f"{where}, {name}, {place(start)}: two notes at once ({begun[start]} and {note.pitch}); "
                "each voice must be a track, channel or part of its own"
            )


def four_voices(lines: Sequence[Line], where: str) -> list[Line]:
    """Returns the four voices, soprano to bass, out of the voices of a file.

    Voices with the `NAMES` of soprano, alto, tenor and bass are taken by name, whatever else there is. Otherwise there
    must be exactly four that sing, and the higher one sings on average, the higher is its voice.

    Raises:
        FormatError: there are not four voices, with the number found.
    """
    by_name = [[line for line in lines if _is_voice(line.name, voice)] for voice in VOICES]
    if all(len(found) == 1 for found in by_name) and any(found[0].notes for found in by_name):
        return [found[0] for found in by_name]
    singing = [line for line in lines if line.notes]
    if len(singing) != NUM_VOICES:
        count = f"{len(singing)} voice" + "s" * (len(singing) != 1)
        names = ", ".join(repr(line.name) for line in singing[:8] if line.name)
        raise FormatError(
            f"{where} has {count}{f' ({names})' if names else ''}, expected {NUM_VOICES}: "
            "soprano, alto, tenor and bass, each a track, channel or part of its own"
        )
    return sorted(singing, key=lambda line: -fmean(note.pitch for note in line.notes))


def one_voice(lines: Sequence[Line], where: str) -> Line:
    """Returns the melody: the only voice that sings, or the soprano of four.

    Raises:
        FormatError: there are two, three, or more than four voices, or none.
    """
    singing = [line for line in lines if line.notes]
    if len(singing) == 1:
        return singing[0]
    try:
        return four_voices(lines, where)[0]
    except FormatError:
        raise FormatError(
            f"{where} has {len(singing)} voices; a melody is one voice, or the soprano of a file with four"
        ) from None


def _is_voice(name: str, voice: str) -> bool:
    """Tells whether a part's name means this voice: "Soprano", "sopran", "S.", "Tenor 1", "Basso"; not "Bassoon"."""
    return name.lower().strip(".0123456789 ") in NAMES[voice]


def place(step: int) -> str:
    """Returns where a step is, as people count: `bar 3, sixteenth 5 (step 36)`. Bars of 4/4, counted from 1."""
    return f"bar {step // STEPS_PER_BAR + 1}, sixteenth {step % STEPS_PER_BAR + 1} (step {step})"
