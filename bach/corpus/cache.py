"""Where fetched and rebuilt chorales are kept, and how they get there whole.

A file in the cache appears under its name only when it is complete. Two processes may therefore build the same file at
once; the later one wins and both are right.
"""

import hashlib
import io
import logging
import os
from pathlib import Path

import numpy as np
import platformdirs

from bach.corpus.dataset import Chorale, Dataset
from bach.errors import DataError
from bach.formats.files import write_whole
from bach.notes import SPLITS, Split

CACHE_VARIABLE = "BACH_CACHE"

_SEAL_BYTES = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)


def cache_folder(given: Path | None = None) -> Path:
    """Returns `given`, else the folder named in the environment by `BACH_CACHE`, else the user's cache folder."""
    if given is not None:
        return Path(given)
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_cache_dir("bach"))


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Keeps `dataset` in the file `path` (NumPy's npz, no pickle, and a checksum behind it), whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    chorales = dataset.chorales()
    data = io.BytesIO()
    np.savez_compressed(
        data,
        fingerprint=np.array(dataset.fingerprint),
        pitches=np.concatenate([chorale.pitches for chorale in chorales]).astype(np.int8),  # 0..81 fits
        lengths=np.array([len(chorale.pitches) for chorale in chorales], np.int32),
        counts=np.array([len(dataset.splits[split]) for split in SPLITS], np.int32),
        ids=np.array([chorale.id for chorale in chorales]),
        titles=np.array([chorale.title for chorale in chorales]),
    )
    write_whole(path, sealed(data.getvalue()))


def sealed(data: bytes) -> bytes:
    """Returns `data` with its SHA-256 (32 bytes) behind it."""
    return data + hashlib.sha256(data).digest()


def read_dataset(path: Path, *, name: str) -> Dataset | None:
    """Returns the dataset kept in `path`; `None` if there is none, or if it is damaged, which is logged."""
    try:
        kept = path.read_bytes()
        data = kept[:-_SEAL_BYTES]
        if kept != sealed(data):
            raise ValueError("its contents do not have the checksum behind them")
        return _unpacked(data, name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, StopIteration, DataError) as error:
        logger.warning("%s is damaged and is built again: %s", path, error)
        return None


def _unpacked(data: bytes, name: str) -> Dataset:
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        arrays = {key: kept[key] for key in ("fingerprint", "pitches", "lengths", "counts", "ids", "titles")}
    pieces = np.split(arrays["pitches"], np.cumsum(arrays["lengths"])[:-1])
    chorales = iter(
        Chorale(id=str(identifier), title=str(title), pitches=pitches)
        for identifier, title, pitches in zip(arrays["ids"], arrays["titles"], pieces, strict=True)
    )
    splits: dict[Split, list[Chorale]] = {
        split: [next(chorales) for _ in range(int(count))]
        for split, count in zip(SPLITS, arrays["counts"], strict=True)
    }
    dataset = Dataset.of(name, splits)
    if dataset.fingerprint != str(arrays["fingerprint"]):
        raise ValueError("its contents do not have the fingerprint that is written beside them")
    return dataset
