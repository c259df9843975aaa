"""The chorales rebuilt from the scores that the Python package music21 carries.

Those scores may be used but not passed on, so no pitches are shipped: `bach/data/music21_manifest.csv` is a table of
facts that says which score each canonical chorale is and how to cut it, and this module follows it on the user's
machine. The scores are read as XML directly; music21 itself is only located, not imported.
"""

import csv
import hashlib
import importlib.util
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from io import BytesIO, StringIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from bach.corpus.dataset import Chorale, Dataset
from bach.corpus.progress import Progress
from bach.errors import DataError
from bach.notes import SILENCE, SPLITS, STEPS_PER_QUARTER, Pitches, Split

REBUILD_VERSION = 1
"""Part of the name of the cached file: to be raised when this module makes other pitches from the same manifest."""

_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_USABLE = ("exact", "near", "edited")
_NO_PACKAGE = "install it (`pip install 'music21>=9.1,<11'`), or use the canonical chorales (`--data jsb`)"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row of the manifest: where a canonical chorale comes from and how it is cut.

    Attributes:
        index: The chorale's number in the canonical file, 0..381.
        split: Its split there.
        path: The score below music21's corpus folder; empty if music21 has none.
        parts: Which parts of the score (counted from 0) are soprano, alto, tenor and bass.
        transposition: Semitones from the score to the canonical chorale.
        rests: `none`: rests stay silent. `all`: steps in which all four parts rest repeat the step before. `voice`:
            each part that rests repeats its own note before. Done before cutting.
        segments: The spans of steps `[start, stop)` of the score, in the order in which they are played.
        end_hold: For how many steps the last step is held on.
        length: Steps of the canonical chorale.
        cell_share: Share of cells in which the rebuilt chorale equals the canonical one; `None` if there is none.
        step_share: The same for whole steps.
        status: `exact`, `near` (a few cells differ) or `edited` (more do); `missing` from music21; `corrupt` in the
            canonical file.
        sha256_16: The first 16 hex digits of the score file's SHA-256.
    """

    index: int
    split: Split
    path: str
    parts: tuple[int, ...]
    transposition: int
    rests: str
    segments: tuple[tuple[int, int], ...]
    end_hold: int
    length: int
    cell_share: float | None
    step_share: float | None
    status: str
    sha256_16: str

    @property
    def usable(self) -> bool:
        """Whether the chorale can be rebuilt."""
        return self.status in _USABLE

    @property
    def title(self) -> str:
        """The name of the score, as in `bwv360`; empty if music21 has none."""
        return self.path.rpartition("/")[2].rpartition(".")[0]


def manifest_bytes() -> bytes:
    """Returns the table of facts that ships with the package."""
    return (files("bach") / "data" / "music21_manifest.csv").read_bytes()


def read_manifest(data: bytes | None = None) -> list[Recipe]:
    """Returns the rows of the manifest, one for each of the 382 canonical chorales.

    Args:
        data: The table; `None` reads the one in the package.
    """
    text = (manifest_bytes() if data is None else data).decode()
    return [_recipe(row) for row in csv.DictReader(StringIO(text))]


def _recipe(row: dict[str, str]) -> Recipe:
    splits: dict[str, Split] = {split: split for split in SPLITS}
    spans = (span.split("-") for span in row["segments"].split(";") if span)
    return Recipe(
        index=int(row["jsb_index"]),
        split=splits[row["split"]],
        path=row["corpus_path"],
        parts=tuple(int(part) for part in row["parts"].split("-") if part),
        transposition=int(row["transposition"] or 0),
        rests=row["rests"],
        segments=tuple((int(start), int(stop)) for start, stop in spans),
        end_hold=int(row["end_hold"] or 0),
        length=int(row["jsb_len"]),
        cell_share=float(row["cell_frac"]) if row["cell_frac"] else None,
        step_share=float(row["match_frac"]) if row["match_frac"] else None,
        status=row["status"],
        sha256_16=row["sha256_16"],
    )


def corpus_folder() -> Path:
    """Returns the folder of scores in the installed package music21, without importing it.

    Raises:
        DataError: music21 is not installed, or was installed without its corpus.
    """
    package = importlib.util.find_spec("music21")
    if package is None or not package.submodule_search_locations:
        raise DataError(
            f"the package music21, from which the default chorales are rebuilt, is not installed; {_NO_PACKAGE}"
        )
    folder = Path(package.submodule_search_locations[0]) / "corpus"
    if not (folder / "bach").is_dir():
        raise DataError(f"{folder}: music21 is installed without its corpus of scores; {_NO_PACKAGE}")
    return folder


def rebuild(
    folder: Path | None = None, recipes: Sequence[Recipe] | None = None, *, progress: Progress | None = None
) -> Dataset:
    """Returns the chorales that the recipes describe; takes some seconds for all.

    Args:
        folder: Holds the scores at the recipes' paths; `None` is music21's.
        recipes: What to rebuild; `None` is the manifest. Those that are not `usable` are left out.
        progress: Told the scores that are done.

    Raises:
        DataError: music21 is not installed, or scores are missing or not those the recipes were made for; all are
            named.
    """
    folder = corpus_folder() if folder is None else folder
    recipes = [recipe for recipe in (read_manifest() if recipes is None else recipes) if recipe.usable]
    scores = _read_checked(folder, recipes)
    splits: dict[Split, list[Chorale]] = {split: [] for split in SPLITS}
    for done, recipe in enumerate(recipes, 1):
        pitches = cut(score_parts(scores[recipe.path], where=recipe.path), recipe)
        splits[recipe.split].append(
            Chorale(id=f"{recipe.split}/{recipe.index:03}", title=recipe.title, pitches=pitches)
        )
        if progress:
            progress("rebuild", done, len(recipes))
    return Dataset.of("music21", splits)


def _read_checked(folder: Path, recipes: Sequence[Recipe]) -> dict[str, bytes]:
    scores: dict[str, bytes] = {}
    wrong: list[str] = []
    expected = {recipe.path: recipe.sha256_16 for recipe in recipes}
    for path, sha256_16 in sorted(expected.items()):
        try:
            scores[path] = (folder / path).read_bytes()
        except OSError as error:
            wrong.append(f"{path} cannot be read ({error.strerror or error})")
            continue
        found = hashlib.sha256(scores[path]).hexdigest()[:16]
        if found != sha256_16:
            wrong.append(f"{path} has SHA-256 {found}…, expected {sha256_16}…")
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise DataError(
            f"{folder}: {len(wrong)} of {len(expected)} scores are not those that the chorales are cut from "
            f"(music21 9.1 to 10.5): {'; '.join(wrong[:8])}{more}; {_NO_PACKAGE}"
        )
    return scores


def score_parts(data: bytes, *, where: str) -> list[Pitches]:
    """Returns the parts of a MusicXML score (plain or compressed), each `[T]` MIDI pitches by sixteenth steps.

    Reads what these scores contain: one voice a part. A step has the note that sounds when it begins; grace notes are
    skipped, rests and gaps are silence, upbeats are not padded, repeats are not played. Parts may differ in length.

    Raises:
        DataError: not such a score.
    """
    try:
        root = ElementTree.fromstring(_unpacked(data) if data[:2] == b"PK" else data)
        return [_part_steps(part) for part in root.iterfind("part")]
    except (ElementTree.ParseError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{where}: not a MusicXML score of one voice a part ({error})") from error


def _unpacked(data: bytes) -> bytes:
    with zipfile.ZipFile(BytesIO(data)) as package:
        for element in ElementTree.fromstring(package.read("META-INF/container.xml")).iter():
            if element.tag.rpartition("}")[2] == "rootfile":
                return package.read(element.attrib["full-path"])
    raise ValueError("its container names no score")


def _part_steps(part: ElementTree.Element) -> Pitches:
    steps_per_division = Fraction(0)
    now = Fraction(0)  # in steps
    notes: list[tuple[int, int, int]] = []  # first step, step after the last, pitch
    for element in part.iterfind("measure/*"):
        if element.tag == "attributes":
            if divisions := element.findtext("divisions"):
                steps_per_division = Fraction(STEPS_PER_QUARTER, int(divisions))
        elif element.tag == "backup" or (element.tag == "note" and element.find("chord") is not None):
            raise ValueError("two notes of a part sound together")
        elif element.tag in ("note", "forward") and element.find("grace") is None:
            end = now + int(element.findtext("duration", "")) * steps_per_division
            if (pitch := element.find("pitch")) is not None:
                notes.append((math.ceil(now), math.ceil(end), _midi_pitch(pitch)))
            now = end
    steps = np.full(math.ceil(now), SILENCE, np.int16)
    for first, after, pitch in notes:
        steps[first:after] = pitch
    return steps


def _midi_pitch(pitch: ElementTree.Element) -> int:
    semitone = _SEMITONES[pitch.findtext("step", "")] + int(pitch.findtext("alter", "0"))
    return 12 * (int(pitch.findtext("octave", "")) + 1) + semitone


def cut(parts: Sequence[Pitches], recipe: Recipe) -> Pitches:
    """Returns the chorale `[T, 4]` that the recipe makes of the parts of its score.

    Raises:
        DataError: the score has not the parts or steps that the recipe asks for.
    """
    if max(recipe.parts) >= len(parts):
        raise DataError(f"{recipe.path}: got {len(parts)} parts, expected part {max(recipe.parts)} (counted from 0)")
    chosen = [parts[part] for part in recipe.parts]
    grid = np.full((max(len(part) for part in chosen), len(chosen)), SILENCE, np.int16)
    for voice, part in enumerate(chosen):
        grid[: len(part), voice] = part
    grid[grid != SILENCE] += recipe.transposition
    grid = fill_rests(grid, recipe.rests)
    pitches = np.concatenate([grid[start:stop] for start, stop in recipe.segments])
    pitches = np.concatenate([pitches, np.repeat(pitches[-1:], recipe.end_hold, axis=0)])
    if len(pitches) != recipe.length:
        raise DataError(f"{recipe.path}: cut to {len(pitches)} steps, expected {recipe.length}")
    return pitches


def fill_rests(grid: Pitches, rests: str) -> Pitches:
    """Returns `grid` `[T, 4]` with rests filled as `Recipe.rests` says; rests before the first note stay."""
    if rests == "none":
        return grid
    silent = grid == SILENCE
    if rests == "all":
        silent = np.repeat(silent.all(axis=1, keepdims=True), grid.shape[1], axis=1)
    source = np.maximum.accumulate(np.where(silent, 0, np.arange(len(grid))[:, None]), axis=0)
    return np.take_along_axis(grid, source, axis=0)
