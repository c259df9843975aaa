"""Self-attention over the recent past, with four ways to tell how long ago."""

import math

import keras
from keras import ops

from bach.notes import NUM_VOICES

POSITIONS = ("none", "skew", "bias", "rotary")
_MINUS_INFINITY = -1e9


@keras.saving.register_keras_serializable(package="bach")
class CausalAttention(keras.layers.Layer):
    """Multi-head self-attention in which each note sees itself and the `span - 1` notes before it.

    A sequence longer than `span` is attended in blocks, each to itself and the block before, so that time and memory
    grow with `time * span` and not with `time ** 2`; the result is that of the full masked matrix.

    Args:
        heads: number of heads.
        head_dim: width of each head.
        span: how many notes a note sees, itself included; a multiple of 4.
        positions: `"skew"`, a learnt vector per head and distance, multiplied with the query (Huang et al. 2018, Music
            Transformer, section 3.4.1); `"bias"`, a learnt number per head, voice and distance, plus a learnt slope per
            head; `"rotary"`, queries and keys turned by their position (Su et al. 2021, RoFormer); `"none"`.

    Call arguments:
        inputs: `[batch, time, width]`.

    Returns:
        `[batch, time, width]`.
    """

    def __init__(self, heads: int, head_dim: int, span: int, positions: str = "none", **kwargs):
        super().__init__(**kwargs)
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got {positions!r}")
        if span < NUM_VOICES or span % NUM_VOICES:
            raise ValueError(f"span must be a positive multiple of {NUM_VOICES}, got {span}")
        if positions == "rotary" and head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, got {head_dim}")
        self.heads, self.head_dim, self.span, self.positions = heads, head_dim, span, positions

    def build(self, input_shape):
        width, inner = input_shape[-1], self.heads * self.head_dim
        glorot = keras.initializers.GlorotUniform
        self.qkv_kernel = self.add_weight(name="qkv_kernel", shape=(width, 3, inner), initializer=glorot())
        self.qkv_bias = self.add_weight(name="qkv_bias", shape=(3, inner), initializer="zeros")
        self.out_kernel = self.add_weight(name="out_kernel", shape=(inner, width), initializer=glorot())
        self.out_bias = self.add_weight(name="out_bias", shape=(width,), initializer="zeros")
        # The last axis of both tables runs from the longest distance, span - 1, down to 0.
        if self.positions == "skew":
            normal = keras.initializers.RandomNormal(stddev=0.02)
            self.table = self.add_weight(
                name="distance", shape=(self.heads, self.span, self.head_dim), initializer=normal
            )
        elif self.positions == "bias":
            self.table = self.add_weight(
                name="distance_bias", shape=(self.heads, NUM_VOICES, self.span), initializer="zeros"
            )
            slopes = [-(2.0 ** (-8 * (head + 1) / self.heads)) / NUM_VOICES for head in range(self.heads)]
            self.slope = self.add_weight(name="distance_slope", shape=(self.heads,), initializer="zeros")
            self._first_slopes = slopes

    # --- a whole sequence ---------------------------------------------------------------------------------------------

    def call(self, inputs):
        length = ops.shape(inputs)[1]
        query, key, value = self._project(inputs)
        if self.positions == "rotary":
            angles = self._angles(ops.arange(length, dtype="float32"))  # [T, d / 2]
            query, key = _turn(query, angles), _turn(key, angles)
        if isinstance(length, int) and length <= self.span:
            heard = self._attend_one_block(query, key, value, length)
        else:
            heard = self._attend_in_blocks(query, key, value, length)
        heard = ops.reshape(ops.transpose(heard, (0, 2, 1, 3)), (-1, length, self.heads * self.head_dim))
        return ops.matmul(heard, self.out_kernel) + self.out_bias

    def _project(self, inputs):
        """Queries (scaled), keys and values: three times `[B, H, T, d]`."""
        length = ops.shape(inputs)[1]
        projected = []
        for part in range(3):
            flat = ops.matmul(inputs, self.qkv_kernel[:, part]) + self.qkv_bias[part]
            split = ops.reshape(flat, (-1, length, self.heads, self.head_dim))
            projected.append(ops.transpose(split, (0, 2, 1, 3)))
        query, key, value = projected
        return query / math.sqrt(self.head_dim), key, value

    def _attend_one_block(self, query, key, value, length: int):
        logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # [B, H, T, T]
        seen = ops.arange(length)[:, None] >= ops.arange(length)[None, :]
        if self.positions in ("skew", "bias"):
            by_distance = self._by_distance(query, length, length)  # [..., T, T], column m is distance T - 1 - m
            padded = ops.pad(by_distance, [[0, 0]] * (len(by_distance.shape) - 1) + [[1, 0]])
            head = ops.shape(padded)[:-2]
            flat = ops.reshape(padded, (*head, length * (length + 1)))[..., length:]
            # What stands above the diagonal is left over from the skewing; the mask hides it.
            logits = logits + ops.where(seen, ops.reshape(flat, (*head, length, length)), _MINUS_INFINITY)
        else:
            logits = ops.where(seen, logits, _MINUS_INFINITY)
        return ops.matmul(ops.softmax(logits), value)

    def _attend_in_blocks(self, query, key, value, length):
        span = self.span
        blocks = (length + span - 1) // span
        query, key, value = (self._in_blocks(x, blocks) for x in (query, key, value))  # [B, H, N, S, d]
        key, value = (
            ops.concatenate([ops.pad(x, [[0, 0], [0, 0], [1, 0], [0, 0], [0, 0]])[:, :, :-1], x], axis=3)
            for x in (key, value)
        )  # [B, H, N, 2S, d]: the block before and this one
        logits = ops.matmul(query, ops.transpose(key, (0, 1, 2, 4, 3)))  # [B, H, N, S, 2S]
        if self.positions in ("skew", "bias"):
            by_distance = self._by_distance(query, span, span)  # [..., S, S]
            padded = ops.pad(by_distance, [[0, 0]] * (len(by_distance.shape) - 1) + [[1, span]])
            head = ops.shape(padded)[:-2]
            flat = ops.reshape(padded, (*head, span * (2 * span + 1)))[..., : 2 * span * span]
            skewed = ops.reshape(flat, (*head, span, 2 * span))
            logits = logits + (skewed if self.positions == "skew" else skewed[:, None])
        row, column = ops.arange(span)[:, None], ops.arange(2 * span)[None, :]
        within = ops.logical_and(column > row, column <= row + span)  # distance = row + span - column in 0..span-1
        exists = ops.logical_or(ops.arange(blocks)[:, None, None] > 0, column[None] >= span)  # [N, 1, 2S]
        weights = ops.softmax(ops.where(ops.logical_and(within[None], exists), logits, _MINUS_INFINITY))
        heard = ops.matmul(weights, value)  # [B, H, N, S, d]
        return ops.reshape(heard, (-1, self.heads, blocks * span, self.head_dim))[:, :, :length]

    def _in_blocks(self, x, blocks):
        padded = ops.pad(x, [[0, 0], [0, 0], [0, self.span], [0, 0]])[:, :, : blocks * self.span]
        return ops.reshape(padded, (-1, self.heads, blocks, self.span, self.head_dim))

    def _by_distance(self, query, rows: int, distances: int):
        """What each query adds for each distance: `[..., rows, distances]`, from the longest distance down to 0."""
        table = self.table[:, self.span - distances :] if self.positions == "skew" else self._biases()
        if self.positions == "skew":
            table = ops.transpose(table, (0, 2, 1))  # [H, d, distances]
            return ops.matmul(query, table if len(query.shape) == 4 else table[:, None])
        table = table[:, :, self.span - distances :]  # [H, 4, distances]
        return ops.tile(table, (1, -(-rows // NUM_VOICES), 1))[:, :rows]

    def _biases(self):
        distance = ops.arange(self.span - 1, -1, -1, dtype="float32")
        slopes = self.slope + ops.convert_to_tensor(self._first_slopes, dtype="float32")
        return self.table + slopes[:, None, None] * distance

    def _angles(self, positions):
        rates = 10000.0 ** (-ops.arange(0, self.head_dim, 2, dtype="float32") / self.head_dim)
        return positions[..., None] * rates

    # --- one note at a time -------------------------------------------------------------------------------------------

    def initial_state(self, batch):
        shape = (batch, self.heads, self.span, self.head_dim)
        return ops.zeros(shape, dtype=self.compute_dtype), ops.zeros(shape, dtype=self.compute_dtype)

    def step(self, inputs, state, t):
        query, key, value = (x[:, :, 0] for x in self._project(inputs[:, None]))  # [B, H, d]
        if self.positions == "rotary":
            angles = self._angles(ops.cast(t, "float32"))
            query, key = _turn(query, angles), _turn(key, angles)
        slot = t % self.span
        keys = ops.slice_update(state[0], (0, 0, slot, 0), key[:, :, None])
        values = ops.slice_update(state[1], (0, 0, slot, 0), value[:, :, None])
        logits = ops.einsum("bhd,bhsd->bhs", query, keys)
        distance = (t - ops.arange(self.span)) % self.span
        if self.positions == "skew":
            by_distance = ops.einsum("bhd,hsd->bhs", query, self.table)
            logits = logits + ops.take(by_distance, self.span - 1 - distance, axis=-1)
        elif self.positions == "bias":
            by_distance = ops.take(self._biases(), t % NUM_VOICES, axis=1)  # [H, S]
            logits = logits + ops.take(by_distance, self.span - 1 - distance, axis=-1)
        weights = ops.softmax(ops.where(distance <= t, logits, _MINUS_INFINITY))
        heard = ops.reshape(ops.einsum("bhs,bhsd->bhd", weights, values), (-1, self.heads * self.head_dim))
        return ops.matmul(heard, self.out_kernel) + self.out_bias, (keys, values)

    def fill(self, inputs):
        """Returns the state that the first `[batch, time, width]` notes leave, `time` at most `span`."""
        _, key, value = self._project(inputs)
        length = inputs.shape[1]
        if self.positions == "rotary":
            key = _turn(key, self._angles(ops.arange(length, dtype="float32")))
        rest = [[0, 0], [0, 0], [0, self.span - length], [0, 0]]
        return ops.pad(key, rest), ops.pad(value, rest)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"heads": self.heads, "head_dim": self.head_dim, "span": self.span, "positions": self.positions}
        return {**super().get_config(), **config}


def _turn(x, angles):
    """Turns each pair of neighbouring halves of the last axis by `angles`."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    return ops.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
