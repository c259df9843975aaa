"""Where chorales come from.

`load` returns a `Dataset` from a named source or from a folder:

- `music21`, the default: rebuilt from the scores in the installed package music21, then cached.
- `jsb`: the canonical chorales, from the cache or downloaded with their SHA-256 checked.
- a path: the canonical archive, or a folder of CSV, MIDI or MusicXML files.

`docs/data.md` has the facts about these data.
"""

from bach.corpus.archive import JSB_SHA256, JSB_URL, fetch_jsb
from bach.corpus.cache import cache_folder
from bach.corpus.dataset import EXPECTED_COUNTS, JSB_FINGERPRINT, MUSIC21_FINGERPRINT, Chorale, Dataset, fingerprint
from bach.corpus.folders import DEFAULT_SHARES
from bach.corpus.loading import SOURCES, load
from bach.corpus.progress import Progress

__all__ = [
    "DEFAULT_SHARES",
    "EXPECTED_COUNTS",
    "JSB_FINGERPRINT",
    "JSB_SHA256",
    "JSB_URL",
    "MUSIC21_FINGERPRINT",
    "SOURCES",
    "Chorale",
    "Dataset",
    "Progress",
    "cache_folder",
    "fetch_jsb",
    "fingerprint",
    "load",
]
