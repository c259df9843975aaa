"""Honest scores: how many nats a model pays for each note of chorales it has not seen.

Two protocols, each with its own name (`docs/scoring.md` defines both and every group of notes):

- *pieces*: every note of every piece is predicted exactly once, from all notes before it. The first note of a piece is
  charged ln 47, unless the predictor knows better. `val_nll` and `test_nll` are this score, in nats per note.
- *windows*: the seed recipe's. Windows of 33 steps, shifted by 16 within each piece, the rest dropped; the first note
  of a window is given, the other 131 are predicted from the window alone. Most notes count twice. `window_nll` and
  `window_accuracy` are this score.

Nothing here knows how a model works: anything that gives log-probabilities can be scored, see `Predictor`.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bach.encoding import encode
from bach.errors import DataError, ModelError, SettingError, did_you_mean
from bach.notes import NUM_TOKENS, NUM_VOICES, SPLITS, STEPS_PER_QUARTER, VOICES, Split, Tokens

if TYPE_CHECKING:
    from bach.corpus import Chorale, Dataset, Progress

WINDOW_STEPS = 33
"""Steps in a window of the seed's protocol: 132 notes, the first of them given."""
WINDOW_SHIFT = 16
"""Steps from the start of one window to the start of the next."""
SUM_TOLERANCE = 1e-4
"""By how much the probabilities of a row may miss 1."""
NOTES_PER_CALL = 2**16
"""A predictor is asked about at most this many notes at once (or one piece), which keeps its answer under 25 MB."""
RESAMPLES = 2000
"""Draws of the bootstrap over pieces."""

ScoreProtocol = Literal["pieces", "windows"]
SCORE_PROTOCOLS: tuple[ScoreProtocol, ...] = ("pieces", "windows")
GROUPS = (*VOICES, "on_beat", "off_beat", "held", "changed")
"""The groups of notes that are scored apart: the voices; on and off the beat; held and changed."""
_SPLIT_PREFIX = {"train": "train", "valid": "val", "test": "test"}


class Predictor(Protocol):
    """Whatever can say, before each note, how likely each token is."""

    def log_probabilities(self, sequences: Sequence[Tokens]) -> Sequence[NDArray[np.floating]]:
        """Returns for each sequence `[L]` an array `[L, 47]` of natural logarithms of probabilities.

        Row `i` is the distribution of note `i` given the notes `0..i-1` of the same sequence and nothing else. Row 0 is
        uniform (each -ln 47) unless the predictor knows something of first notes. `-inf` is allowed.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PieceScores:
    """What one piece cost, note by note. `N` predictions: one a note, or one a note and window.

    Attributes:
        id: the chorale's id.
        note: `[N]` integer, the predicted note's place in the piece's sequence (`note % 4` is its voice, `note // 4`
            its step).
        held: `[N]` bool, the note has the pitch of the same voice one step earlier (silence kept counts as held; notes
            of the piece's first step do not).
        nll: `[N]` float64, nats, `inf` where the predictor thought the note impossible.
        correct: `[N]` bool, the note was the most probable one; among equals the lowest token stands.
    """

    id: str
    note: NDArray[np.integer]
    held: NDArray[np.bool_]
    nll: NDArray[np.float64]
    correct: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The mean over some notes.

    Attributes:
        count: how many predictions the means are over (for a mean over pieces: how many pieces).
        nll_nats: mean negative log-likelihood in nats; `inf` if a note was thought impossible, NaN if `count` is 0.
        accuracy: the share of notes that were the most probable one, in [0, 1]; NaN if `count` is 0.
    """

    count: int
    nll_nats: float
    accuracy: float

    @property
    def nll_bits(self) -> float:
        """The same in bits."""
        return self.nll_nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """Between how many equally likely notes the model hesitates, on average: `exp(nll_nats)`."""
        return math.exp(self.nll_nats) if self.nll_nats < 700 else math.inf

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers under their names; None stands for infinite, and for no notes at all (`count` 0)."""
        return {
            "count": self.count,
            "nll_nats": _finite(self.nll_nats),
            "nll_bits": _finite(self.nll_bits),
            "perplexity": _finite(self.perplexity),
            "accuracy": _finite(self.accuracy),
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A protocol's result over a set of pieces.

    Attributes:
        notes: over all predictions (micro); the score that is quoted.
        pieces: the mean of the pieces' own means (macro); `count` is the number of pieces.
        by_piece: each piece's own score, by id, in the order of the data.
        groups: a score for each of `GROUPS`. Voices, on and off beat, held and changed each divide all notes.
        nll_interval: 95 % percentile bootstrap over pieces of `notes.nll_nats`, nats; None with fewer than two pieces
            or an infinite score. It says how much the score would move with other pieces, not with other trainings.
        accuracy_interval: the same of `notes.accuracy`; None with fewer than two pieces.
    """

    notes: Score
    pieces: Score
    by_piece: Mapping[str, Score]
    groups: Mapping[str, Score]
    nll_interval: tuple[float, float] | None
    accuracy_interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Returns nested dictionaries that `json.dumps(..., allow_nan=False)` takes."""
        return {
            "notes": self.notes.to_json(),
            "nll_nats_interval_95": self.nll_interval and list(self.nll_interval),
            "accuracy_interval_95": self.accuracy_interval and list(self.accuracy_interval),
            "pieces": self.pieces.to_json(),
            "groups": {name: score.to_json() for name, score in self.groups.items()},
            "by_piece": {name: score.to_json() for name, score in self.by_piece.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """The scores of one predictor on one split of one data set. Scores on different data are never ranked together.

    Attributes:
        data: the data set's name.
        fingerprint: the data set's fingerprint.
        split: which part of it.
        results: a summary for each protocol asked for, over all pieces. A protocol without any prediction (windows,
            when all pieces are shorter than 33 steps) has scores with count 0.
        left_out: ids of near-duplicates in this split, sorted.
        distinct: the same summaries without the pieces `left_out`; empty if no near-duplicates were named for this data
            set.
    """

    data: str
    fingerprint: str
    split: Split
    results: Mapping[ScoreProtocol, Summary]
    left_out: tuple[str, ...]
    distinct: Mapping[ScoreProtocol, Summary]

    @property
    def primary(self) -> dict[str, float]:
        """The scores that are quoted, by their names: `val_nll`, `val_accuracy`, `window_nll`, `window_accuracy`.

        `val` is `test` or `train` on those splits. Only the protocols that were asked for are in it. Nats.
        """
        named: dict[str, float] = {}
        for protocol, summary in self.results.items():
            prefix = _SPLIT_PREFIX[self.split] if protocol == "pieces" else "window"
            named[f"{prefix}_nll"] = summary.notes.nll_nats
            named[f"{prefix}_accuracy"] = summary.notes.accuracy
        return named

    def to_json(self) -> dict[str, Any]:
        """Returns nested dictionaries that `json.dumps(..., allow_nan=False)` takes; None is an infinite score."""
        return {
            "data": self.data,
            "fingerprint": self.fingerprint,
            "split": self.split,
            **{name: _finite(value) for name, value in self.primary.items()},
            **{protocol: summary.to_json() for protocol, summary in self.results.items()},
            "left_out": list(self.left_out),
            "without_left_out": {protocol: summary.to_json() for protocol, summary in self.distinct.items()},
        }

    def table(self) -> str:
        """Returns the scores as lines of text for a terminal, at most 100 columns wide."""
        lines = [f"{self.data} {self.split}, fingerprint {self.fingerprint[:12]}"]
        for protocol, summary in self.results.items():
            title = "whole pieces" if protocol == "pieces" else f"windows of {WINDOW_STEPS} steps"
            lines += ["", f"{title:<24}{'nats':>9}{'bits':>9}{'accuracy':>10}{'count':>9}"]
            lines.append(_line("all notes", summary.notes))
            if summary.nll_interval and summary.accuracy_interval:
                low, high = summary.nll_interval
                lines.append(f"  95 % over pieces      {low:.4f}..{high:.4f} nats, accuracy {_span(summary)}")
            lines.append(_line("mean of pieces", summary.pieces))
            lines += [_line(name.replace("_", " "), summary.groups[name]) for name in GROUPS]
            if protocol in self.distinct:
                lines.append(_line(f"without {len(self.left_out)} near-dupl.", self.distinct[protocol].notes))
        return "\n".join(lines)


def score(
    predictor: Predictor,
    dataset: "Dataset",
    split: Split = "valid",
    *,
    protocols: Collection[ScoreProtocol] = SCORE_PROTOCOLS,
    leave_out: Collection[str] = (),
    seed: int = 0,
    progress: "Progress | None" = None,
) -> Report:
    """Returns the scores of `predictor` on a split.

    Args:
        predictor: the model, or a floor from `bach.floors`.
        dataset: where the chorales come from; its name and fingerprint go into the report.
        split: which chorales.
        protocols: any of `SCORE_PROTOCOLS`.
        leave_out: ids of chorales that have a near-duplicate elsewhere, of any split; a second set of scores is made
            without those.
        seed: of the bootstrap.
        progress: is told (`score`, done, total) after every call of the predictor; counts pieces and windows.

    Raises:
        SettingError: an unknown split, protocol or id, or nothing would be left without `leave_out`.
        DataError: the split has no chorales.
        ModelError: the predictor's answer is not log-probabilities.
    """
    if split not in SPLITS:
        raise SettingError(f"unknown split {split!r}{did_you_mean(str(split), SPLITS)}")
    for protocol in protocols:
        if protocol not in SCORE_PROTOCOLS:
            raise SettingError(f"unknown protocol {protocol!r}{did_you_mean(str(protocol), SCORE_PROTOCOLS)}")
    chorales = dataset.splits[split]
    if not chorales:
        raise DataError(f"data {dataset.name!r}: split {split!r} has no chorales to score; choose another split")
    known = {chorale.id for each in dataset.splits.values() for chorale in each}
    for name in leave_out:
        if name not in known:
            raise SettingError(f"data {dataset.name!r} has no chorale {name!r} to leave out{did_you_mean(name, known)}")
    left_out = tuple(sorted({chorale.id for chorale in chorales} & set(leave_out)))
    if len(left_out) == len(chorales):
        raise SettingError(f"leaving out {len(left_out)} chorales leaves nothing of split {split!r}; name fewer")

    asked: list[ScoreProtocol] = [protocol for protocol in SCORE_PROTOCOLS if protocol in protocols]
    total = sum(len(_spans(chorale, protocol)) for protocol in asked for chorale in chorales)
    done = 0

    def count(sequences: int) -> None:
        nonlocal done
        done += sequences
        if progress is not None:
            progress("score", done, total)

    results: dict[ScoreProtocol, Summary] = {}
    distinct: dict[ScoreProtocol, Summary] = {}
    for protocol in asked:
        scores = score_chorales(predictor, chorales, protocol, progress=count)
        results[protocol] = summarise(scores, seed=seed)
        if leave_out:
            distinct[protocol] = summarise(scores, leave_out=left_out, seed=seed)
    return Report(
        data=dataset.name,
        fingerprint=dataset.fingerprint,
        split=split,
        results=results,
        left_out=left_out,
        distinct=distinct,
    )


def score_chorales(
    predictor: Predictor,
    chorales: Sequence["Chorale"],
    protocol: ScoreProtocol = "pieces",
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[PieceScores, ...]:
    """Returns what each chorale cost, note by note, in the order given; see the module for the two protocols.

    Under *windows* a chorale shorter than 33 steps has no predictions (arrays of length 0).

    Raises:
        ModelError: the predictor's answer is not log-probabilities.
    """
    given = 0 if protocol == "pieces" else 1  # notes at the start of a sequence that are not predicted
    parts: list[list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = [[] for _ in chorales]
    for batch in _batches(chorales, protocol):
        answers = predictor.log_probabilities([tokens for _, tokens in batch])
        if len(answers) != len(batch):
            raise ModelError(f"the predictor gave {len(answers)} arrays for {len(batch)} sequences; expected one each")
        for (index, tokens), answer in zip(batch, answers, strict=True):
            rows = _checked(answer, len(tokens), chorales[index].id)
            nll = -rows[np.arange(len(tokens)), tokens].astype(np.float64)
            parts[index].append((nll[given:], (rows.argmax(axis=1) == tokens)[given:]))
        if progress is not None:
            progress(len(batch))

    scores: list[PieceScores] = []
    for chorale, made in zip(chorales, parts, strict=True):
        notes = [np.arange(start + given, stop) for start, stop in _spans(chorale, protocol)]
        note = np.concatenate([np.zeros(0, np.int64), *notes])
        held = np.zeros(chorale.pitches.shape, bool)
        held[1:] = chorale.pitches[1:] == chorale.pitches[:-1]
        nll = np.concatenate([np.zeros(0), *(nll for nll, _ in made)])
        correct = np.concatenate([np.zeros(0, bool), *(correct for _, correct in made)])
        scores.append(PieceScores(id=chorale.id, note=note, held=held.reshape(-1)[note], nll=nll, correct=correct))
    return tuple(scores)


def summarise(
    scores: Iterable[PieceScores],
    *,
    leave_out: Collection[str] = (),
    seed: int = 0,
) -> Summary:
    """Returns the means over notes, over pieces and over groups of notes, without the pieces named in `leave_out`.

    `seed` is that of the bootstrap over pieces; the same seed gives the same interval. Pieces without predictions count
    nowhere but in `by_piece`.
    """
    kept = [piece for piece in scores if piece.id not in leave_out]
    by_piece = {piece.id: _score(piece.nll, piece.correct) for piece in kept}
    scored = [score for score in by_piece.values() if score.count]
    note = np.concatenate([np.zeros(0, np.int64), *(piece.note for piece in kept)])
    held = np.concatenate([np.zeros(0, bool), *(piece.held for piece in kept)])
    nll = np.concatenate([np.zeros(0), *(piece.nll for piece in kept)])
    correct = np.concatenate([np.zeros(0, bool), *(piece.correct for piece in kept)])
    on_beat = note // NUM_VOICES % STEPS_PER_QUARTER == 0
    masks = [*(note % NUM_VOICES == voice for voice in range(NUM_VOICES)), on_beat, ~on_beat, held, ~held]
    return Summary(
        notes=_score(nll, correct),
        pieces=_score(np.array([each.nll_nats for each in scored]), np.array([each.accuracy for each in scored])),
        by_piece=by_piece,
        groups={name: _score(nll[mask], correct[mask]) for name, mask in zip(GROUPS, masks, strict=True)},
        nll_interval=_interval([each.nll_nats for each in scored], [each.count for each in scored], seed),
        accuracy_interval=_interval([each.accuracy for each in scored], [each.count for each in scored], seed),
    )


def _spans(chorale: "Chorale", protocol: ScoreProtocol) -> list[tuple[int, int]]:
    """Returns from which note to which (exclusive) each sequence of the protocol goes."""
    steps = len(chorale.pitches)
    if protocol == "pieces":
        return [(0, steps * NUM_VOICES)]
    starts = range(0, steps - WINDOW_STEPS + 1, WINDOW_SHIFT)
    return [(start * NUM_VOICES, (start + WINDOW_STEPS) * NUM_VOICES) for start in starts]


def _batches(chorales: Sequence["Chorale"], protocol: ScoreProtocol) -> Iterator[list[tuple[int, Tokens]]]:
    """Yields groups of (index of the chorale, sequence), shortest chorales first so that groups are of like length."""
    batch: list[tuple[int, Tokens]] = []
    notes = 0
    for index in sorted(range(len(chorales)), key=lambda index: len(chorales[index].pitches)):
        tokens = encode(chorales[index].pitches)
        for start, stop in _spans(chorales[index], protocol):
            if batch and notes + stop - start > NOTES_PER_CALL:
                yield batch
                batch, notes = [], 0
            batch.append((index, tokens[start:stop]))
            notes += stop - start
    if batch:
        yield batch


def _checked(answer: NDArray[np.floating], length: int, name: str) -> NDArray[np.floating]:
    """Returns `answer` if it is `[length, 47]` log-probabilities of distributions, and refuses it otherwise."""
    rows = np.asarray(answer)
    expected = f"expected [{length}, {NUM_TOKENS}] natural logarithms of probabilities"
    if rows.shape != (length, NUM_TOKENS):
        raise ModelError(f"chorale {name!r}: the predictor gave shape {list(rows.shape)}; {expected}")
    if not np.issubdtype(rows.dtype, np.floating):
        raise ModelError(f"chorale {name!r}: the predictor gave type {rows.dtype}; {expected}, as floats")
    if np.isnan(rows).any():
        row = int(np.isnan(rows).any(axis=1).argmax())
        raise ModelError(f"chorale {name!r}, note {row}: the predictor gave NaN; {expected}. Was its training finite?")
    with np.errstate(over="ignore"):
        sums = np.exp(rows.astype(np.float64)).sum(axis=1)
    wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise ModelError(
            f"chorale {name!r}, note {row}: the probabilities sum to {sums[row]:.6g}, not to 1 within {SUM_TOLERANCE}; "
            "give logarithms of probabilities (not logits or probabilities), worked out in float32 or better"
        )
    return rows


def _score(nll: NDArray[np.floating], correct: NDArray[Any]) -> Score:
    if not len(nll):
        return Score(count=0, nll_nats=math.nan, accuracy=math.nan)
    return Score(count=len(nll), nll_nats=float(nll.mean()), accuracy=float(correct.mean()))


def _interval(means: Sequence[float], counts: Sequence[int], seed: int) -> tuple[float, float] | None:
    """Returns the 2.5 % and 97.5 % points of the mean over notes when whole pieces are drawn with replacement."""
    num_pieces = len(means)
    if num_pieces < 2 or not np.isfinite(means).all():
        return None
    draws = np.random.default_rng(seed).multinomial(num_pieces, np.full(num_pieces, 1 / num_pieces), size=RESAMPLES)
    weights = draws * np.asarray(counts)
    low, high = np.quantile(weights @ np.asarray(means) / weights.sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(name: str, score: Score) -> str:
    if not score.count:
        return f"  {name:<22}{'-':>9}{'-':>9}{'-':>10}{0:>9}"
    return f"  {name:<22}{score.nll_nats:>9.4f}{score.nll_bits:>9.4f}{score.accuracy:>10.4f}{score.count:>9}"


def _span(summary: Summary) -> str:
    low, high = summary.accuracy_interval or (math.nan, math.nan)
    return f"{low:.4f}..{high:.4f}"
