"""Sound made small: WAV files as MP3, all of them at the highest rate at which they fit beside each other."""

import contextlib
import io
import math
import os
import wave
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Key = TypeVar("Key")

RATE = 22050
"""Samples a second of a sound in the page; it holds tones up to 11 kHz."""
LEVELS: Mapping[int, float] = {40: 0.8, 32: 0.85, 24: 0.9, 16: 0.95}
"""kbit/s of a sound, and how libsndfile is asked for them; the highest that all sounds find room with is taken."""


def mp3s(files: Iterable[tuple[Key, bytes | None]], room: int) -> dict[Key, bytes]:
    """Returns WAV files as MP3 in one channel; those are left out that are none, or find no room.

    Args:
        files: with their content, those first that most need room. They are read one by one, and let go of.
        room: bytes for all of them together.
    """
    sounds: dict[Key, np.ndarray] = {}
    seconds = 0.0
    for key, data in files:
        with contextlib.suppress(wave.Error, EOFError, ValueError):
            samples, rate = mono(data or b"")
            length = len(samples) / rate
            if (seconds + length) * min(LEVELS) * 125 <= room:
                seconds += length
                sounds[key] = resampled(samples, rate, RATE)
    speed = next((each for each in LEVELS if seconds * each * 125 <= room), min(LEVELS))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda samples: mp3(samples, speed), sounds.values())
        return {key: data for key, data in zip(sounds, made, strict=True) if data}


def mono(data: bytes) -> tuple[np.ndarray, int]:
    """Returns the samples of a WAV file, `[N]` in -1 to 1, all channels in one, and how many there are a second.

    Raises:
        ValueError: there are none, or of a form that is not known.
        wave.Error: it is no WAV file.
        EOFError: it is cut off.
    """
    with wave.open(io.BytesIO(data)) as file:
        channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
        raw = file.readframes(file.getnframes())
    if width not in (1, 2, 4) or not raw or rate < 1:
        raise ValueError(f"samples of {width} bytes")
    kind = {1: np.uint8, 2: np.dtype("<i2"), 4: np.dtype("<i4")}[width]
    samples = np.frombuffer(raw[: len(raw) - len(raw) % (width * channels)], kind).astype(np.float32)
    samples = (samples - 128) / 128 if width == 1 else samples / float(1 << (8 * width - 1))
    return samples.reshape(-1, channels).mean(axis=1), rate


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Returns sound at another rate, without the tones that this rate cannot hold."""
    if to == rate:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, to)
    return np.asarray(resample_poly(samples, to // common, rate // common), np.float32)


def mp3(samples: np.ndarray, speed: int) -> bytes | None:
    """Returns sound as an MP3 file of constant rate; None if this machine has no libsndfile that makes them.

    Args:
        samples: `[N]`, -1 to 1, `RATE` of them a second; what is beyond is cut.
        speed: one of `LEVELS`, in kbit/s.
    """
    try:
        import soundfile
    except (ImportError, OSError):
        return None
    out = io.BytesIO()
    sound = np.clip(np.nan_to_num(samples), -1, 1)
    try:
        soundfile.write(
            out, sound, RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=LEVELS[speed],
            bitrate_mode="CONSTANT",
        )  # fmt: skip
    except soundfile.LibsndfileError:
        return None
    return out.getvalue()
