"""Music files of any kind to steps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bach.errors import FormatError, did_you_mean
from bach.formats.files import read_whole
from bach.formats.grid import Line, four_voices, on_grid, one_voice
from bach.formats.midi import parse_midi
from bach.formats.musicxml import parse_musicxml
from bach.formats.table import parse_csv
from bach.notes import NUM_VOICES, SILENCE, Pitches

PARSERS: dict[str, Callable[[bytes, str], list[Line]]] = {
    ".mid": parse_midi,
    ".midi": parse_midi,
    ".xml": parse_musicxml,
    ".musicxml": parse_musicxml,
    ".mxl": parse_musicxml,
}
"""Scores, by the suffix of their files."""
TABLE = ".csv"
READABLE = (*PARSERS, TABLE)
"""The suffixes of files that can be read, in lower case."""


def read_pitches(path: str | Path) -> Pitches:
    """Returns the chorale in a file as `[T, 4]`, int16, soprano to bass.

    MIDI (`.mid`, `.midi`): four tracks or channels. MusicXML (`.xml`, `.musicxml`, `.mxl`): four parts, or voices on
    fewer staves. CSV: four columns, one line per sixteenth. Voices with the usual names are taken by name, others
    from the highest to the lowest. Time starts with the file; silence after the last note is left out, except in CSV.

    Raises:
        FormatError: no such file, another suffix, a broken, empty or very large file, not four voices (with the number
            found), a rhythm that does not fit sixteenths, or a pitch outside `MIN_PITCH..MAX_PITCH` (with its place).
    """
    path = Path(path)
    if _suffix(path) == TABLE:
        table = parse_csv(read_whole(path), str(path))
        if table.shape[1] != NUM_VOICES:
            raise FormatError(f"{path} has 1 voice (column), expected {NUM_VOICES}: soprano, alto, tenor and bass")
        return table
    return on_grid(four_voices(_lines(path), str(path)), str(path))


def read_melody(path: str | Path) -> np.ndarray:
    """Returns the melody in a file as `[T]`, int16: its only voice, or the soprano of four.

    Reads what `read_pitches` reads; a CSV table has one column or four.

    Raises:
        FormatError: as `read_pitches`, but for two, three, or more than four voices; or a melody that is all silence.
    """
    path = Path(path)
    if _suffix(path) == TABLE:
        melody = parse_csv(read_whole(path), str(path))[:, 0]
        if not (melody != SILENCE).any():
            raise FormatError(f"{path} has no notes")
        return melody
    return on_grid([one_voice(_lines(path), str(path))], str(path))[:, 0]


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise FormatError(f"cannot tell what {path} is from its name: {path.suffix!r}{did_you_mean(suffix, READABLE)}")
    return suffix


def _lines(path: Path) -> list[Line]:
    return PARSERS[path.suffix.lower()](read_whole(path), str(path))
