"""Pitches to tokens and back, transposition, and what a model may know about a note before it is sung.

All functions are exact: `decode(encode(x)) == x` and `transpose(transpose(x, k), -k) == x`.
"""

import functools

import numpy as np

from bach.notes import (
    MAX_PITCH,
    MIN_PITCH,
    NUM_TOKENS,
    NUM_VOICES,
    SILENCE,
    STEPS_PER_BAR,
    VOICE_RANGES,
    Pitches,
    Tokens,
)

START = NUM_TOKENS
"""Stands for "before the piece began" in the inputs of a model; never a token of a chorale."""
MAX_HELD = 79
"""Held times are counted in steps up to this number (inclusive)."""

MIN_ECHO_DISTANCE = 16
"""An echo comes from at least this many steps ago; held chords are no echoes of themselves."""
MIN_ECHO_NOTES = 8
"""The shortest match that counts as an echo, in notes."""
MAX_ECHO = 32
"""Echoes are measured in steps up to this number (inclusive)."""

KEPT_PIECES = 1024
"""Of so many pieces `piece_inputs` keeps the rows: 40 KB each, a corpus of this kind twice over."""

NOTE_INPUTS = (
    "previous_1",
    "previous_2",
    "previous_3",
    "previous_4",
    "echo",
    "voice",
    "beat",
    "held",
    "echo_steps",
)
"""The columns of `note_inputs`, in order; those that hold notes come first."""
NUM_NOTE_COLUMNS = 5
"""How many columns of `note_inputs` hold notes, which move with a transposition."""


def encode(pitches: Pitches) -> Tokens:
    """Returns the chorale `[T, 4]` as one token sequence `[4 * T]`, int32.

    Raises:
        ValueError: `pitches` is not `[T, 4]`, or a cell is neither `SILENCE` nor within `MIN_PITCH..MAX_PITCH`.
    """
    pitches = np.asarray(pitches)
    if pitches.ndim != 2 or pitches.shape[1] != NUM_VOICES:
        raise ValueError(f"a chorale is [T, {NUM_VOICES}], got {list(pitches.shape)}")
    sounding = pitches != SILENCE
    wrong = sounding & ((pitches < MIN_PITCH) | (pitches > MAX_PITCH))
    if wrong.any():
        step, voice = np.argwhere(wrong)[0]
        raise ValueError(
            f"step {step}, voice {voice}: pitch {pitches[step, voice]} is neither {SILENCE} (silence) "
            f"nor within {MIN_PITCH}..{MAX_PITCH}"
        )
    return np.where(sounding, pitches - MIN_PITCH + 1, SILENCE).astype(np.int32).reshape(-1)


def decode(tokens: Tokens) -> Pitches:
    """Returns the token sequence `[4 * T]` as a chorale `[T, 4]`, int16.

    Raises:
        ValueError: the length is no multiple of 4, or a token is outside `0..NUM_TOKENS - 1`.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or len(tokens) % NUM_VOICES:
        raise ValueError(f"a sequence is [4 * T], got {list(tokens.shape)}")
    if len(tokens) and (tokens.min() < 0 or tokens.max() >= NUM_TOKENS):
        raise ValueError(f"tokens are 0..{NUM_TOKENS - 1}, got {tokens.min()}..{tokens.max()}")
    return np.where(tokens == SILENCE, SILENCE, tokens + MIN_PITCH - 1).astype(np.int16).reshape(-1, NUM_VOICES)


def transpose(pitches: Pitches, semitones: int) -> Pitches:
    """Returns the chorale moved by `semitones`; silence stays silence.

    Raises:
        ValueError: a voice would leave `MIN_PITCH..MAX_PITCH`.
    """
    moved = np.where(pitches == SILENCE, SILENCE, pitches + semitones)
    sounding = moved[moved != SILENCE]
    if len(sounding) and (sounding.min() < MIN_PITCH or sounding.max() > MAX_PITCH):
        raise ValueError(
            f"moved by {semitones} semitones the chorale spans {sounding.min()}..{sounding.max()}, "
            f"outside {MIN_PITCH}..{MAX_PITCH}"
        )
    return moved.astype(np.asarray(pitches).dtype)


def transposition_bounds(pitches: Pitches) -> tuple[int, int]:
    """Returns the lowest and highest transposition (inclusive) that keep each voice within its range in the corpus.

    Both bounds include 0: a voice that already leaves `VOICE_RANGES` does not forbid the piece as it is.
    """
    low, high = -NUM_TOKENS, NUM_TOKENS
    for voice, (bottom, top) in enumerate(VOICE_RANGES):
        sung = pitches[:, voice][pitches[:, voice] != SILENCE]
        if len(sung):
            low, high = max(low, bottom - int(sung.min())), min(high, top - int(sung.max()))
    return min(low, 0), max(high, 0)


def held_steps(pitches: Pitches) -> np.ndarray:
    """Returns `[T, 4]`: for how many steps, this one included, each voice has sung its pitch; at most `MAX_HELD`."""
    steps = len(pitches)
    index = np.arange(steps)[:, None]
    starts = np.ones(pitches.shape, bool)
    starts[1:] = pitches[1:] != pitches[:-1]
    begun = np.maximum.accumulate(np.where(starts, index, 0), axis=0)
    return np.minimum(index - begun + 1, MAX_HELD).astype(np.int32)


def echoes(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each note what followed the last passage like this one: the note, and how long the passage is.

    Bach repeats the opening lines of most chorales. For every `t` this looks for the earlier place whose notes agree
    with `tokens[..t]` for longest, at least `MIN_ECHO_NOTES` notes long and `MIN_ECHO_DISTANCE` steps ago, the latest
    of equals.

    Returns:
        Two int32 arrays as long as `tokens`: the note after that place (`START` where there is none), and the length of
        the agreement in whole steps, at most `MAX_ECHO` (0 where there is none).
    """
    tokens = np.asarray(tokens, np.int32)
    notes, steps = np.full(len(tokens), START, np.int32), np.zeros(len(tokens), np.int32)
    nearest = MIN_ECHO_DISTANCE * NUM_VOICES
    runs = np.zeros(len(tokens) + 1, np.int32)  # runs[j + 1]: for how many notes the passages up to t and up to j agree
    index = np.arange(len(tokens))
    for t in range(len(tokens)):
        last = t - nearest
        if last < 0:
            continue
        agree = (tokens[: last + 1] == tokens[t]) & ((t - index[: last + 1]) % NUM_VOICES == 0)
        runs[1 : last + 2] = np.where(agree, np.minimum(runs[: last + 1] + 1, MAX_ECHO * NUM_VOICES), 0)
        place = last - int(runs[last + 1 : 0 : -1].argmax())
        if runs[place + 1] >= MIN_ECHO_NOTES:
            notes[t], steps[t] = tokens[place + 1], runs[place + 1] // NUM_VOICES
    return notes, steps


def note_inputs(tokens: Tokens) -> np.ndarray:
    """Returns what may be known before each note but the first: `[len(tokens), 9]`, int32, columns `NOTE_INPUTS`.

    Row `t` describes the note `t + 1` that is to be predicted after `tokens[0..t]`: the four notes before it (`START`
    where there is none), its echo (see `echoes`), its voice (0..3), its step in the bar (0..15), for how many steps its
    voice has sung its last pitch (0 before the voice's first note), and the length of the echo in steps. The last row
    describes the note after the sequence. `bach.layers.NoteInputs` computes the same inside a model.
    """
    tokens = np.asarray(tokens, np.int32)
    length = len(tokens)
    if not length:
        return np.zeros((0, len(NOTE_INPUTS)), np.int32)
    before = np.concatenate([np.full(NUM_VOICES, START, np.int32), tokens])
    note = np.arange(1, length + 1)
    previous = [before[NUM_VOICES - k + 1 : NUM_VOICES - k + 1 + length] for k in range(1, NUM_VOICES + 1)]
    steps = -(-length // NUM_VOICES)
    grid = np.concatenate([tokens, np.full(steps * NUM_VOICES - length, -1, np.int32)]).reshape(steps, NUM_VOICES)
    held = np.concatenate([np.zeros(NUM_VOICES, np.int32), held_steps(grid).reshape(-1)])[1 : length + 1]
    echo, echo_steps = echoes(tokens)
    beat = note // NUM_VOICES % STEPS_PER_BAR
    return np.stack([*previous, echo, note % NUM_VOICES, beat, held, echo_steps], axis=1).astype(np.int32)


def piece_inputs(tokens: Tokens) -> np.ndarray:
    """Returns the `note_inputs` of a whole piece, read-only.

    They take milliseconds a piece and depend on nothing else, so a process that trains one model after another works
    them out once; the last `KEPT_PIECES` are kept.
    """
    tokens = np.ascontiguousarray(tokens)
    return _piece_inputs(tokens.tobytes(), tokens.dtype.str)


@functools.lru_cache(maxsize=KEPT_PIECES)
def _piece_inputs(tokens: bytes, dtype: str) -> np.ndarray:
    rows = note_inputs(np.frombuffer(tokens, dtype))
    rows.flags.writeable = False
    return rows
