"""A folder of the user's own chorales: CSV, MIDI or MusicXML files, split by folders or by a rule."""

import hashlib
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from bach.corpus.archive import chorale_id
from bach.corpus.dataset import Chorale, Dataset, checked_pitches
from bach.corpus.progress import Progress
from bach.errors import DataError, FormatError, SettingError
from bach.formats import read_pitches
from bach.formats.reading import READABLE
from bach.notes import SPLITS, Pitches, Split

DEFAULT_SHARES = (0.6, 0.2, 0.2)
"""Shares of train, valid and test where a folder has no split folders; the canonical split's are nearly these."""


def load_folder(folder: Path, *, shares: Sequence[float] = DEFAULT_SHARES, progress: Progress | None = None) -> Dataset:
    """Returns the chorales in a folder.

    With folders `train`, `valid` and `test` (in it, or in the one folder in it), these are the splits. Otherwise all
    files below it are split by `split_by_name`. Hidden files, files of other
    kinds and links to folders are left alone.

    Args:
        folder: Holds files that `bach.formats.read_pitches` reads.
        shares: For `split_by_name`.
        progress: Told the files that are done.

    Raises:
        DataError: the folder cannot be read, a split is missing or empty, or a file is not a chorale; the message names
            the file and what is wrong in it.
        SettingError: the shares are impossible.
    """
    splits = _split_folders(folder)
    if splits:
        found: dict[Split, list[Path]] = {split: _music_files(splits[split]) for split in SPLITS}
    else:
        files = _music_files(folder)
        if not files:
            raise DataError(f"{folder}: no chorales in it; expected folders {', '.join(SPLITS)}, or files {_kinds()}")
        found = split_by_name(files, folder, shares)
    total = sum(len(files) for files in found.values())
    chorales: dict[Split, list[Chorale]] = {split: [] for split in SPLITS}
    done = 0
    for split, files in found.items():
        base = splits[split] if splits else folder
        if not files:
            raise DataError(f"{base}: split {split!r} is empty; expected files {_kinds()} in it")
        for path in files:
            stem = path.relative_to(base).with_suffix("").as_posix()
            chorales[split].append(Chorale(id=chorale_id(split, stem), pitches=_read(path)))
            done += 1
            if progress:
                progress("read", done, total)
    return Dataset.of(folder.resolve().name or "folder", chorales)


def split_by_name(
    files: Sequence[Path], folder: Path, shares: Sequence[float] = DEFAULT_SHARES
) -> dict[Split, list[Path]]:
    """Returns the files of each split: sorted by the SHA-256 of their names below `folder`, then cut by `shares`.

    The same names always give the same split, on any machine and in any order. Each split gets at least one file.

    Args:
        files: All files.
        folder: Where they lie.
        shares: How much of them train, valid and test get; positive, sum 1.

    Raises:
        DataError: fewer than three files.
        SettingError: the shares are impossible.
    """
    if len(shares) != len(SPLITS) or not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1.0):
        raise SettingError(
            f"split shares are three positive numbers of sum 1 for {', '.join(SPLITS)}; got {list(shares)}"
        )
    if len(files) < len(SPLITS):
        raise DataError(f"{folder}: {len(files)} chorales, expected at least {len(SPLITS)}, one for each split")
    by_hash = sorted(files, key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest())
    first = min(max(round(len(files) * shares[0]), 1), len(files) - 2)
    second = min(max(round(len(files) * (shares[0] + shares[1])), first + 1), len(files) - 1)
    parts = (by_hash[:first], by_hash[first:second], by_hash[second:])
    found: dict[Split, list[Path]] = {}
    for split, part in zip(SPLITS, parts, strict=True):
        found[split] = sorted(part, key=_natural)
    return found


def _kinds() -> str:
    return " ".join(f"*{suffix}" for suffix in READABLE)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts `2.csv` before `10.csv`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path.as_posix())]


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(
            (Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")), key=_natural
        )
    except OSError as error:
        raise DataError(
            f"{folder}: cannot read the folder ({error.strerror or error}); check its name and permissions"
        ) from error


def _split_folders(folder: Path) -> dict[Split, Path] | None:
    entries = _listing(folder)
    names = {entry.name for entry in entries}
    if not names & set(SPLITS):
        if len(entries) == 1 and entries[0].is_dir():
            return _split_folders(entries[0])
        return None
    if missing := [split for split in SPLITS if split not in names]:
        raise DataError(
            f"{folder}: no folder {' or '.join(missing)}; got {', '.join(sorted(names))[:200]}, "
            f"expected {', '.join(SPLITS)}, or none of them, so that the files are split by their names"
        )
    folders: dict[Split, Path] = {split: folder / split for split in SPLITS}
    return folders


def _music_files(folder: Path) -> list[Path]:
    files: list[Path] = []
    for entry in _listing(folder):
        if entry.is_dir() and not entry.is_symlink():  # a link may lead back up
            files += _music_files(entry)
        elif entry.suffix.lower() in READABLE:
            files.append(entry)
    return files


def _read(path: Path) -> Pitches:
    try:
        pitches = read_pitches(path)
    except FormatError as error:
        raise DataError(str(error)) from error
    return checked_pitches(pitches, where=str(path))
