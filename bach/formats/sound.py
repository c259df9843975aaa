"""Sound: a chorale sung by a soundfont through FluidSynth, or by sums of sines of our own."""

import io
import logging
import os
import shutil
import subprocess
import tempfile
import wave
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from bach.errors import OutputError
from bach.formats.grid import writable
from bach.formats.midi import render_midi
from bach.held import merged_notes
from bach.notes import STEPS_PER_QUARTER, Pitches

log = logging.getLogger(__name__)

Synthesiser = Literal["auto", "fluidsynth", "additive"]

SAMPLE_RATE = 44_100
"""Samples per second and channel."""
PEAK = 0.8
"""The largest sample, where 1 is full scale."""
HARMONICS = (1.0, 0.5, 0.28, 0.16, 0.1, 0.06, 0.04)
"""Strength of the fundamental and its overtones. The last one of the highest pitch has 6.2 kHz, far below Nyquist."""
ATTACK, RELEASE = 0.03, 0.12
"""Seconds that a note takes to swell, from its start, and to fade, from its end."""
DECAY = 0.25
"""How much of a note's loudness is lost per second while it is held, as an exponent."""
LEFT_TO_RIGHT = (0.35, 0.62, 0.45, 0.55)
"""Where the voices stand, soprano to bass: 0 is left, 1 is right."""
SOUNDFONT = "BACH_SOUNDFONT"
"""The environment variable that names a soundfont (.sf2, .sf3)."""
SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts")
TIMEOUT = 120.0
"""Seconds after which FluidSynth is given up."""


def render_wav(pitches: Pitches, *, tempo: float = 90.0, synthesiser: Synthesiser = "auto") -> bytes:
    """Returns a chorale `[T, 4]` as a WAV file: stereo, 16 bit, 44.1 kHz, its largest sample below full scale.

    Args:
        pitches: `[T, 4]`, `T >= 1`.
        tempo: quarters per minute.
        synthesiser: "fluidsynth" sings with a soundfont; "additive" sums sines, needs nothing, and gives equal bytes
        for
            equal input; "auto" takes FluidSynth where it and a soundfont are installed and work, else sines.

    Raises:
        OutputError: "fluidsynth" is asked for and not installed, finds no soundfont, or fails.
    """
    pitches = writable(pitches)
    if synthesiser == "additive":
        return _wav(additive(pitches, tempo))
    if synthesiser == "fluidsynth":
        return _fluidsynth(pitches, tempo)
    try:
        return (
            _fluidsynth(pitches, tempo)
            if shutil.which("fluidsynth") and soundfont()
            else _wav(additive(pitches, tempo))
        )
    except OutputError as error:
        log.warning("%s; using sines instead", error)
        return _wav(additive(pitches, tempo))


def additive(pitches: Pitches, tempo: float = 90.0) -> np.ndarray:
    """Returns a chorale as sound: `[samples, 2]`, float32, left and right, within ±`PEAK`.

    Each note is a sum of sines that starts at phase 0, swells along a quarter of a sine and fades along the other;
    its fade overlaps the start of the next note, so that nothing jumps. Lasts `T` steps and one `RELEASE`.
    """
    seconds = 60.0 / tempo / STEPS_PER_QUARTER
    total = round((len(pitches) * seconds + RELEASE) * SAMPLE_RATE) + 1
    sound = np.zeros((total, 2), np.float32)
    for voice, line in enumerate(pitches.T):
        alone = np.zeros(total, np.float32)
        for note in merged_notes(line):
            first = round(note.start * seconds * SAMPLE_RATE)
            tone = _tone(note.pitch, note.steps * seconds)
            alone[first : first + len(tone)] += tone[: total - first]
        angle = LEFT_TO_RIGHT[voice] * np.pi / 2
        sound += alone[:, None] * np.array([np.cos(angle), np.sin(angle)], np.float32)
    loudest = float(abs(sound).max())
    return sound * np.float32(PEAK / loudest) if loudest else sound


def _tone(pitch: int, seconds: float) -> np.ndarray:
    """Returns one note: `[samples]`, float32, `seconds` and a `RELEASE` long."""
    held, fading = round(seconds * SAMPLE_RATE), round(RELEASE * SAMPLE_RATE)
    cycle = _cycle()
    advance = 440.0 * 2.0 ** ((pitch - 69) / 12) * len(cycle) / SAMPLE_RATE
    time = np.arange(held + fading)
    # The phase in double precision, so that long notes stay in tune; the waveform from a table of one cycle.
    tone = cycle[(time * advance).astype(np.int64) % len(cycle)]
    tone *= np.exp(time.astype(np.float32) * np.float32(-DECAY / SAMPLE_RATE))
    swelling = min(round(ATTACK * SAMPLE_RATE), held)
    tone[:swelling] *= np.sin(np.linspace(0.0, np.pi / 2, swelling, dtype=np.float32)) ** 2
    tone[held:] *= np.cos(np.linspace(0.0, np.pi / 2, fading, dtype=np.float32)) ** 2
    return tone


@cache
def _cycle() -> np.ndarray:
    """Returns one cycle of the waveform: `[65536]`, float32; finer than 16 bit needs without interpolation."""
    phase = np.arange(2**16) * (2 * np.pi / 2**16)
    overtones = (strength * np.sin(number * phase) for number, strength in enumerate(HARMONICS, start=1))
    return np.sum(list(overtones), axis=0).astype(np.float32)


def _wav(sound: np.ndarray) -> bytes:
    """Returns `[samples, 2]` within ±1 as a WAV file of 16 bit."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(sound * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def soundfont() -> Path | None:
    """Returns the soundfont to sing with: the one `BACH_SOUNDFONT` names, else the largest in the usual folders."""
    named = os.environ.get(SOUNDFONT)
    if named:
        return Path(named) if Path(named).is_file() else None
    found = [file for folder in SOUNDFONT_FOLDERS for file in Path(folder).glob("*.sf[23]")]
    return max(found, key=lambda file: (file.stat().st_size, file.name), default=None)


def _fluidsynth(pitches: Pitches, tempo: float) -> bytes:
    """Returns the WAV file that FluidSynth makes, scaled to `PEAK`; it ends when the last echo has died away."""
    program, font = shutil.which("fluidsynth"), soundfont()
    if not program or not font:
        missing = "no soundfont was found" if program else "the program `fluidsynth` is not installed"
        raise OutputError(f"cannot make sound with FluidSynth: {missing}; use synthesiser='additive'")
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "chorale.mid"), Path(folder, "chorale.wav")
        score.write_bytes(render_midi(pitches, tempo=tempo))
        command = [program, "-niq", "-g", "0.5", "-r", str(SAMPLE_RATE), "-T", "wav", "-O", "s16", "-F", str(sound)]
        try:
            subprocess.run([*command, str(font), str(score)], check=True, capture_output=True, timeout=TIMEOUT)
            return _levelled(sound)
        except (OSError, subprocess.SubprocessError, wave.Error, EOFError, ValueError) as error:
            raise OutputError(f"FluidSynth failed with {font.name}: {error}") from error


def _levelled(path: Path) -> bytes:
    """Returns a stereo WAV file of 16 bit with its largest sample at `PEAK`, as the other synthesiser has it."""
    with wave.open(str(path)) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (2, 2, SAMPLE_RATE):
            raise ValueError(f"expected stereo of 16 bit at {SAMPLE_RATE} Hz, got {file.getparams()}")
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2) / 32768
    loudest = float(abs(sound).max(initial=0.0))
    return _wav(sound * (PEAK / loudest) if loudest else sound)
