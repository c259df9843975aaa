"""Files of a bundle inside the page: sound, pictures, small downloads, each made small enough.

Nothing here knows what a sample is of. Files that share a name up to the ending belong together, and an ending says how
a file is shown. Pictures are shown as images, in which a browser runs no script and loads nothing from outside.
"""

import base64
import contextlib
import io
import re
import struct
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from results.errors import ResultsError
from results.storage import Storage

SOUND_BYTES = 3_300_000
"""All sound of a page together, as it stands in the page."""
PICTURE_BYTES = 1_900_000
"""All pictures together."""
DOWNLOAD_BYTES = 500_000
"""All files of other kinds together."""
MOST_READ_BYTES = 64_000_000
"""A larger file is not even looked at."""
RATES = (22050, 16000, 11025, 8000)
"""Samples a second of the sound in the page, the first that all of it fits with."""
MULAW = 7
"""How a WAV file says that its samples are µ-law: eight bits each, at the quality of about thirteen."""

_SOUNDS = {".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".flac": "audio/flac", ".m4a": "audio/mp4"}
_PICTURES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_TEXTS = (".json", ".txt", ".md")


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file in the page.

    Attributes:
        kind: `sound`, `picture` or `download`.
        name: of the file.
        data: its content as a `data:` address.
    """

    kind: str
    name: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Attached:
    """The files of one sample.

    Attributes:
        files: those in the page.
        left_out: paths below the sweep's folder of those that are too large for it.
    """

    files: tuple[Attachment, ...] = ()
    left_out: tuple[str, ...] = ()


def attach(storage: Storage, paths: Sequence[str]) -> dict[str, Attached]:
    """Returns the files beside each path that have its name, whatever their ending.

    Args:
        storage: of the sweep.
        paths: of samples, below the sweep's folder, such as `bundle/samples/cold.mid`; one outside of it has no files.
    """
    beside = {path: _beside(storage, path) for path in dict.fromkeys(paths)}
    everything = list(dict.fromkeys(name for names in beside.values() for name in names))
    waves = {name: _read(storage, name) for name in everything if name.lower().endswith(".wav")}
    sounds = _waves({name: data for name, data in waves.items() if data})
    made: dict[str, Attachment] = {}
    left = {"sound": SOUND_BYTES - sum(len(each.data) for each in sounds.values())}
    left |= {"picture": PICTURE_BYTES, "download": DOWNLOAD_BYTES}
    for name in everything:
        if name in waves:
            if name in sounds:
                made[name] = sounds[name]
            continue
        attachment = _attachment(storage, name)
        if attachment is None or len(attachment.data) > left[attachment.kind]:
            continue
        made[name] = attachment
        left[attachment.kind] -= len(attachment.data)
    return {
        path: Attached(
            files=tuple(made[name] for name in names if name in made),
            left_out=tuple(name for name in names if name not in made and not name.lower().endswith(_TEXTS)),
        )
        for path, names in beside.items()
    }


def _beside(storage: Storage, path: str) -> list[str]:
    place = PurePosixPath(path)
    if not path or place.is_absolute() or ".." in place.parts:
        return []
    folder = "" if str(place.parent) == "." else str(place.parent)
    with contextlib.suppress(ResultsError, FileNotFoundError, NotADirectoryError):
        names = [name for name in storage.names(folder) if PurePosixPath(name).stem == place.stem]
        return [f"{folder}/{name}" if folder else name for name in names]
    return []


def _read(storage: Storage, path: str) -> bytes | None:
    with contextlib.suppress(ResultsError, OSError):
        if storage.size(path) <= MOST_READ_BYTES:
            return storage.read(path)
    return None


def _attachment(storage: Storage, path: str) -> Attachment | None:
    place = PurePosixPath(path)
    ending = place.suffix.lower()
    if ending in _TEXTS:
        return None  # its figures stand in the tables
    data = _read(storage, path)
    if not data:
        return None
    if ending in _SOUNDS:
        return Attachment(kind="sound", name=place.name, data=_address(_SOUNDS[ending], data))
    if ending in _PICTURES:
        data = re.sub(rb"\n\s+", b"\n", data) if ending == ".svg" else data
        return Attachment(kind="picture", name=place.name, data=_address(_PICTURES[ending], data))
    return Attachment(kind="download", name=place.name, data=_address("application/octet-stream", data))


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _waves(files: dict[str, bytes]) -> dict[str, Attachment]:
    """Returns WAV files in one channel of µ-law, at the highest rate at which all of them fit into the page."""
    sounds = {}
    for name, data in files.items():
        with contextlib.suppress(wave.Error, EOFError, ValueError):
            sounds[name] = _samples(data)
    seconds = sum(len(samples) / rate for samples, rate in sounds.values())
    while sounds and seconds * RATES[-1] * 4 / 3 > SOUND_BYTES:
        samples, rate = sounds.popitem()[1]
        seconds -= len(samples) / rate
    rate = next((r for r in RATES if seconds * r * 4 / 3 <= SOUND_BYTES), RATES[-1])
    return {
        name: Attachment(
            kind="sound",
            name=PurePosixPath(name).name,
            data=_address("audio/wav", mulaw_file(resampled(samples, own, min(rate, own)), min(rate, own))),
        )
        for name, (samples, own) in sounds.items()
    }


def _samples(data: bytes) -> tuple[np.ndarray, int]:
    """Returns the samples of a WAV file, `[N]` in -1 to 1, all channels in one, and how many there are a second."""
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
    """Returns sound at a lower rate, without the tones that this rate cannot hold."""
    if to >= rate:
        return samples
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(rate, to)
    return np.asarray(resample_poly(samples, to // common, rate // common))


def mulaw_file(samples: np.ndarray, rate: int) -> bytes:
    """Returns sound as a WAV file of µ-law samples (ITU-T G.711), which browsers play.

    Args:
        samples: `[N]`, -1 to 1; what is beyond is cut.
        rate: samples a second.
    """
    bias, top = 132, 32635
    level = np.minimum(np.abs(np.nan_to_num(samples)) * 32767, top).astype(np.int32) + bias
    exponent = np.maximum(np.floor(np.log2(level)).astype(np.int32) - 7, 0)
    mantissa = (level >> (exponent + 3)) & 15
    sign = np.where(samples < 0, 0x80, 0)
    body = (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8).tobytes()
    head = struct.pack("<HHIIHHH", MULAW, 1, rate, rate, 1, 8, 0)
    facts = struct.pack("<I", len(body))
    padded = body + b"\xff" * (len(body) % 2)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"fact" + struct.pack("<I", 4) + facts
    chunks += b"data" + struct.pack("<I", len(body)) + padded
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
