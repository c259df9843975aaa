"""Passages that two chorales share up to transposition, and what of the held-out splits was seen in training.

Bach set the same tunes again and again, and the canonical split did not look: some pieces of valid and test are, wholly
or for long passages, pieces of train in another key. What is here finds them so that a score can be given without them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bach.corpus import Chorale, Dataset
from bach.notes import MAX_PITCH, SILENCE, Pitches, Split

MIN_RUN = 16
"""Shared passages shorter than this many steps (a bar of 4/4) count as chance."""
REPORTED_RUN = 32
"""Pairs whose longest shared passage is shorter than this many steps (two bars) are not reported."""
PIECE_SHARE = 0.5
"""From this share of the shorter piece on, two chorales are called the same piece."""
SOPRANO_SHARE = 0.9
"""From this share on, a soprano counts as one that appears in train."""

_SILENT = 1000  # no interval is this large
_FIRST_STEP = 1000  # nor this


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """Two chorales that are the same, up to transposition, for a while.

    Attributes:
        first: Id of the piece that comes first in the dataset (train, valid, test).
        second: Id of the other.
        transposition: Semitones from the first to the second, in the longest shared passage.
        longest_run: Steps of the longest shared passage, counted as moves: a step counts if its chord (up to
            transposition) and the soprano's move into it are the same.
        shared_steps: Steps of the shorter piece that lie in some shared passage of at least `MIN_RUN` steps.
        share: `shared_steps` by the length of the shorter piece, 0..1.
        kind: `piece` if `share` is at least `PIECE_SHARE`, else `passage`.
    """

    first: str
    second: str
    transposition: int
    longest_run: int
    shared_steps: int
    share: float
    kind: Literal["piece", "passage"]

    @property
    def splits(self) -> tuple[str, str]:
        """The splits of the two pieces."""
        return self.first.partition("/")[0], self.second.partition("/")[0]

    @property
    def crosses(self) -> bool:
        """Whether the pieces lie in different splits."""
        return len(set(self.splits)) == 2


def near_duplicates(dataset: Dataset, *, min_run: int = REPORTED_RUN) -> list[NearDuplicate]:
    """Returns all pairs of chorales that share a passage of at least `min_run` steps, the longest passage first.

    All four voices must agree, silences included, after one transposition of the whole passage.

    Args:
        dataset: All its splits are compared, each with each and within itself.
        min_run: In steps, at least `MIN_RUN`.
    """
    chorales = dataset.chorales()
    pieces = [chorale.pitches for chorale in chorales]
    codes = _moves(pieces)
    least = min(MIN_RUN, min_run)
    shared: dict[tuple[int, int], list[_Run]] = defaultdict(list)
    for first, second, shift in _alignments(codes, range(len(codes)), range(len(codes)), least):
        shared[first, second] += _runs(codes[first], codes[second], shift, least)
    found = [
        _near_duplicate(chorales[first], chorales[second], runs)
        for (first, second), runs in shared.items()
        if max(run.steps for run in runs) >= min_run
    ]
    return sorted(found, key=lambda pair: (-pair.longest_run, pair.first, pair.second))


def _near_duplicate(first: Chorale, second: Chorale, runs: Sequence["_Run"]) -> NearDuplicate:
    longest = max(runs, key=lambda run: run.steps)
    covered = (np.zeros(len(first.pitches), bool), np.zeros(len(second.pitches), bool))
    for run in runs:
        covered[0][run.start : run.start + run.steps] = True
        covered[1][run.start + run.shift : run.start + run.shift + run.steps] = True
    shorter = covered[0] if len(covered[0]) <= len(covered[1]) else covered[1]
    keys = _key_notes(first.pitches), _key_notes(second.pitches)
    return NearDuplicate(
        first=first.id,
        second=second.id,
        transposition=int(keys[1][longest.start + longest.shift] - keys[0][longest.start]),
        longest_run=longest.steps,
        shared_steps=int(shorter.sum()),
        share=float(shorter.mean()),
        kind="piece" if shorter.mean() >= PIECE_SHARE else "passage",
    )


def seen_in_train(dataset: Dataset, split: Split, *, min_share: float = PIECE_SHARE) -> frozenset[str]:
    """Returns the ids of those chorales of `split` that are near-duplicates of one in train.

    A score of the others, beside the score of all, shows what remembering is worth.

    Args:
        dataset: The corpus.
        split: `valid` or `test`.
        min_share: How much of the shorter piece must be shared, 0..1; 0 takes all pairs of `near_duplicates`.
    """
    # Other splits are left out, that of test above all: it is not read for the sake of valid.
    kept = {each: chorales if each in ("train", split) else () for each, chorales in dataset.splits.items()}
    return frozenset(
        pair.second
        for pair in near_duplicates(replace(dataset, splits=kept))
        if pair.splits == ("train", split) and split != "train" and pair.share >= min_share
    )


@dataclass(frozen=True, kw_only=True)
class SopranosSeen:
    """How many sopranos of a split are sung in train.

    Attributes:
        seen: Ids of chorales whose soprano, for at least `SOPRANO_SHARE` of its steps, is one of train's up to
            transposition.
        num_chorales: Chorales in the split.
    """

    seen: tuple[str, ...]
    num_chorales: int

    @property
    def share(self) -> float:
        """Share of the split, 0..1."""
        return len(self.seen) / self.num_chorales


def sopranos_seen(dataset: Dataset, split: Split) -> SopranosSeen:
    """Returns which sopranos of `split` appear in train: harmonising these is partly seen.

    A soprano is laid beside one of train's at one transposition and one shift in time, the best there is; the share of
    its steps in which the two are equal must be at least `SOPRANO_SHARE`.
    """
    held_out, train = dataset.splits[split], dataset.splits["train"]
    sopranos = [chorale.pitches[:, :1] for chorale in (*held_out, *train)]
    best = np.zeros(len(held_out))
    here, there = range(len(held_out)), range(len(held_out), len(sopranos))
    for first, second, shift in _alignments(_moves(sopranos), here, there, MIN_RUN):
        start, stop = _overlap(len(sopranos[first]), len(sopranos[second]), shift)
        apart = sopranos[second][start + shift : stop + shift, 0] - sopranos[first][start:stop, 0]
        equal = np.bincount(apart + MAX_PITCH).max()
        best[first] = max(best[first], equal / len(sopranos[first]))
    ids = tuple(chorale.id for chorale, share in zip(held_out, best, strict=True) if share >= SOPRANO_SHARE)
    return SopranosSeen(seen=ids, num_chorales=len(held_out))


@dataclass(frozen=True)
class _Run:
    """A passage of `steps` steps that begins at `start` in one piece and at `start + shift` in another."""

    start: int
    shift: int
    steps: int


def _key_notes(pitches: Pitches) -> NDArray[np.int64]:
    """Returns `[T]`: the pitch of the first column, held on through its rests; what other pitches are relative to."""
    first = pitches[:, 0].astype(np.int64)
    sung = np.flatnonzero(first != SILENCE)
    if not len(sung):
        return first
    last = np.searchsorted(sung, np.arange(len(first)), side="right") - 1
    return first[sung[np.maximum(last, 0)]]


def _moves(pieces: Sequence[Pitches]) -> list[NDArray[np.int64]]:
    """Returns a code for each step of each piece `[T, V]`; equal codes are equal steps up to transposition.

    A code stands for how the first voice moved into the step, and which pitches sound, relative to the first voice. No
    code of a first step is used again, because nothing moved into it.
    """
    rows: list[NDArray[np.int64]] = []
    for number, pitches in enumerate(pieces):
        key = _key_notes(pitches)
        move = np.diff(key, prepend=0)
        move[0] = _FIRST_STEP + number
        rows.append(np.column_stack([move, np.where(pitches == SILENCE, _SILENT, pitches - key[:, None])]))
    codes = np.unique(np.concatenate(rows), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return np.split(codes, np.cumsum([len(pitches) for pitches in pieces])[:-1])


def _alignments(
    codes: Sequence[NDArray[np.int64]], here: Sequence[int], there: Sequence[int], min_run: int
) -> list[tuple[int, int, int]]:
    """Returns the ways to lay two pieces beside each other that make at least `min_run` codes in a row equal.

    Passages in which nothing at all changes do not count: everybody has those.

    Args:
        codes: Of all pieces.
        here: Numbers of the pieces on one side.
        there: Numbers of those on the other; only pairs in which the second number is the larger are looked at.
        min_run: In codes.

    Returns:
        Triples `first, second, shift`: step `t` of `first` lies beside step `t + shift` of `second`.
    """
    piece = np.repeat(np.arange(len(codes)), [len(code) for code in codes])
    step = np.concatenate([np.arange(len(code)) for code in codes])
    gram = np.concatenate(list(codes))
    changes = np.concatenate([[0], np.cumsum(np.diff(gram) != 0)])
    # Number the n-grams: those of twice the length are pairs of those before.
    length = 1
    while length < min_run and len(gram) > 1:
        further = min(length, min_run - length)
        pairs = gram[:-further] * (int(gram.max()) + 1) + gram[further:]
        gram = np.unique(pairs, return_inverse=True)[1].reshape(-1)
        length += further
    last = np.arange(len(gram)) + min_run - 1
    if length < min_run or not len(gram):
        return []
    usable = np.flatnonzero((piece[: len(gram)] == piece[last]) & (changes[: len(gram)] != changes[last]))
    left = usable[np.isin(piece[usable], here)]
    right = usable[np.isin(piece[usable], there)]
    right = right[np.argsort(gram[right], kind="stable")]
    low = np.searchsorted(gram[right], gram[left], "left")
    counts = np.searchsorted(gram[right], gram[left], "right") - low
    first = np.repeat(left, counts)
    place = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    second = right[np.repeat(low, counts) + place]
    triples = np.column_stack([piece[first], piece[second], step[second] - step[first]])
    triples = np.unique(triples[triples[:, 0] < triples[:, 1]], axis=0)
    return [(int(a), int(b), int(shift)) for a, b, shift in triples]


def _overlap(first: int, second: int, shift: int) -> tuple[int, int]:
    """Returns the span of steps of the first piece (of that length) beside which the second piece has steps."""
    return max(0, -shift), min(first, second - shift)


def _runs(first: NDArray[np.int64], second: NDArray[np.int64], shift: int, min_run: int) -> list[_Run]:
    """Returns the runs of at least `min_run` equal codes of two pieces that lie beside each other."""
    start, stop = _overlap(len(first), len(second), shift)
    equal = first[start:stop] == second[start + shift : stop + shift]
    edges = np.flatnonzero(np.diff(equal, prepend=False, append=False))
    return [
        _Run(start + int(begin), shift, int(end - begin))
        for begin, end in zip(edges[::2], edges[1::2], strict=True)
        if end - begin >= min_run
    ]
