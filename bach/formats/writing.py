"""Steps to files of every kind."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bach.errors import SettingError, did_you_mean
from bach.formats.files import write_whole
from bach.formats.midi import render_midi
from bach.formats.musicxml import render_musicxml
from bach.formats.pictures import engrave, render_png, render_svg
from bach.formats.sound import Synthesiser, render_wav
from bach.formats.table import render_csv, render_json
from bach.notes import Pitches

FORMATS = {
    "midi": ".mid",
    "musicxml": ".musicxml",
    "wav": ".wav",
    "png": ".png",
    "svg": ".svg",
    "csv": ".csv",
    "json": ".json",
}
"""What `write_all` can write, with the suffix of each file. `json` is the measures."""
SLOWEST, FASTEST = 10.0, 600.0
"""Bounds of the tempo in quarters per minute, inclusive."""


def write_midi(pitches: Pitches, path: str | Path, *, tempo: float = 90.0, title: str = "") -> Path:
    """Writes a MIDI file: four named tracks, held notes merged. Returns the path; see `midi.render_midi`.

    Raises:
        SettingError: `tempo` is outside `SLOWEST..FASTEST`.
        OutputError: the file cannot be written; nothing is left behind. So for every `write_…`.
        ValueError: `pitches` is no chorale `[T, 4]` with `T >= 1`. So for every `write_…`.
    """
    return write_whole(path, render_midi(pitches, tempo=_checked_tempo(tempo), title=title))


def write_musicxml(pitches: Pitches, path: str | Path, *, tempo: float = 90.0, title: str = "") -> Path:
    """Writes a score: four named parts, an estimated key, ties over bar lines. See `musicxml.render_musicxml`."""
    return write_whole(path, render_musicxml(pitches, tempo=_checked_tempo(tempo), title=title))


def write_wav(pitches: Pitches, path: str | Path, *, tempo: float = 90.0, synthesiser: Synthesiser = "auto") -> Path:
    """Writes sound: stereo, 16 bit, 44.1 kHz. See `sound.render_wav`."""
    return write_whole(path, render_wav(pitches, tempo=_checked_tempo(tempo), synthesiser=synthesiser))


def write_png(pitches: Pitches, path: str | Path, *, title: str = "") -> Path:
    """Writes a piano roll. See `pictures.render_png`."""
    return write_whole(path, render_png(pitches, title=title))


def write_svg(pitches: Pitches, path: str | Path, *, title: str = "") -> Path:
    """Writes an engraved score. See `pictures.render_svg`."""
    return write_whole(path, render_svg(pitches, title=title))


def write_csv(pitches: Pitches, path: str | Path) -> Path:
    """Writes the pitches as a table. See `table.render_csv`."""
    return write_whole(path, render_csv(pitches))


def write_json(values: Mapping[str, object], path: str | Path) -> Path:
    """Writes numbers, such as the measures of a chorale, as JSON; NaN becomes null. See `table.render_json`."""
    return write_whole(path, render_json(values))


def write_all(
    pitches: Pitches,
    stem: str | Path,
    *,
    tempo: float = 90.0,
    formats: Iterable[str] = tuple(FORMATS),
    title: str = "",
    measures: Mapping[str, object] | None = None,
    synthesiser: Synthesiser = "auto",
) -> dict[str, Path]:
    """Writes one chorale in several formats and returns the paths by format.

    Args:
        pitches: `[T, 4]`, `T >= 1`.
        stem: folder and name without suffix; `out/song` becomes `out/song.mid` and so on. Missing folders are made.
        tempo: quarters per minute, `SLOWEST..FASTEST`.
        formats: names of `FORMATS`.
        title: stands in MIDI, score and pictures; empty for none.
        measures: what `json` holds; None for `bach.measures.measure(pitches)`, which has no training set to compare
            with.
        synthesiser: what makes the sound, as for `sound.render_wav`.

    Raises:
        SettingError: an unknown format or an impossible tempo; nothing is written.
        OutputError: a file cannot be written; those before it are whole.
        ValueError: `pitches` is no chorale.
    """
    stem, tempo, wanted = Path(stem), _checked_tempo(tempo), list(dict.fromkeys(formats))
    for name in wanted:
        if name not in FORMATS:
            raise SettingError(f"unknown format {name!r}{did_you_mean(name, FORMATS)}")
    # The engraver reads the score that we write: one rendering serves both.
    score = render_musicxml(pitches, tempo=tempo, title=title) if {"musicxml", "svg"} & set(wanted) else b""
    renderers: dict[str, Callable[[], bytes]] = {
        "midi": lambda: render_midi(pitches, tempo=tempo, title=title),
        "musicxml": lambda: score,
        "wav": lambda: render_wav(pitches, tempo=tempo, synthesiser=synthesiser),
        "png": lambda: render_png(pitches, title=title),
        "svg": lambda: engrave(score),
        "csv": lambda: render_csv(pitches),
        "json": lambda: render_json(_measured(pitches) if measures is None else measures),
    }
    return {name: write_whole(stem.with_name(stem.name + FORMATS[name]), renderers[name]()) for name in wanted}


def _measured(pitches: Pitches) -> Mapping[str, object]:
    from bach.measures import measure

    return measure(pitches)


def _checked_tempo(tempo: float) -> float:
    if not (math.isfinite(tempo) and SLOWEST <= tempo <= FASTEST):
        raise SettingError(f"tempo {tempo} is outside {SLOWEST:g}..{FASTEST:g} quarters per minute")
    return float(tempo)
