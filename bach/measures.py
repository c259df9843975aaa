"""Musical measures: how a chorale, or a set of them, compares with Bach.

Held notes are merged first (`bach.held`). Most measures are a part of a whole: errors per note, steps out of all steps.
A set of chorales is measured by pooling parts and wholes, so that a long piece weighs more than a short one; what
cannot be pooled (longest runs) is reported as median, ninth decile and maximum. A whole of 0 gives NaN, which
`bach.formats.write_json` writes as null.

`Reference(train)` is what a model was trained on; with it, `measure` also tells how much of a piece is copied from
there and how far its distributions lie from there. Definitions, sources and Bach's own values: `docs/measures.md`.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bach.held import last_sung, starts
from bach.notes import NUM_VOICES, SILENCE, STEPS_PER_QUARTER, VOICE_RANGES, VOICES, Pitches

FIFTH, OCTAVE = 7, 12
"""Intervals, in semitones."""
COPIED_RUN = 24
"""Steps in common with the training set (inclusive) that Bach's own test chorales reach at their ninth decile."""
STEPWISE = 2
"""The largest melodic interval (inclusive), in semitones, that counts as a step."""
MAJOR_TRIAD = frozenset({0, 4, 7})

Part = tuple[float, float]
"""A part and its whole; a measure is their quotient."""


def parallels(pitches: Pitches, interval: int) -> Part:
    """Returns the number of parallels of one kind in all six pairs of voices, and the number of notes.

    A parallel is a pair of voices that both change pitch on the same step, in the same direction, and are `interval`
    semitones apart (mod 12, upper voice minus lower) before and after. Steps on which any of the four voices rests,
    before or after, do not count.

    Args:
        pitches: `[T, 4]`, `SILENCE` (0) means no note.
        interval: `FIFTH`, or 0 for octaves and unisons.
    """
    before, after = pitches[:-1], pitches[1:]
    singing = (before != SILENCE).all(axis=1) & (after != SILENCE).all(axis=1)
    move = np.sign(after - before)
    found = 0
    for upper, lower in itertools.combinations(range(NUM_VOICES), 2):
        together = singing & (move[:, upper] == move[:, lower]) & (move[:, upper] != 0)
        apart = [(step[:, upper] - step[:, lower]) % OCTAVE == interval % OCTAVE for step in (before, after)]
        found += int((together & apart[0] & apart[1]).sum())
    return found, number_of_notes(pitches)


def voice_crossings(pitches: Pitches) -> Part:
    """Returns the number of steps on which a voice sings below its lower neighbour; and of all on which four sing."""
    full = pitches[(pitches != SILENCE).all(axis=1)]
    return int((full[:, :-1] < full[:, 1:]).any(axis=1).sum()), len(full)


def wide_spacings(pitches: Pitches) -> Part:
    """Returns the number of steps with S-A or A-T wider than an octave; and of all on which all four voices sing."""
    full = pitches[(pitches != SILENCE).all(axis=1)]
    return int((full[:, :2] - full[:, 1:3] > OCTAVE).any(axis=1).sum()), len(full)


def voice_overlaps(pitches: Pitches) -> Part:
    """Returns the number of voice overlaps between neighbouring voices, and the number of notes.

    A voice overlaps when it begins a note above the upper neighbour's last note before that step, or below the lower
    neighbour's. A neighbour that rests counts with the note it sang last; a voice that takes up its own last note
    again after a rest has not moved.
    """
    before = last_sung(pitches)[:-1]
    after = pitches[1:]
    moved = (after != before) & (after != SILENCE)
    rises = moved[:, 1:] & (after[:, 1:] > before[:, :-1]) & (before[:, :-1] != SILENCE)
    falls = moved[:, :-1] & (after[:, :-1] < before[:, 1:])
    return int(rises.sum() + falls.sum()), number_of_notes(pitches)


def number_of_notes(pitches: Pitches) -> int:
    """Returns the number of notes in all voices, held ones counted once."""
    return int((starts(pitches) & (pitches != SILENCE)).sum())


def durations(pitches: Pitches) -> np.ndarray:
    """Returns the length in steps of every note, voice by voice: `[number_of_notes]`."""
    first = np.flatnonzero(starts(pitches).T)  # each voice's first step starts something, so no run crosses voices
    lengths = np.diff(np.append(first, pitches.size))
    return lengths[pitches.T.reshape(-1)[first] != SILENCE]


def notes_lasting(pitches: Pitches, steps: int) -> Part:
    """Returns the number of notes that last exactly `steps`, and the number of notes."""
    lengths = durations(pitches)
    return int((lengths == steps).sum()), len(lengths)


def melodic_intervals(voice: np.ndarray) -> np.ndarray:
    """Returns the intervals in semitones, upwards positive, from each note of a voice `[T]` to its next.

    Two notes with a rest between them do not make an interval; as repeated notes are merged, none is 0.
    """
    sung = voice[starts(voice)]
    return np.diff(sung)[(sung[:-1] != SILENCE) & (sung[1:] != SILENCE)]


def stepwise_motion(pitches: Pitches, voice: int) -> Part:
    """Returns the number of melodic intervals of at most `STEPWISE` semitones in a voice, and of all its intervals."""
    intervals = melodic_intervals(pitches[:, voice])
    return int((abs(intervals) <= STEPWISE).sum()), len(intervals)


def ends_major(pitches: Pitches) -> Part:
    """Returns (1, 1) if the last step is a major triad in root position, else (0, 1); (0, 0) without any step.

    All three pitch classes must be there and no other, with the root in the lowest voice that sings.
    """
    if not len(pitches):
        return 0, 0
    chord = pitches[-1][pitches[-1] != SILENCE]
    return int({int(pitch - chord.min()) % OCTAVE for pitch in chord} == MAJOR_TRIAD), 1


def range_violations(pitches: Pitches) -> Part:
    """Returns the number of notes outside the range of their voice (`VOICE_RANGES`), and the number of notes."""
    low, high = np.array(VOICE_RANGES).T
    outside = starts(pitches) & (pitches != SILENCE) & ((pitches < low) | (pitches > high))
    return int(outside.sum()), number_of_notes(pitches)


def longest_stuck(pitches: Pitches) -> int:
    """Returns for how many steps at most no voice changes: a chord's length, or a long rest's. 0 without any step."""
    first = np.flatnonzero(starts(pitches).any(axis=1))
    return int(np.diff(np.append(first, len(pitches))).max(initial=0))


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A measure that is a part of a whole.

    Attributes:
        name: its key in the result of `measure`.
        count: a chorale's part and whole.
        per: 1 for a share, 1000 for "per 1000 notes".
        meaning: one line for tables and help.
    """

    name: str
    count: Callable[[Pitches], Part]
    per: int = 1
    meaning: str

    def of(self, chorales: Iterable[Pitches]) -> float:
        """Returns the measure of all chorales pooled; NaN if there is no whole to take a part of."""
        part, whole = np.sum([self.count(chorale) for chorale in chorales] or [(0, 0)], axis=0)
        return self.per * float(part) / float(whole) if whole else float("nan")


RATIOS = (
    Ratio(
        name="parallel_fifths",
        count=partial(parallels, interval=FIFTH),
        per=1000,
        meaning="parallel fifths per 1000 notes",
    ),
    Ratio(
        name="parallel_octaves",
        count=partial(parallels, interval=0),
        per=1000,
        meaning="parallel octaves and unisons per 1000 notes",
    ),
    Ratio(name="voice_crossings", count=voice_crossings, meaning="share of steps on which neighbouring voices cross"),
    Ratio(name="wide_spacings", count=wide_spacings, meaning="share of steps with S-A or A-T wider than an octave"),
    Ratio(name="voice_overlaps", count=voice_overlaps, per=1000, meaning="voice overlaps per 1000 notes"),
    Ratio(name="range_violations", count=range_violations, per=1000, meaning="notes out of range per 1000 notes"),
    *(
        Ratio(
            name=f"duration_{n}", count=partial(notes_lasting, steps=n), meaning=f"share of notes that last {n} steps"
        )
        for n in (1, 2, 3, 4, 6, 8, 12, 16)
    ),
    *(
        Ratio(
            name=f"stepwise_{name}",
            count=partial(stepwise_motion, voice=voice),
            meaning=f"share of the {name}'s intervals that are at most {STEPWISE} semitones",
        )
        for voice, name in enumerate(VOICES)
    ),
    Ratio(name="ends_major", count=ends_major, meaning="share of chorales that end on a major triad in root position"),
)


class CopyIndex:
    """Finds the longest stretch that a chorale shares with any of a set of chorales, whatever the key.

    Each step is four numbers: how the soprano moved since the step before, and how far below it the other three sing.
    Two stretches with equal numbers are the same music up to transposition. While the soprano rests it counts with
    its last note (before its first, with its first); a rest is a number of its own. The first step of a piece has no
    move and is left out.

    All stretches of the set are kept in a suffix automaton: 0.2 s to build for the 229 training chorales, under a
    millisecond to ask about one chorale. Immutable once built; safe to share between threads.

    Source: A. Blumer et al., "The smallest automaton recognizing the subwords of a text", Theoretical Computer
    Science 40, 1985.
    """

    def __init__(self, chorales: Iterable[Pitches]) -> None:
        """Builds the index of `chorales`, each `[T, 4]`."""
        self._next: list[dict[bytes, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        for number, chorale in enumerate(chorales):
            last = 0
            # A symbol that no chorale can contain stands before each piece, so that no run crosses between pieces.
            for symbol in itertools.chain([f"piece {number}".encode()], _shape(chorale)):
                last = self._append(symbol, last)

    def longest_run(self, pitches: Pitches) -> int:
        """Returns for how many steps in a row `pitches` equals some stretch of the set, transposed or not."""
        state = length = best = 0
        for symbol in _shape(pitches):
            while state and symbol not in self._next[state]:
                state = self._link[state]
                length = self._length[state]
            if symbol in self._next[state]:
                state = self._next[state][symbol]
                length += 1
            best = max(best, length)
        return best

    def _append(self, symbol: bytes, last: int) -> int:
        """Adds `symbol` after the stretch that ends in state `last`; returns the state of the longer stretch."""
        state = self._state({}, self._length[last] + 1, 0)
        at = last
        while at >= 0 and symbol not in self._next[at]:
            self._next[at][symbol] = state
            at = self._link[at]
        if at < 0:
            return state
        target = self._next[at][symbol]
        if self._length[at] + 1 != self._length[target]:
            target = self._split(at, symbol, target)
        self._link[state] = target
        return state

    def _split(self, at: int, symbol: bytes, target: int) -> int:
        """Separates from state `target` the shorter stretches that end in it by way of `at`; returns their state."""
        clone = self._state(dict(self._next[target]), self._length[at] + 1, self._link[target])
        while at >= 0 and self._next[at].get(symbol) == target:
            self._next[at][symbol] = clone
            at = self._link[at]
        self._link[target] = clone
        return clone

    def _state(self, following: dict[bytes, int], length: int, link: int) -> int:
        self._next.append(following)
        self._length.append(length)
        self._link.append(link)
        return len(self._next) - 1


def _shape(pitches: Pitches) -> list[bytes]:
    """Returns one symbol per step but the first, equal for equal music in any key; see `CopyIndex`."""
    pitches = np.asarray(pitches, np.int16)
    soprano = last_sung(pitches)[:, 0]
    sung = soprano[soprano != SILENCE]
    soprano = np.where(soprano == SILENCE, sung[0] if len(sung) else SILENCE, soprano)
    rests = 1000
    shape = np.where(pitches == SILENCE, rests, pitches - soprano[:, None])
    shape[1:, 0] = np.where(pitches[1:, 0] == SILENCE, rests, np.diff(soprano))
    return [step.tobytes() for step in shape[1:]]


def distributions(chorales: Iterable[Pitches]) -> dict[str, np.ndarray]:
    """Returns the values whose distributions are compared with Bach's, by name, pooled over all chorales.

    `melody_<voice>`: melodic intervals in semitones, upwards positive. `duration`: note lengths in quarters.
    `harmony_<upper>_<lower>`: the interval in semitones between neighbouring voices, and between soprano and bass, at
    every step on which both sing. The features follow Fang et al. 2020, who compare intervals, rhythm and harmony in
    the same way.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in DISTANCES}
    for chorale in chorales:
        for voice, name in enumerate(VOICES):
            found[f"melody_{name}"].append(melodic_intervals(chorale[:, voice]))
        found["duration"].append(durations(chorale) / STEPS_PER_QUARTER)
        for upper, lower in HARMONIES:
            both = (chorale[:, [upper, lower]] != SILENCE).all(axis=1)
            found[_harmony(upper, lower)].append((chorale[:, upper] - chorale[:, lower])[both])
    return {name: np.concatenate(values) if values else np.zeros(0) for name, values in found.items()}


HARMONIES = ((0, 1), (1, 2), (2, 3), (0, 3))
"""The pairs of voices whose harmonic intervals are compared with Bach's."""


def _harmony(upper: int, lower: int) -> str:
    return f"harmony_{VOICES[upper]}_{VOICES[lower]}"


DISTANCES = (*(f"melody_{name}" for name in VOICES), "duration", *(_harmony(*pair) for pair in HARMONIES))
"""The names of the distributions that are compared with Bach's."""


class Reference:
    """What chorales are compared with: the training set, and nothing that a model was not trained on.

    Attributes:
        copies: the index of the set's chorales.
    """

    def __init__(self, chorales: Iterable[Pitches]) -> None:
        """Builds the reference from chorales, each `[T, 4]`.

        Raises:
            ValueError: the chorales hold no interval of some kind, so that nothing can be compared with them.
        """
        chorales = list(chorales)
        self.copies = CopyIndex(chorales)
        self._values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._spread: dict[str, float] = {}
        for name, values in distributions(chorales).items():
            self._spread[name] = float(np.std(values)) if len(values) else 0.0
            if not self._spread[name]:
                raise ValueError(f"the reference has no variety of {name!r}; give it whole training chorales")
            self._values[name] = np.unique(values, return_counts=True)

    def distances(self, chorales: Sequence[Pitches]) -> dict[str, float]:
        """Returns how far the pooled distributions of `chorales` lie from the reference's, by name; lower is closer.

        Each is a Wasserstein-1 distance in units of the reference's own standard deviation: 0 is equal, 1 is as if all
        values had been shifted by one standard deviation. NaN where `chorales` hold no such value. `distance` is
        their mean, NaN if one of them is.

        Source: A. Fang, A. Liu, P. Seetharaman, B. Pardo, "Bach or Mock? A Grading Function for Chorales in the Style
        of J.S. Bach", 2020, arXiv:2006.13329, whose features are graded by the same distance. Here the distance is
        taken between values on their own scale (semitones, quarters), there between lists of probabilities.
        """
        from scipy.stats import wasserstein_distance

        found = {}
        for name, values in distributions(chorales).items():
            own, own_counts = np.unique(values, return_counts=True)
            bach, bach_counts = self._values[name]
            found[f"distance_{name}"] = (
                float(wasserstein_distance(own, bach, own_counts, bach_counts)) / self._spread[name]
                if len(own)
                else float("nan")
            )
        return {"distance": float(np.mean(list(found.values()))), **found}


def measure(pitches: Pitches, reference: Reference | None = None) -> dict[str, float]:
    """Returns all measures of one chorale by name; numbers only, NaN where a measure has nothing to count.

    Args:
        pitches: `[T, 4]` integers; `SILENCE` (0) means no note.
        reference: the training set; without it the measures `longest_copied_run`, `copied` and `distance…` are left
        out.

    Returns:
        `steps` and `notes`, the `RATIOS`, `longest_stuck` in steps; `longest_copied_run` in steps and `copied`, 1.0
        if that run is longer than `COPIED_RUN`, else 0.0; `distance` and its parts (`Reference.distances`).

    Raises:
        ValueError: `pitches` is not `[T, 4]`.
    """
    pitches = _checked(pitches)
    found = _pooled([pitches]) | {"longest_stuck": float(longest_stuck(pitches))}
    if reference is not None:
        run = reference.copies.longest_run(pitches)
        found |= {"longest_copied_run": float(run), "copied": float(run > COPIED_RUN)}
        found |= reference.distances([pitches])
    return found


def measure_many(chorales: Iterable[Pitches], reference: Reference | None = None) -> dict[str, float]:
    """Returns the measures of a set of chorales as a whole, by name.

    As `measure`, but pooled over the set, with the number of `chorales`; each longest run comes as `…_median`,
    `…_p90` (the ninth decile) and `…_max` over the chorales, and `copied` is the share of chorales flagged. NaN
    throughout for an empty set.

    Raises:
        ValueError: a chorale is not `[T, 4]`.
    """
    checked = [_checked(chorale) for chorale in chorales]
    found = {"chorales": float(len(checked))} | _pooled(checked)
    found |= _summary("longest_stuck", [longest_stuck(chorale) for chorale in checked])
    if reference is not None:
        copied = [reference.copies.longest_run(chorale) for chorale in checked]
        found |= _summary("longest_copied_run", copied)
        found["copied"] = float(np.mean(np.array(copied) > COPIED_RUN)) if copied else float("nan")
        found |= reference.distances(checked)
    return found


def _pooled(chorales: Sequence[Pitches]) -> dict[str, float]:
    return {
        "steps": float(sum(map(len, chorales))),
        "notes": float(sum(map(number_of_notes, chorales))),
        **{ratio.name: ratio.of(chorales) for ratio in RATIOS},
    }


def _summary(name: str, values: Sequence[int]) -> dict[str, float]:
    """Returns median, ninth decile and maximum of `values`; NaN if there are none."""
    array = np.array(values, float) if values else np.array([np.nan])
    return {
        f"{name}_median": float(np.median(array)),
        f"{name}_p90": float(np.quantile(array, 0.9)),
        f"{name}_max": float(array.max()),
    }


def _checked(pitches: Pitches) -> Pitches:
    pitches = np.asarray(pitches)
    if pitches.ndim != 2 or pitches.shape[1] != NUM_VOICES:
        raise ValueError(f"a chorale is [T, {NUM_VOICES}], got {list(pitches.shape)}")
    return pitches.astype(np.int16)
