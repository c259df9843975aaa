"""What there is to know about a corpus before anything is trained on it: counts, ranges, leaks, faults, pictures."""

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bach.corpus import EXPECTED_COUNTS, Chorale, Dataset
from bach.duplicates import NearDuplicate, SopranosSeen, near_duplicates, seen_in_train, sopranos_seen
from bach.formats.files import write_whole
from bach.notes import MAX_PITCH, MIN_PITCH, NUM_VOICES, SILENCE, SPLITS, STEPS_PER_BAR, VOICES

__all__ = [
    "Description",
    "Finding",
    "NearDuplicate",
    "SopranosSeen",
    "SplitDescription",
    "VoiceDescription",
    "check",
    "describe",
    "near_duplicates",
    "plot",
    "seen_in_train",
    "sopranos_seen",
]

SHORTEST_CHORALE = STEPS_PER_BAR
"""Pieces of fewer steps (a bar of 4/4) are reported by `check`."""


@dataclass(frozen=True, kw_only=True)
class VoiceDescription:
    """One voice in one split.

    Attributes:
        voice: Its name.
        lowest: Lowest pitch sung; `None` if it never sings.
        highest: Highest pitch sung; `None` if it never sings.
        silence: Share of steps in which it rests, 0..1.
    """

    voice: str
    lowest: int | None
    highest: int | None
    silence: float


@dataclass(frozen=True, kw_only=True)
class SplitDescription:
    """One split of a corpus.

    Attributes:
        num_chorales: Pieces.
        num_steps: Sixteenth steps in all of them.
        shortest: Steps of the shortest piece.
        median: Median length in steps.
        longest: Steps of the longest piece.
        voices: Soprano to bass.
        crossings: Share of steps in which some voice sings lower than the next voice below it, 0..1.
    """

    num_chorales: int
    num_steps: int
    shortest: int
    median: float
    longest: int
    voices: tuple[VoiceDescription, ...]
    crossings: float


@dataclass(frozen=True, kw_only=True)
class Description:
    """What `bach data` shows of a corpus.

    Attributes:
        name: The dataset's.
        fingerprint: The dataset's.
        splits: Each split by its name, and all of them together as `all`.
    """

    name: str
    fingerprint: str
    splits: dict[str, SplitDescription]

    def as_json(self) -> dict[str, Any]:
        """Returns the same as plain dictionaries, lists, strings and numbers."""
        return asdict(self)


def describe(dataset: Dataset) -> Description:
    """Returns counts, lengths, ranges, silences and crossings of each split and of all."""
    groups: dict[str, Sequence[Chorale]] = {**dataset.splits, "all": dataset.chorales()}
    return Description(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        splits={name: _describe_split(chorales) for name, chorales in groups.items()},
    )


def _describe_split(chorales: Sequence[Chorale]) -> SplitDescription:
    lengths = [len(chorale.pitches) for chorale in chorales]
    steps = np.concatenate([chorale.pitches for chorale in chorales])
    sung = steps != SILENCE
    crossed = sung[:, 1:] & sung[:, :-1] & (steps[:, 1:] > steps[:, :-1])
    return SplitDescription(
        num_chorales=len(chorales),
        num_steps=len(steps),
        shortest=min(lengths),
        median=float(np.median(lengths)),
        longest=max(lengths),
        voices=tuple(
            VoiceDescription(
                voice=name,
                lowest=int(steps[sung[:, voice], voice].min()) if sung[:, voice].any() else None,
                highest=int(steps[sung[:, voice], voice].max()) if sung[:, voice].any() else None,
                silence=float(1 - sung[:, voice].mean()),
            )
            for voice, name in enumerate(VOICES)
        ),
        crossings=float(crossed.any(axis=1).mean()),
    )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is probably wrong with a corpus that could be read.

    Attributes:
        kind: What sort of thing it is.
        where: The split or the piece.
        message: What is wrong, what was expected, what to do.
    """

    kind: Literal["counts", "short", "silent_voice", "voice_order", "copy"]
    where: str
    message: str


def check(dataset: Dataset) -> list[Finding]:
    """Returns what is probably wrong with the corpus; nothing for good data.

    Looks for named sources with the wrong number of pieces, pieces shorter than a bar, voices that never sing, columns
    that are not soprano to bass, and pieces that are in the corpus twice, note for note. What cannot be a chorale at
    all is refused earlier, by `load`; passages that pieces share are no fault and are told by `near_duplicates`.
    """
    findings = [
        Finding(
            kind="counts",
            where=split,
            message=f"{split}: {len(dataset.splits[split])} chorales, {dataset.name!r} has {count}; get it again",
        )
        for split, count in EXPECTED_COUNTS.get(dataset.name, {}).items()
        if len(dataset.splits[split]) != count
    ]
    by_contents: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for chorale in dataset.chorales():
        findings += _check_chorale(chorale)
        by_contents[len(chorale.pitches), chorale.pitches.tobytes()].append(chorale.id)
    findings += [
        Finding(kind="copy", where=ids[0], message=f"{' and '.join(ids)} are the same, note for note; keep one of them")
        for ids in by_contents.values()
        if len(ids) > 1
    ]
    return findings


def _check_chorale(chorale: Chorale) -> list[Finding]:
    findings: list[Finding] = []
    if len(chorale.pitches) < SHORTEST_CHORALE:
        message = (
            f"{chorale.id}: {len(chorale.pitches)} steps, expected a bar ({SHORTEST_CHORALE}) or more; leave it out"
        )
        findings.append(Finding(kind="short", where=chorale.id, message=message))
    means = [float(voice[voice != SILENCE].mean()) if (voice != SILENCE).any() else None for voice in chorale.pitches.T]
    for name, mean in zip(VOICES, means, strict=True):
        if mean is None:
            message = f"{chorale.id}: the {name} never sings; expected four voices; leave the piece out or complete it"
            findings.append(Finding(kind="silent_voice", where=chorale.id, message=message))
    sung = [mean for mean in means if mean is not None]
    if sung != sorted(sung, reverse=True):
        message = (
            f"{chorale.id}: the voices are not soprano, alto, tenor, bass: the mean pitches of the four columns are "
            f"{', '.join('none' if mean is None else f'{mean:.1f}' for mean in means)}; reorder the columns"
        )
        findings.append(Finding(kind="voice_order", where=chorale.id, message=message))
    return findings


def plot(dataset: Dataset, path: Path | str) -> None:
    """Draws how often each voice sings each pitch, and how long the pieces are, as a PNG file.

    Args:
        dataset: The corpus.
        path: The file; it appears whole or not at all, and replaces one that is there.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # only here: it takes a second to import

    figure = Figure(figsize=(10, 9), layout="constrained")
    figure.suptitle(f"{dataset.name}: {len(dataset.chorales())} chorales (data {dataset.fingerprint[:12]})")
    rows = figure.subplots(NUM_VOICES + 1, 1, height_ratios=[1] * NUM_VOICES + [1.5])
    steps = np.concatenate([chorale.pitches for chorale in dataset.chorales()])
    pitches = np.arange(MIN_PITCH, MAX_PITCH + 1)
    for voice, (name, axes) in enumerate(zip(VOICES, rows, strict=False)):
        counts = np.bincount(steps[:, voice], minlength=MAX_PITCH + 1)
        axes.bar(pitches, 100 * counts[MIN_PITCH:] / len(steps), color=f"C{voice}", width=0.9)
        axes.set_xlim(MIN_PITCH - 0.6, MAX_PITCH + 0.6)
        axes.set_ylabel("% of steps")
        axes.set_xticks(range(MIN_PITCH, MAX_PITCH + 1, 12), [f"C{octave}" for octave in range(2, 6)])
        axes.set_xticks(pitches, minor=True)
        rests = 100 * counts[SILENCE] / len(steps)
        axes.text(0.01, 0.92, f"{name} (rests {rests:.1f} %)", transform=axes.transAxes, va="top")
        axes.spines[["top", "right"]].set_visible(False)
    rows[NUM_VOICES - 1].set_xlabel("pitch (ticks: semitones; C4 is middle C, MIDI 60)")
    axes = rows[NUM_VOICES]
    lengths = [[len(chorale.pitches) / STEPS_PER_BAR for chorale in dataset.splits[split]] for split in SPLITS]
    labels = [f"{split} ({len(dataset.splits[split])})" for split in SPLITS]
    axes.hist(lengths, bins=20, stacked=True, label=labels, color=["0.35", "0.6", "0.85"])
    axes.set_xlabel("length in bars of 16 steps")
    axes.set_ylabel("chorales")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_whole(path, picture.getvalue())
