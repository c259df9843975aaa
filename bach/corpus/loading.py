"""From the name of a source, or a path, to a dataset."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bach.corpus.archive import archive_chorales, fetch_jsb, read_archive_file
from bach.corpus.cache import cache_folder, read_dataset, write_dataset
from bach.corpus.dataset import MUSIC21_FINGERPRINT, Dataset
from bach.corpus.folders import DEFAULT_SHARES, load_folder
from bach.corpus.music21_scores import REBUILD_VERSION, manifest_bytes, read_manifest, rebuild
from bach.corpus.progress import Progress
from bach.errors import DataError, OutputError, did_you_mean

SOURCES = ("music21", "jsb")
"""The sources that have a name."""

logger = logging.getLogger(__name__)


def load(
    source: str | Path = "music21",
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    shares: Sequence[float] = DEFAULT_SHARES,
) -> Dataset:
    """Returns the chorales of a source.

    Args:
        source: `music21` or `jsb`; or the path of the canonical archive, or of a folder (`./jsb` if it is called as a
            source is). See `bach.corpus.folders.load_folder` for what a folder may hold.
        cache: The folder for fetched and rebuilt chorales; `None` as in `cache_folder`.
        progress: Told how far a download, a rebuild or a reading has come.
        shares: Of train, valid and test, for a folder without split folders.

    Raises:
        DataError: the source is unknown or cannot be reached, or what is there is not chorales; the message names file,
            line and cell.
        SettingError: the shares are impossible.
    """
    if source == "music21":
        return _load_music21(cache, progress)
    if source == "jsb":
        return _load_archive(fetch_jsb(cache=cache, progress=progress))
    path = Path(source)
    try:
        if path.is_dir():
            return _titled(load_folder(path, shares=shares, progress=progress))
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: cannot read it ({getattr(error, 'strerror', None) or error})") from error
    if not exists:
        raise DataError(f"{str(source)!r} is neither a source nor an existing path{did_you_mean(str(source), SOURCES)}")
    if not path.is_file():
        raise DataError(f"{path}: neither a file nor a folder")
    if path.suffix.lower() not in (".tgz", ".gz", ".tar"):
        raise DataError(f"{path}: a single file; expected a folder of chorales or the canonical archive (.tgz)")
    return _load_archive(path)


def _load_archive(path: Path) -> Dataset:
    splits = archive_chorales(read_archive_file(path), where=str(path))
    return _titled(Dataset.of("jsb", splits))


def _load_music21(cache: Path | None, progress: Progress | None) -> Dataset:
    key = hashlib.sha256(manifest_bytes() + f"{REBUILD_VERSION} {MUSIC21_FINGERPRINT}".encode()).hexdigest()[:16]
    path = cache_folder(cache) / f"music21-{key}.npz"
    dataset = read_dataset(path, name="music21")
    if dataset is not None and dataset.fingerprint == MUSIC21_FINGERPRINT:
        return dataset
    dataset = rebuild(progress=progress)
    try:
        write_dataset(path, dataset)
    except OutputError as error:
        logger.warning("the rebuilt chorales are not cached and will be rebuilt each time: %s", error)
    return dataset


def _titled(dataset: Dataset) -> Dataset:
    """Adds the titles that the manifest knows, if these are the canonical chorales."""
    if dataset.name != "jsb":
        return dataset
    titles = iter([recipe.title for recipe in sorted(read_manifest(), key=lambda recipe: recipe.index)])
    return replace(
        dataset,
        splits={
            split: tuple(replace(chorale, title=next(titles)) for chorale in chorales)
            for split, chorales in dataset.splits.items()
        },
    )
