"""Files of music: a chorale out as score, sound and pictures, and other people's files in.

    from bach.formats import read_pitches, write_all

    write_all(read_pitches("song.musicxml"), "out/song", title="My song")

Held notes are merged on the way out (`bach.held`): a pitch that a voice repeats is written as one longer note. On the
way in, notes are put on the grid of sixteenths, and a file whose rhythm does not fit is refused. Every file appears
whole or not at all, and equal input gives equal bytes (of WAV: with `synthesiser="additive"`).

The libraries for scores and pictures take seconds to import and are imported when they are first needed.
"""

from bach.formats.reading import read_melody, read_pitches
from bach.formats.writing import (
    FORMATS,
    write_all,
    write_csv,
    write_json,
    write_midi,
    write_musicxml,
    write_png,
    write_svg,
    write_wav,
)

__all__ = [
    "FORMATS",
    "read_melody",
    "read_pitches",
    "write_all",
    "write_csv",
    "write_json",
    "write_midi",
    "write_musicxml",
    "write_png",
    "write_svg",
    "write_wav",
]
