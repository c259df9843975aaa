"""Files of samples inside the page: sound, pictures, small downloads, each made small enough.

Nothing here knows what a sample is of. Files that share a name up to the ending belong together, and an ending says how
a file is shown. Pictures are shown as images, in which a browser runs no script and loads nothing from outside. The
page has so much room for each sort of file; who comes first in the list is served first.
"""

import base64
import contextlib
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from results.errors import ResultsError
from results.report import sounds
from results.storage import Storage

ROOM: Mapping[str, int] = {"sound": 5_200_000, "picture": 2_600_000, "download": 600_000}
"""Bytes of a page for all files of a sort together, as they stand in the page."""
MOST_READ_BYTES = 64_000_000
"""A larger file is not even looked at."""
MOST_COLOURS = 4096
"""A picture with more is a photograph; one with fewer was drawn, and `COLOURS` do for it."""
COLOURS = 64

_SOUNDS = {".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".flac": "audio/flac", ".m4a": "audio/mp4"}
_PICTURES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_TEXTS = (".json", ".txt", ".md")

Place = tuple[Storage, str]
"""A sweep's folder, and the path of a sample below it."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file in the page.

    Attributes:
        kind: `sound`, `picture` or `download`.
        name: of the file.
        type: its media type.
        data: its content in base64.
        packed: whether the content is compressed by gzip; the page's script then unpacks it.
    """

    kind: str
    name: str
    type: str
    data: str
    packed: bool = False

    @property
    def address(self) -> str:
        """The content as a `data:` address; only if it is not packed."""
        return f"data:{self.type};base64,{self.data}"


@dataclass(frozen=True, kw_only=True)
class Attached:
    """The files of one sample.

    Attributes:
        files: those in the page.
        left_out: paths below the sweep's folder of those that found no room in it.
    """

    files: tuple[Attachment, ...] = ()
    left_out: tuple[str, ...] = ()


def attach(places: Sequence[Place]) -> list[Attached]:
    """Returns for each sample the files beside its path that have its name, whatever their ending.

    Args:
        places: of samples, such as `bundle/samples/cold.mid` below a sweep's folder, those first that most need room. A
            path outside of the folder has no files.
    """
    listed = _Listing()
    beside = [listed.beside(*place) for place in places]
    everything = {(storage.uri, name): storage for (storage, _), names in zip(places, beside, strict=True)
                  for name in names}  # fmt: skip
    waves = [key for key in everything if key[1].lower().endswith(".wav")]
    read = ((key, _read(everything[key], key[1])) for key in waves)
    made: dict[tuple[str, str], Attachment] = {
        key: _attachment("sound", key[1], "audio/mpeg", data)
        for key, data in sounds.mp3s(read, ROOM["sound"] * 3 // 4).items()
    }
    left = dict(ROOM)
    left["sound"] -= sum(len(each.data) for each in made.values())
    for key in (key for key in everything if key not in waves):
        found = _file(everything[key], key[1])
        if found is not None and len(found.data) <= left[found.kind]:
            made[key] = found
            left[found.kind] -= len(found.data)
    return [
        Attached(
            files=tuple(made[storage.uri, name] for name in names if (storage.uri, name) in made),
            left_out=tuple(n for n in names if (storage.uri, n) not in made and not n.lower().endswith(_TEXTS)),
        )
        for (storage, _), names in zip(places, beside, strict=True)
    ]


class _Listing:
    """What lies in the folders of samples, each listed once."""

    def __init__(self):
        self._names: dict[tuple[str, str], list[str]] = {}

    def beside(self, storage: Storage, path: str) -> list[str]:
        """Returns the paths that have a path's name, whatever their ending."""
        place = PurePosixPath(path)
        if not path or place.is_absolute() or ".." in place.parts:
            return []
        folder = "" if str(place.parent) == "." else str(place.parent)
        if (storage.uri, folder) not in self._names:
            self._names[storage.uri, folder] = []
            with contextlib.suppress(ResultsError, FileNotFoundError, NotADirectoryError):
                self._names[storage.uri, folder] = list(storage.names(folder))
        names = [name for name in self._names[storage.uri, folder] if PurePosixPath(name).stem == place.stem]
        return [f"{folder}/{name}" if folder else name for name in names]


def _read(storage: Storage, path: str) -> bytes | None:
    with contextlib.suppress(ResultsError, OSError):
        if storage.size(path) <= MOST_READ_BYTES:
            return storage.read(path)
    return None


def _file(storage: Storage, path: str) -> Attachment | None:
    ending = PurePosixPath(path).suffix.lower()
    if ending in _TEXTS:
        return None  # its figures stand in the tables
    data = _read(storage, path)
    if not data:
        return None
    if ending in _SOUNDS:
        return _attachment("sound", path, _SOUNDS[ending], data)
    if ending in _PICTURES:
        return _attachment("picture", path, _PICTURES[ending], _fewer_colours(data) if ending == ".png" else data)
    return _attachment("download", path, "application/octet-stream", data)


def _attachment(kind: str, path: str, media: str, data: bytes) -> Attachment:
    # What is compressed already is not unpacked by the script, and is there without one.
    packed = gzip.compress(data, 9, mtime=0) if media in ("image/svg+xml", "application/octet-stream") else data
    return Attachment(
        kind=kind,
        name=PurePosixPath(path).name,
        type=media,
        data=base64.b64encode(packed).decode(),
        packed=packed is not data,
    )


def _fewer_colours(data: bytes) -> bytes:
    """Returns a drawn PNG with a palette, if that makes it smaller; anything else as it is."""
    from PIL import Image, UnidentifiedImageError

    with contextlib.suppress(UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        picture = Image.open(io.BytesIO(data)).convert("RGBA")
        if picture.getchannel("A").getextrema() == (255, 255) and picture.getcolors(MOST_COLOURS):
            out = io.BytesIO()
            picture.convert("RGB").quantize(COLOURS).save(out, "PNG", optimize=True)
            return min(out.getvalue(), data, key=len)
    return data


def kinds(attached: Attached) -> dict[str, list[Attachment]]:
    """Returns the files of a sample by kind; pictures that need no unpacking come first."""
    found: dict[str, list[Attachment]] = {"sound": [], "picture": [], "download": []}
    for each in attached.files:
        found[each.kind].append(each)
    found["picture"].sort(key=lambda each: each.packed)
    return found
