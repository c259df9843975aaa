"""New chorales: one note at a time, in a compiled loop that carries the state of every layer.

generator = Generator(model)
chorales = generator.generate(seeds=[1, 2, 3], steps=256, temperature=0.9)   # [3, 256, 4] pitches
chorales = generator.harmonise(melody, seeds=range(16))
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bach import backend
from bach.backend import Tensor
from bach.encoding import decode, encode
from bach.errors import SettingError
from bach.layers.stepwise import State, initial_states, step
from bach.notes import MAX_PITCH, MIN_PITCH, NUM_TOKENS, NUM_VOICES, SILENCE, VOICE_RANGES
from bach.sampling import chances, choose, most_probable, parallel_motion

FREE = -1
"""In the notes that are given: this one is for the model to choose."""

_CHUNK = 128
"""Notes per call of the compiled loop."""
_LENGTH_STEP = 1024
"""Sequences are given room in multiples of this many notes, so that few shapes are compiled."""

OnNotes = Callable[[int, int], None]
"""Called now and then: steps done, steps in all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How notes are chosen.

    Attributes:
        temperature: above 0; below 1 is safer than the model, above 1 bolder.
        top_p: in (0, 1]; keeps the most probable notes that together have this probability.
        greedy: always take the most probable note; temperature, top_p and seeds then change nothing.
        ranges: lowest and highest pitch (inclusive) that each voice may sing, soprano to bass; `None` for any pitch.
        max_still_steps: after so many steps without a change in any voice, the next note must change; 0 never minds.
        forbid_parallels: no note moves in parallel fifths, octaves or unisons with a voice above it (given notes may).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    greedy: bool = False
    ranges: tuple[tuple[int, int], ...] | None = VOICE_RANGES
    max_still_steps: int = 32
    forbid_parallels: bool = False

    def __post_init__(self):
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise SettingError(
                f"temperature: got {self.temperature}, expected a finite number above 0; "
                "for the most probable notes be greedy"
            )
        if not 0 < self.top_p <= 1:
            raise SettingError(f"top_p: got {self.top_p}, expected more than 0 and at most 1")
        if self.max_still_steps < 0:
            raise SettingError(f"max_still_steps: got {self.max_still_steps}, expected 0 or more")
        if self.ranges is not None:
            if len(self.ranges) != NUM_VOICES:
                raise SettingError(f"ranges: got {len(self.ranges)}, expected one for each of the {NUM_VOICES} voices")
            for low, high in self.ranges:
                if not MIN_PITCH <= low <= high <= MAX_PITCH:
                    raise SettingError(
                        f"ranges: got {low}..{high}, expected lowest and highest pitch within {MIN_PITCH}..{MAX_PITCH}"
                    )

    def allowed(self) -> np.ndarray:
        """Returns `[4, 47]` booleans: what each voice may do; silence is always allowed."""
        table = np.ones((NUM_VOICES, NUM_TOKENS), bool)
        if self.ranges is not None:
            pitches = np.arange(NUM_TOKENS) + MIN_PITCH - 1
            for voice, (low, high) in enumerate(self.ranges):
                table[voice] = (pitches >= low) & (pitches <= high)
            table[:, SILENCE] = True
        return table


FIRST_SOPRANO = (64, 74)
"""A chorale that begins with nothing given begins with a soprano note drawn evenly from this range (inclusive)."""


class Generator:
    """Chorales from one model; compiled once per batch size, then fast."""

    def __init__(self, model: keras.Model):
        """Takes the model that is to sing.

        Args:
            model: from `bach.hypermodel.build` or `bach.model_files.load`; its present weights are read at every call.
        """
        self._layers = list(model.layers)
        self._variables = model.variables
        self._loops: dict[tuple, tuple[Callable, Callable]] = {}

    def generate(
        self,
        *,
        seeds: Sequence[int],
        steps: int,
        given: np.ndarray | None = None,
        settings: SamplingSettings | None = None,
        temperatures: Sequence[float] | None = None,
        on_notes: OnNotes | None = None,
    ) -> np.ndarray:
        """Returns one chorale per seed: `[len(seeds), steps, 4]` pitches, int16.

        Args:
            seeds: 0 or more each; the same seed gives the same chorale, alone or in a batch.
            steps: length in sixteenths, 1 or more.
            given: pitches that stand, `FREE` where the model chooses: `[T, 4]` for all, or `[len(seeds), T, 4]`; what
                lies beyond `steps` is ignored, what is missing is free. A prompt is given steps at the start, a fixed
                voice is a given column.
            settings: how notes are chosen.
            temperatures: one a seed, in place of the settings' one for all.
            on_notes: see `OnNotes`.

        Raises:
            SettingError: no seed, a negative seed, an impossible temperature or not one a seed, no step, or a given
                pitch outside `MIN_PITCH..MAX_PITCH`.
        """
        settings = settings or SamplingSettings()
        if not len(seeds) or min(seeds) < 0:
            raise SettingError(f"seeds: got {list(seeds)}, expected one or more numbers of 0 or more")
        if steps < 1:
            raise SettingError(f"steps: got {steps}, expected 1 or more")
        notes = steps * NUM_VOICES
        room = -(-notes // _LENGTH_STEP) * _LENGTH_STEP
        forced = np.full((len(seeds), room), FREE, np.int32)
        forced[:, :notes] = _forced(given, len(seeds), steps)
        uniform = np.zeros((len(seeds), room), np.float32)
        uniform[:, :notes] = chances(seeds, notes)
        options = (
            settings.allowed(),
            _temperatures(settings, temperatures, len(seeds)),
            np.float32(settings.top_p),
            np.int32(settings.max_still_steps * NUM_VOICES or 2**30),
        )
        start, loop = self._compiled(len(seeds), room, settings)
        state = start()
        chunks = []
        for first in range(0, notes, _CHUNK):
            chunk = slice(first, first + _CHUNK)
            tokens, state = loop(np.int32(first), state, forced[:, chunk], uniform[:, chunk], *options)
            chunks.append(tokens)
            if on_notes is not None:
                ops.convert_to_numpy(tokens)
                on_notes(min(first + _CHUNK, notes) // NUM_VOICES, steps)
        tokens = np.concatenate([ops.convert_to_numpy(chunk) for chunk in chunks], axis=1)[:, :notes]
        return np.stack([decode(row) for row in tokens])

    def _compiled(self, batch: int, room: int, rules: SamplingSettings) -> tuple[Callable, Callable]:
        # Of the rules only these are compiled in; the rest are arguments.
        key = (batch, room, rules.greedy, rules.top_p < 1, rules.forbid_parallels)
        if key not in self._loops:

            def start() -> State:
                return _initial_state(self._layers, batch, room)

            def loop(
                first: Tensor, state: State, forced: Tensor, uniform: Tensor, *options: Tensor
            ) -> tuple[Tensor, State]:
                return _loop(self._layers, rules, first, state, forced, uniform, *options)

            self._loops[key] = (start, backend.compiled(loop, self._variables))
        return self._loops[key]


def _temperatures(settings: SamplingSettings, given: Sequence[float] | None, batch: int) -> np.ndarray:
    """The temperature of each chorale, `[batch, 1]`."""
    given = [settings.temperature] * batch if given is None else given
    if len(given) != batch:
        raise SettingError(f"temperatures: got {len(given)}, expected one for each of the {batch} chorales")
    checked = [dataclasses.replace(settings, temperature=temperature).temperature for temperature in given]
    return np.array(checked, np.float32)[:, None]


def _forced(given: np.ndarray | None, batch: int, steps: int) -> np.ndarray:
    """The given pitches as tokens `[batch, 4 * steps]`, `FREE` elsewhere."""
    forced = np.full((batch, steps, NUM_VOICES), FREE, np.int32)
    if given is not None:
        given = np.asarray(given)
        shape = given.shape
        given = np.broadcast_to(given, (batch, *shape)) if given.ndim == 2 else given
        if given.ndim != 3 or given.shape[0] != batch or given.shape[2] != NUM_VOICES:
            raise SettingError(f"given notes: got shape {list(shape)}, expected [T, 4] or [{batch}, T, 4]")
        given = given[:, :steps]
        uneven = np.argwhere(~(given == np.floor(given)))  # not a number counts
        if len(uneven):
            row, step, voice = uneven[0]
            raise SettingError(
                f"given notes: step {step}, voice {voice}: got {given[row, step, voice]}, expected a whole number"
            )
        for row, pitches in enumerate(given):
            try:
                tokens = encode(np.where(pitches == FREE, SILENCE, pitches)).reshape(-1, NUM_VOICES)
            except ValueError as error:
                raise SettingError(f"given notes: {error}") from error
            forced[row, : len(pitches)] = np.where(pitches == FREE, FREE, tokens)
    return forced.reshape(batch, -1)


def _initial_state(layers: Sequence[Any], batch: int, room: int) -> State:
    """What the loop carries before the first note: the layers' states, logits of the first note, still notes so far."""
    low, high = (pitch - MIN_PITCH + 1 for pitch in FIRST_SOPRANO)
    logits = np.full((batch, NUM_TOKENS), -1e9, np.float32)
    logits[:, low : high + 1] = 0.0
    logits[:, SILENCE] = -2e9  # where none of these is within the soprano's range, any note before a rest
    past = ops.full((batch, 2 * NUM_VOICES), FREE, dtype="int32")  # the last eight notes, the latest first
    states = initial_states(layers, batch, room)
    return states, ops.convert_to_tensor(logits), past, ops.zeros((batch,), dtype="int32")


def _loop(
    layers: Sequence[Any],
    rules: SamplingSettings,
    first: Tensor,
    state: State,
    forced: Tensor,
    uniform: Tensor,
    allowed: Tensor,
    temperature: Tensor,
    top_p: Tensor,
    max_still: Tensor,
) -> tuple[Tensor, State]:
    """Chooses the notes `first, first + 1, ...` of `forced` `[B, n]`; returns tokens `[B, n]` and the state."""

    def note(t: Tensor, states: State, logits: Tensor, past: Tensor, still: Tensor, tokens: Tensor) -> State:
        i = t - first
        wanted, chance = forced[:, i], uniform[:, i]
        before = past[:, NUM_VOICES - 1]  # the same voice's last note
        may = ops.take(allowed, t % NUM_VOICES, axis=0)[None]
        if rules.forbid_parallels:
            may = ops.logical_and(may, ops.logical_not(parallel_motion(past, t % NUM_VOICES)))
        stuck = (still >= max_still)[:, None]
        repeats = before[:, None] == np.arange(NUM_TOKENS, dtype=np.int32)
        may = ops.logical_and(may, ops.logical_not(ops.logical_and(stuck, repeats)))
        if rules.greedy:
            token = most_probable(logits, allowed=may)
        else:
            token = choose(
                logits, chance, temperature=temperature, top_p=top_p if rules.top_p < 1 else None, allowed=may
            )
        token = ops.where(wanted == FREE, token, wanted)
        still = ops.where(token == before, still + 1, 0)
        past = ops.concatenate([token[:, None], past[:, :-1]], axis=1)
        after, states = step(layers, token, states, t)
        tokens = ops.slice_update(tokens, (0, i), token[:, None])
        return t + 1, states, ops.cast(after, "float32"), past, still, tokens

    last = first + forced.shape[1]
    empty = ops.zeros_like(forced)
    _, *carried, tokens = ops.while_loop(lambda t, *_: t < last, note, (ops.convert_to_tensor(first), *state, empty))
    return tokens, tuple(carried)
