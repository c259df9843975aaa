"""The chorales that show what a model can do, made in one batch.

Per model: chorales made from nothing, and such that go on from the beginning of a human one, each cold, medium and hot;
three voices to a human soprano, the best of several attempts; and the human piece that the soprano is of, beside it.

The beginnings and the soprano are of pieces that the model has not learnt from, in whatever key. Of what is partly
given, what is measured is what the model did: see `Sample.own`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bach.corpus import Chorale, Dataset
from bach.duplicates import seen_in_train, sopranos_seen
from bach.encoding import encode
from bach.formats import write_all
from bach.generation import FREE, Generator, SamplingSettings
from bach.harmony import ranked
from bach.measures import Reference, measure
from bach.notes import NUM_VOICES, Pitches, Split
from bach.prediction import ModelPredictor

TEMPERATURES = {"cold": 0.8, "medium": 1.0, "hot": 1.5}
"""Of the chorales, by name."""
PROMPT_STEPS = 64
"""How much of a human chorale one goes on from at most: four bars of 4/4. Half of a short chorale is given."""
TRIES = 8
"""Attempts at the harmony, all medium, of which the one with the fewest faults is kept; cold ones hardly move."""
BATCH = 64
"""Chorales made at once."""
FORMATS = ("midi", "musicxml", "wav", "png", "svg", "json")

Kind = Literal["free", "continued", "harmony", "original"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One chorale of the set.

    Attributes:
        name: of its files, unique within the set.
        title: stands above its score.
        kind: `free` from nothing, `continued` from the beginning of a human piece, `harmony` to a human soprano,
            `original` the human piece itself.
        origin: id of that piece; "" for none.
        steps: its length in sixteenths.
        given: `[T, 4]` pitches that are given, `FREE` elsewhere.
        seed: what it is drawn with; None for an original.
        temperature: likewise.
        pitches: `[steps, 4]` once it is made; of an original, the human piece.
        nll: nats per note of the notes in `own_notes` under the model.
    """

    name: str
    title: str
    kind: Kind
    origin: str = ""
    steps: int
    given: Pitches
    seed: int | None = None
    temperature: float | None = None
    pitches: Pitches = dataclasses.field(default_factory=lambda: np.zeros((0, NUM_VOICES), np.int16))
    nll: float = float("nan")

    @property
    def prompt_steps(self) -> int:
        """How many steps at the start are given in all voices."""
        return len(self.given) if self.kind == "continued" else 0

    @property
    def own_notes(self) -> np.ndarray:
        """Booleans `[steps, 4]`: the notes that were not given; of an original, those that its harmony is free in."""
        own = np.ones((self.steps, NUM_VOICES), bool)
        own[: self.prompt_steps] = False
        own[:, 0] &= self.kind not in ("harmony", "original")
        return own

    @property
    def own(self) -> Pitches:
        """What is measured: all of it, but without the beginning that was given, except for that one's last step.

        The given beginning is human and would flatter all measures; its last step is what the first own one moves from.
        """
        return self.pitches[max(0, self.prompt_steps - 1) :]


class SampleSet:
    """All samples of one model."""

    def __init__(self, generator: Generator, predictor: ModelPredictor, dataset: Dataset):
        """Takes the model and the chorales.

        Args:
            generator: of the model.
            predictor: of the same model.
            dataset: where beginnings, the soprano and the chorales to compare with come from; its train holds all that
                the model has learnt from.
        """
        self._generator, self._predictor, self._dataset = generator, predictor, dataset
        try:
            self._reference = Reference(chorale.pitches for chorale in dataset.splits["train"])
        except ValueError:  # too few chorales to compare with
            self._reference = None

    def make(self, *, count: int, split: Split, steps: int, seed: int) -> list[Sample]:
        """Returns the whole set, in the order of `planned`, made in as few batches as there can be.

        Args:
            count: chorales of each kind and temperature, 0 or more; there is one harmony.
            split: whose pieces give beginnings and soprano.
            steps: length of the chorales in sixteenths, 1 or more; harmony and original are as long as the piece, at
                most so long.
            seed: of the first chorale of each kind and temperature, and of the choice of pieces.
        """
        plan = planned(self._dataset, count=count, split=split, steps=steps, seed=seed)
        made = self._sung(plan)
        nll = self._nats(made)
        done = [dataclasses.replace(sample, nll=nats) for sample, nats in zip(made, nll, strict=True)]
        return _best_harmony(done)

    def write(self, sample: Sample, folder: Path) -> tuple[Path, dict[str, float]]:
        """Writes a sample in all formats and returns its MIDI file, and its measures by name.

        Raises:
            OutputError: the folder cannot be written.
        """
        drawn = {"temperature": sample.temperature, "seed": sample.seed, "nll": sample.nll}
        known = {name: float(value) for name, value in drawn.items() if value is not None}
        measures = known | measure(sample.own, self._reference)
        about: dict[str, Any] = {"kind": sample.kind, "origin": sample.origin, **measures}
        if sample.prompt_steps:
            about |= {"prompt_steps": sample.prompt_steps, "with_prompt": measure(sample.pitches, self._reference)}
        paths = write_all(
            sample.pitches, Path(folder) / sample.name, formats=FORMATS, title=sample.title, measures=about
        )
        return paths["midi"], measures

    def _sung(self, plan: Sequence[Sample]) -> list[Sample]:
        """The samples with their pitches: those to be drawn from the generator, originals as they are."""
        drawn = [sample for sample in plan if sample.seed is not None]
        steps = max((sample.steps for sample in drawn), default=0)
        chorales: list[Pitches] = []
        for first in range(0, len(drawn), BATCH):
            batch = drawn[first : first + BATCH]
            # The last batch is filled up: another size would be compiled anew.
            batch += batch[-1:] * (min(BATCH, len(drawn)) - len(batch))
            chorales.extend(
                self._generator.generate(
                    seeds=[sample.seed or 0 for sample in batch],
                    temperatures=[sample.temperature or 1.0 for sample in batch],
                    steps=steps,
                    given=np.stack([_filled(sample.given, steps) for sample in batch]),
                    settings=SamplingSettings(),
                )
            )
        rest = iter(chorales)
        return [
            sample
            if sample.seed is None
            else dataclasses.replace(sample, pitches=np.ascontiguousarray(next(rest)[: sample.steps]))
            for sample in plan
        ]

    def _nats(self, samples: Sequence[Sample]) -> list[float]:
        tokens = [encode(sample.pitches) for sample in samples]
        found = []
        for sample, notes, logs in zip(samples, tokens, self._predictor.log_probabilities(tokens), strict=True):
            own = sample.own_notes.reshape(-1)
            found.append(-float(logs[np.arange(len(notes)), notes][own].mean()))
        return found


def planned(dataset: Dataset, *, count: int, split: Split, steps: int, seed: int) -> list[Sample]:
    """Returns what is to be made, with what is given of it; of the harmony, all attempts.

    The same seed chooses the same pieces; a larger `count` adds pieces and keeps the others. Args as `SampleSet.make`.
    """
    if not count:
        return []
    pieces = _pieces(dataset, split, seed)
    prompt = min(PROMPT_STEPS, steps // 2)
    plan = [
        Sample(
            name=_numbered(mood, number),
            title=_numbered(mood.title(), number, " "),
            kind="free",
            steps=steps,
            given=np.zeros((0, NUM_VOICES), np.int16),
            seed=seed + number,
            temperature=temperature,
        )
        for mood, temperature in TEMPERATURES.items()
        for number in range(count)
    ]
    for mood, temperature in TEMPERATURES.items():
        for number, piece in enumerate(pieces[:count] if prompt else ()):
            given = piece.pitches[:prompt]
            plan.append(
                Sample(
                    name=f"{mood}-after-{_name(piece)}",
                    title=f"{mood.title()}, after {piece.id}",
                    kind="continued",
                    origin=piece.id,
                    steps=steps,
                    given=given,
                    seed=seed + number,
                    temperature=temperature,
                )
            )
    return plan + _harmony(dataset, split, [*pieces[count:], *pieces[:count]], steps, seed)


def _harmony(dataset: Dataset, split: Split, pieces: Sequence[Chorale], steps: int, seed: int) -> list[Sample]:
    """The attempts at one soprano, and the original: of the first piece that is short and new enough, if there is one.

    Args:
        dataset: of the pieces.
        split: of the pieces.
        pieces: to choose from, the most wanted first.
        steps: the longest harmony.
        seed: of the first attempt.
    """
    if not pieces:
        return []
    known = set(sopranos_seen(dataset, split).seen)
    piece = min(pieces, key=lambda piece: (piece.id in known, len(piece.pitches) > steps))
    pitches = piece.pitches[:steps]
    given = np.where(np.arange(NUM_VOICES) == 0, pitches, FREE)
    name, origin, length = _name(piece), piece.id, len(pitches)
    attempts = [
        Sample(
            name=f"harmony-{name}",
            title=f"Soprano of {origin}, harmonised",
            kind="harmony",
            origin=origin,
            steps=length,
            given=given,
            seed=seed + number,
            temperature=TEMPERATURES["medium"],
        )
        for number in range(TRIES)
    ]
    original = Sample(
        name=f"original-{name}",
        title=f"Bach, {origin}",
        kind="original",
        origin=origin,
        steps=length,
        given=pitches,
        pitches=pitches,
    )
    return [*attempts, original]


def _best_harmony(samples: Sequence[Sample]) -> list[Sample]:
    """The set with the best attempt in place of all."""
    attempts = {sample.seed or 0: sample for sample in samples if sample.kind == "harmony"}
    kept = [sample for sample in samples if sample.kind != "harmony"]
    if attempts:
        tried = list(attempts.values())
        best = ranked(list(attempts), [t.pitches for t in tried], [t.nll for t in tried], by="faults")[0]
        kept.insert(len(kept) - 1, attempts[best.seed])  # before the original
    return kept


def _pieces(dataset: Dataset, split: Split, seed: int) -> list[Chorale]:
    """The pieces of a split in an order that the seed draws, without those that the model has learnt from."""
    seen = seen_in_train(dataset, split)
    new = [chorale for chorale in dataset.splits[split] if chorale.id not in seen] or list(dataset.splits[split])
    return [new[index] for index in np.random.default_rng(seed).permutation(len(new))]


def _name(piece: Chorale) -> str:
    return piece.id.replace("/", "-")


def _numbered(name: str, number: int, between: str = "-") -> str:
    return f"{name}{between}{number + 1}" if number else name


def _filled(given: Pitches, steps: int) -> np.ndarray:
    """The given pitches `[steps, 4]`, `FREE` where there are none."""
    filled = np.full((steps, NUM_VOICES), FREE, np.int16)
    filled[: len(given)] = given[:steps]
    return filled
