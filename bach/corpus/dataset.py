"""What a corpus is: chorales with names, in three splits, under one fingerprint."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bach.errors import DataError
from bach.notes import MAX_PITCH, MIN_PITCH, NUM_VOICES, SILENCE, SPLITS, VOICES, Pitches, Split

JSB_FINGERPRINT = "19c9ec312fde484f1b3175f3e5f904c58b06c5f8685dc728b0b7cfde8b8860fe"
"""`Dataset.fingerprint` of the canonical chorales, in whatever wrapping they were given."""
MUSIC21_FINGERPRINT = "cac47866f90d96b09c3673b982752b6ea6bd582382d38511723dca2463af5f61"
"""`Dataset.fingerprint` of the chorales rebuilt from music21's corpus by `bach/data/music21_manifest.csv`."""

EXPECTED_COUNTS: Mapping[str, Mapping[Split, int]] = {
    "jsb": {"train": 229, "valid": 76, "test": 77},
    "music21": {"train": 225, "valid": 73, "test": 77},
}
"""How many chorales the named sources have in each split."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chorale:
    """One chorale and what it is called.

    Attributes:
        id: Unique in its dataset: the split, a slash, and the piece's number or file stem, as in `train/003`.
        title: What people call it, as in `bwv360`; may be empty.
        pitches: `[T, 4]` int16, soprano to bass; each cell `SILENCE` or `MIN_PITCH..MAX_PITCH`. A read-only copy of
            what was given.

    Raises:
        DataError: `pitches` is not that; the message names the piece, the step and the voice (counted from 0).
    """

    id: str
    title: str = ""
    pitches: Pitches

    def __post_init__(self) -> None:
        pitches = checked_pitches(self.pitches, where=self.id)
        pitches.flags.writeable = False
        object.__setattr__(self, "pitches", pitches)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A corpus of chorales.

    Attributes:
        name: `jsb` and `music21` for exactly those data; the folder's name otherwise. Scores carry it.
        fingerprint: SHA-256 (64 hex digits) of the splits and pitches, see `fingerprint`.
        splits: The chorales of `train`, `valid` and `test`, each in a fixed order.
    """

    name: str
    fingerprint: str
    splits: Mapping[Split, tuple[Chorale, ...]]

    @classmethod
    def of(cls, name: str, splits: Mapping[Split, Iterable[Chorale]]) -> "Dataset":
        """Returns the dataset of these chorales with its fingerprint.

        Args:
            name: What to call it. The contents of a named source get its name, whatever this is; others that ask for
                such a name get `-other` behind it.
            splits: The chorales of each split.

        Raises:
            DataError: a split is missing or has no chorale, or two chorales have the same id.
        """
        pieces: dict[Split, tuple[Chorale, ...]] = {split: tuple(splits.get(split, ())) for split in SPLITS}
        for split in SPLITS:
            if not pieces[split]:
                raise DataError(
                    f"{name}: split {split!r} has no chorales; each of {', '.join(SPLITS)} needs at least one"
                )
        seen: set[str] = set()
        for chorale in (chorale for split in SPLITS for chorale in pieces[split]):
            if chorale.id in seen:
                raise DataError(f"{name}: two chorales are called {chorale.id!r}; rename the file of one of them")
            seen.add(chorale.id)
        digest = fingerprint(pieces)
        known = {JSB_FINGERPRINT: "jsb", MUSIC21_FINGERPRINT: "music21"}
        if digest not in known and name in EXPECTED_COUNTS:
            name = f"{name}-other"
        return cls(name=known.get(digest, name), fingerprint=digest, splits=pieces)

    def learnt_from(self, splits: Iterable[Split]) -> "Dataset":
        """Returns the dataset as it is for a model that was trained on these splits: train holds them all.

        Ids in train then begin with `train/` whatever split they are of; name, fingerprint and the other splits stay.
        """
        wanted = set(splits) - {"train"}
        heard = [
            replace(chorale, id=f"train/{chorale.id.replace('/', '-')}")
            for split, chorales in self.splits.items()
            if split in wanted
            for chorale in chorales
        ]
        return replace(self, splits={**self.splits, "train": (*self.splits["train"], *heard)})

    def chorales(self) -> tuple[Chorale, ...]:
        """Returns all chorales: train, valid, test."""
        return tuple(chorale for split in SPLITS for chorale in self.splits[split])


def fingerprint(splits: Mapping[Split, Iterable[Chorale]]) -> str:
    """Returns the SHA-256 (hex) of what the chorales are: which split, which order, how long, which pitches.

    Ids, titles and file formats do not count: the same music in the same order has the same fingerprint, as an archive,
    as a folder of CSV files or as arrays.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        chorales = tuple(splits[split])
        digest.update(f"{split} {len(chorales)}\n".encode())
        for chorale in chorales:
            digest.update(f"{len(chorale.pitches)}\n".encode())
            digest.update(np.ascontiguousarray(chorale.pitches, "<i2").tobytes())
    return digest.hexdigest()


def checked_pitches(pitches: Pitches, *, where: str) -> Pitches:
    """Returns a new `[T, 4]` int16 array of the same pitches.

    Args:
        pitches: Numbers of any kind, with at least one step.
        where: The file or piece, for messages.

    Raises:
        DataError: not `[T, 4]`, no step, or a cell that is no whole number, NaN, or neither silence nor in the range.
    """
    given = np.asarray(pitches)
    if given.ndim != 2 or given.shape[1] != NUM_VOICES:
        raise DataError(
            f"{where}: got an array of shape {list(given.shape)}, expected [steps, {NUM_VOICES}], "
            f"one column each for {', '.join(VOICES)}"
        )
    if not len(given):
        raise DataError(f"{where}: no steps; a chorale needs at least one")
    if not np.issubdtype(given.dtype, np.number) or np.iscomplexobj(given):
        raise DataError(f"{where}: got cells of type {given.dtype}, expected whole numbers")
    wrong = ~((given == SILENCE) | ((given >= MIN_PITCH) & (given <= MAX_PITCH)))
    if np.issubdtype(given.dtype, np.floating):
        wrong |= ~np.isfinite(given)
        wrong |= ~wrong & (given != np.round(np.where(wrong, 0, given)))
    if wrong.any():
        step, voice = np.argwhere(wrong)[0]
        raise DataError(
            f"{where}, step {step}, {VOICES[voice]}: got {given[step, voice]:g}, expected a MIDI pitch "
            f"{MIN_PITCH}..{MAX_PITCH} as a whole number, or {SILENCE} for silence; correct it, or transpose the piece"
        )
    return given.astype(np.int16, order="C")
