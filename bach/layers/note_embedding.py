"""From what is known before a note to a vector."""

import keras
from keras import ops

from bach.encoding import MAX_ECHO, MAX_HELD, NOTE_INPUTS, START
from bach.notes import NUM_TOKENS, NUM_VOICES, STEPS_PER_BAR

_COLUMN = {name: index for index, name in enumerate(NOTE_INPUTS)}


@keras.saving.register_keras_serializable(package="bach")
class NoteEmbedding(keras.layers.Layer):
    """Sums one learnt vector per chosen input: last notes, voice, beat, held time.

    Args:
        dim: width of the vectors.
        notes: how many of the last notes to embed, 1..4, each with a table of its own.
        voice: whether to embed the voice of the coming note.
        beat: 0 for no beat, else the number of steps that positions count modulo: 4 or 16.
        held: whether to embed for how many steps the coming note's voice has sung its last pitch.
        echo: whether to embed what followed the last passage like this one, and how long that passage is.

    Call arguments:
        inputs: `[batch, time, 9]` integers as `NoteInputs` gives them.

    Returns:
        `[batch, time, dim]`. Silence is a token like any other: nothing is masked.
    """

    def __init__(
        self,
        dim: int,
        notes: int = 1,
        voice: bool = False,
        beat: int = 0,
        held: bool = False,
        echo: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 1 <= notes <= NUM_VOICES or beat not in (0, STEPS_PER_BAR // 4, STEPS_PER_BAR):
            raise ValueError(f"notes must be 1..{NUM_VOICES} and beat 0, 4 or 16, got notes={notes}, beat={beat}")
        self.dim, self.notes, self.voice, self.beat, self.held, self.echo = dim, notes, voice, beat, held, echo

    def build(self, input_shape):
        rows = {"previous_1": NUM_TOKENS} | {f"previous_{k}": START + 1 for k in range(2, self.notes + 1)}
        if self.voice:
            rows["voice"] = NUM_VOICES
        if self.beat:
            rows["beat"] = self.beat
        if self.held:
            rows["held"] = MAX_HELD + 1
        if self.echo:
            rows |= {"echo": START + 1, "echo_steps": MAX_ECHO + 1}
        self.tables = {
            name: self.add_weight(name=name, shape=(count, self.dim), initializer="uniform")
            for name, count in rows.items()
        }

    def call(self, inputs):
        total = None
        for name, table in self.tables.items():
            column = inputs[..., _COLUMN[name]]
            if name == "beat":
                column = column % self.beat
            # A product with one-hot rows: its gradient is a product too, where a lookup's would be a slow scatter.
            vector = ops.matmul(ops.one_hot(column, table.shape[0], dtype=self.compute_dtype), table)
            total = vector if total is None else total + vector
        return total

    def initial_state(self, batch):
        return ()

    def step(self, inputs, state, t):
        vectors = []
        for name, table in self.tables.items():
            column = inputs[..., _COLUMN[name]]
            vectors.append(ops.take(table, column % self.beat if name == "beat" else column, axis=0))
        return ops.sum(ops.stack(vectors), axis=0), state

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.dim)

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "notes": self.notes,
            "voice": self.voice,
            "beat": self.beat,
            "held": self.held,
            "echo": self.echo,
        }
