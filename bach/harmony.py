"""Three voices to a given soprano: many attempts in one batch, the best by measure."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bach.encoding import encode
from bach.errors import SettingError
from bach.generation import FREE, Generator, OnNotes, SamplingSettings
from bach.measures import measure
from bach.notes import NUM_VOICES, SILENCE, Pitches
from bach.prediction import ModelPredictor

Criterion = Callable[[dict[str, float], float], float]
"""Lower is better, from a chorale's measures and its nats per note under the model."""


def _faults(measures: dict[str, float], nll: float) -> float:
    """Parallels per 1000 notes, crossings and wide spacings in percent of steps, and unlikely notes, added up."""
    per_note = measures["parallel_fifths"] + measures["parallel_octaves"]
    per_step = measures["voice_crossings"] + measures["wide_spacings"]
    return per_note + 100 * per_step + 10 * nll


CRITERIA: dict[str, Criterion] = {
    "faults": _faults,
    "parallels": lambda measures, nll: measures["parallel_fifths"] + measures["parallel_octaves"] + nll,
    "likelihood": lambda measures, nll: nll,
}
"""By what the best attempt is chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """One harmonisation.

    Attributes:
        seed: that made it.
        pitches: `[T, 4]`; the soprano is the given one.
        nll: nats per note of all four voices under the model.
        measures: see `bach.measures.measure`.
        fault: by the criterion; lower is better.
    """

    seed: int
    pitches: Pitches
    nll: float
    measures: dict[str, float]
    fault: float


def harmonise(
    generator: Generator,
    predictor: ModelPredictor,
    melody: np.ndarray,
    *,
    seeds: Sequence[int],
    settings: SamplingSettings | None = None,
    by: str = "faults",
    on_notes: OnNotes | None = None,
) -> list[Attempt]:
    """Returns one harmonisation per seed, the best first.

    Args:
        generator: of the model.
        predictor: of the same model.
        melody: `[T]` pitches of the soprano, `SILENCE` where it rests.
        seeds: one an attempt.
        settings: how notes are chosen.
        by: one of `CRITERIA`.
        on_notes: see `bach.generation.OnNotes`.

    Raises:
        SettingError: an unknown criterion, or an empty melody.
    """
    if by not in CRITERIA:
        raise SettingError(f"unknown criterion {by!r}; known: {', '.join(CRITERIA)}")
    melody = np.asarray(melody)
    if melody.ndim != 1 or not len(melody):
        raise SettingError(
            f"melody: got shape {list(melody.shape)}, expected one pitch per sixteenth step, at least one"
        )
    if (melody == FREE).any():
        step = int(np.argmax(melody == FREE))
        raise SettingError(f"melody: step {step} is {FREE}, expected a pitch, or {SILENCE} for a rest")
    given = np.full((len(melody), NUM_VOICES), FREE)
    given[:, 0] = melody
    chorales = generator.generate(seeds=seeds, steps=len(melody), given=given, settings=settings, on_notes=on_notes)
    tokens = [encode(chorale) for chorale in chorales]
    nll = [
        -float(logs[np.arange(len(notes)), notes].mean())
        for notes, logs in zip(tokens, predictor.log_probabilities(tokens), strict=True)
    ]
    return ranked(seeds, chorales, nll, by=by)


def ranked(seeds: Sequence[int], chorales: Iterable[Pitches], nll: Sequence[float], *, by: str) -> list[Attempt]:
    """Returns harmonisations as attempts, the best first; among equals the earlier one.

    Args:
        seeds: that made them.
        chorales: `[T, 4]` each.
        nll: nats per note of each under the model.
        by: one of `CRITERIA`.
    """
    attempts = []
    for seed, pitches, nats in zip(seeds, chorales, nll, strict=True):
        measures = measure(pitches)
        fault = CRITERIA[by]({name: np.nan_to_num(value) for name, value in measures.items()}, nats)
        attempts.append(Attempt(seed=seed, pitches=pitches, nll=nats, measures=measures, fault=float(fault)))
    return sorted(attempts, key=lambda attempt: attempt.fault)
