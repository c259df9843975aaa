"""From tokens to what may be known before the next note."""

import keras
from keras import ops

from bach.encoding import MAX_ECHO, MAX_HELD, MIN_ECHO_DISTANCE, MIN_ECHO_NOTES, NOTE_INPUTS, START
from bach.notes import NUM_VOICES, STEPS_PER_BAR


@keras.saving.register_keras_serializable(package="bach")
class NoteInputs(keras.layers.Layer):
    """Derives from the notes so far all that a model may use to predict the next one.

    The same table as `bach.encoding.note_inputs`, computed inside the model, so that a saved model needs tokens alone.
    It has no weights. Time counts from the start of the piece.

    Args:
        echo: whether to look for echoes, which takes `time ** 2` memory; without, the columns say that there are none.

    Call arguments:
        tokens: `[batch, time]` integers, `0..46`.

    Returns:
        `[batch, time, 9]` int32, columns `bach.encoding.NOTE_INPUTS`; row `t` describes the note after `tokens[t]`.

    Example:
        >>> NoteInputs()(np.array([[25, 0, 15, 5]])).shape
        (1, 4, 9)
    """

    WIDTH = len(NOTE_INPUTS)

    def __init__(self, echo: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.echo = echo

    def call(self, tokens):
        tokens = ops.cast(tokens, "int32")
        length = ops.shape(tokens)[1]
        before = ops.pad(tokens, [[0, 0], [NUM_VOICES, 0]], constant_values=START)
        previous = [before[:, NUM_VOICES + 1 - k : NUM_VOICES + 1 - k + length] for k in range(1, NUM_VOICES + 1)]
        note = ops.arange(1, length + 1, dtype="int32")[None] + ops.zeros_like(tokens)  # [B, T]
        voice, beat = note % NUM_VOICES, note // NUM_VOICES % STEPS_PER_BAR
        if self.echo:
            echo, echo_steps = self._echoes(tokens, length)
        else:
            echo, echo_steps = ops.full_like(tokens, START), ops.zeros_like(tokens)
        return ops.stack([*previous, echo, voice, beat, self._held(before, note, length), echo_steps], axis=-1)

    def _echoes(self, tokens, length):
        """The note after the longest earlier agreement with the present passage, and its length: `[B, T]` each."""
        index = ops.arange(length, dtype="int32")
        distance = index[:, None] - index[None, :]
        allowed = ops.logical_and(distance >= MIN_ECHO_DISTANCE * NUM_VOICES, distance % NUM_VOICES == 0)
        agree = ops.logical_and(tokens[:, :, None] == tokens[:, None, :], allowed)
        run = ops.cast(
            agree, "int32"
        )  # [B, T, T]: for how many notes the passages up to t and up to j agree, at most `back`
        back = 1
        while back < MAX_ECHO * NUM_VOICES:
            earlier = ops.pad(run, [[0, 0], [back, 0], [back, 0]])[:, :length, :length]
            run = ops.where(run == back, back + earlier, run)
            back *= 2
        longest = ops.max(run, axis=-1)
        place = length - 1 - ops.cast(ops.argmax(ops.flip(run, axis=-1), axis=-1), "int32")  # the latest of equals
        after = ops.take_along_axis(tokens, ops.minimum(place + 1, length - 1), axis=1)
        found = longest >= MIN_ECHO_NOTES
        return ops.where(found, after, START), ops.where(found, longest // NUM_VOICES, 0)

    def _held(self, before, note, length):
        """How many steps the voice of each `note` has sung its last pitch: `[B, T]`, 0 before its first note."""
        last = before[:, 1 : 1 + length]  # the same voice's note one step earlier; START if there was none
        step = note // NUM_VOICES
        one_back = ops.pad(last, [[0, 0], [NUM_VOICES, 0]], constant_values=START)[:, :length]
        # The step at which the present pitch began: the latest change, found by looking back 1, 2, 4, ... 64 steps.
        begun = ops.where(last != one_back, step, -2 * MAX_HELD)
        back = 1
        while back <= MAX_HELD:
            shift = back * NUM_VOICES
            earlier = ops.pad(begun, [[0, 0], [shift, 0]], constant_values=-2 * MAX_HELD)[:, :length]
            begun = ops.maximum(begun, earlier)
            back *= 2
        held = ops.minimum(step - begun + 1, MAX_HELD)
        return ops.where(last == START, 0, held)

    def initial_state(self, batch, length: int = 0):
        """Returns the state before the first note of at most `length` notes; only echoes need the length."""
        recent = ops.full((batch, NUM_VOICES), START, dtype="int32")  # the last four notes, the latest first
        held = ops.zeros((batch, NUM_VOICES), dtype="int32")  # for how long each of them has been sung
        if not self.echo:
            return recent, held
        return recent, held, ops.full((batch, length), START, dtype="int32"), ops.zeros((batch, length), dtype="int32")

    def step(self, tokens, state, t):
        """Returns the rows `[batch, 9]` after the notes `tokens` `[batch]` of time `t`, and the new state."""
        recent, held, *echo_state = state
        oldest, oldest_held = recent[:, -1], held[:, -1]
        now_held = ops.where(tokens == oldest, ops.minimum(oldest_held + 1, MAX_HELD), 1)
        recent = ops.concatenate([tokens[:, None], recent[:, :-1]], axis=1)
        held = ops.concatenate([now_held[:, None], held[:, :-1]], axis=1)
        if self.echo:
            echo, echo_steps, echo_state = self._echo_step(tokens, echo_state, t)
        else:
            echo, echo_steps = ops.full_like(tokens, START), ops.zeros_like(tokens)
        note = t + 1
        voice = ops.full_like(tokens, 1) * (note % NUM_VOICES)
        beat = ops.full_like(tokens, 1) * (note // NUM_VOICES % STEPS_PER_BAR)
        row = ops.stack(
            [*(recent[:, k] for k in range(NUM_VOICES)), echo, voice, beat, held[:, -1], echo_steps], axis=-1
        )
        return row, (recent, held, *echo_state)

    def _echo_step(self, tokens, state, t):
        history, runs = (
            state  # [B, M] each: the notes so far, and how long the passages up to each agree with the present
        )
        history = ops.slice_update(history, (0, t), tokens[:, None])
        distance = t - ops.arange(history.shape[1], dtype="int32")
        allowed = ops.logical_and(distance >= MIN_ECHO_DISTANCE * NUM_VOICES, distance % NUM_VOICES == 0)
        agree = ops.logical_and(history == tokens[:, None], allowed)
        before = ops.concatenate([ops.zeros_like(runs[:, :1]), runs[:, :-1]], axis=1)
        runs = ops.where(agree, ops.minimum(before + 1, MAX_ECHO * NUM_VOICES), 0)
        longest = ops.max(runs, axis=1)
        place = ops.max(ops.where(runs == longest[:, None], ops.arange(history.shape[1], dtype="int32"), 0), axis=1)
        after = ops.take_along_axis(history, ops.minimum(place + 1, history.shape[1] - 1)[:, None], axis=1)[:, 0]
        found = longest >= MIN_ECHO_NOTES
        return ops.where(found, after, START), ops.where(found, longest // NUM_VOICES, 0), [history, runs]

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.WIDTH)

    def get_config(self):
        return {**super().get_config(), "echo": self.echo}


def body(model: keras.Model, name: str = "") -> keras.Model:
    """Returns the part of a model behind its `NoteInputs`, sharing its weights: rows `[batch, time, 9]` to logits.

    Args:
        model: begins with `NoteInputs`.
        name: of what is returned; "" for one after the model's.

    Raises:
        ValueError: the model does not begin with `NoteInputs`.
    """
    first, *chain = model.layers
    if not isinstance(first, NoteInputs):
        raise ValueError(f"the model's first layer is {type(first).__name__}, expected NoteInputs")
    return keras.Sequential(
        [keras.Input((None, NoteInputs.WIDTH), dtype="int32"), *chain], name=name or f"{model.name}_body"
    )
